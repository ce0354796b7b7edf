package router

import (
	"bytes"
	"net"
)

// phraseListener gives status 413 the reason phrase that the original's clients know; net/http has an older one.
type phraseListener struct{ net.Listener }

func (l phraseListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return phraseConn{conn}, nil
}

type phraseConn struct{ net.Conn }

var oldPhrase, newPhrase = []byte("HTTP/1.1 413 Request Entity Too Large\r\n"), []byte("HTTP/1.1 413 Payload Too Large\r\n")

func (c phraseConn) Write(p []byte) (int, error) {
	rest, found := bytes.CutPrefix(p, oldPhrase)
	if !found {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(append(append([]byte(nil), newPhrase...), rest...))
	return min(max(n+len(oldPhrase)-len(newPhrase), 0), len(p)), err
}

package membership

import (
	"errors"
	stdlog "log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxStreams bounds the streams of others that are open at once, and maxStreamsOfAddress those of one address; more are
	// closed at once. A stream lasts milliseconds, and memberlist ends it after 10 s.
	maxStreams          = 32
	maxStreamsOfAddress = 8
	// maxStreamBytes bounds what is read of a stream: all that a member knows of about a thousand others. memberlist itself
	// takes 20 MiB from anybody before it looks whether he has the key.
	maxStreamBytes = 1 << 20
)

var errStreamTooLong = errors.New("membership: a stream is too long")

// transport is memberlist's with bounds on what strangers can make it hold.
type transport struct {
	*memberlist.NetTransport
	streams chan net.Conn
	stop    chan struct{}
	done    sync.WaitGroup

	mutex sync.Mutex // guards all below
	open  int
	of    map[string]int // by address
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(host string, port int, logger *stdlog.Logger) (*transport, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: logger})
	if err != nil {
		return nil, err
	}
	t := &transport{NetTransport: inner, streams: make(chan net.Conn), stop: make(chan struct{}), of: map[string]int{}}
	t.done.Go(t.admit)
	return t, nil
}

// admit passes streams on while there is room for them.
func (t *transport) admit() {
	for {
		select {
		case conn := <-t.NetTransport.StreamCh():
			s := t.enter(conn)
			if s == nil {
				conn.Close()
				continue
			}
			select {
			case t.streams <- s:
			case <-t.stop:
				s.Close()
				return
			}
		case <-t.stop:
			return
		}
	}
}

func (t *transport) enter(conn net.Conn) *stream {
	address, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.open >= maxStreams || t.of[address] >= maxStreamsOfAddress {
		return nil
	}
	t.open++
	t.of[address]++
	return &stream{Conn: conn, left: maxStreamBytes, closed: func() { t.leave(address) }}
}

func (t *transport) leave(address string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.open--
	if t.of[address]--; t.of[address] == 0 {
		delete(t.of, address)
	}
}

// StreamCh has the streams of others.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialAddressTimeout opens a stream of ours, whose answer has the same bound.
func (t *transport) DialAddressTimeout(address memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := t.NetTransport.DialAddressTimeout(address, timeout)
	if err != nil {
		return nil, err
	}
	return &stream{Conn: conn, left: maxStreamBytes, closed: func() {}}, nil
}

// Shutdown stops listening.
func (t *transport) Shutdown() error {
	close(t.stop)
	t.done.Wait()
	return t.NetTransport.Shutdown()
}

// stream is a connection of which so many bytes are read at most.
type stream struct {
	net.Conn
	left   int
	once   sync.Once
	closed func()
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errStreamTooLong
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

func (s *stream) Close() error {
	s.once.Do(s.closed)
	return s.Conn.Close()
}

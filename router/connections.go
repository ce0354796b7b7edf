package router

import (
	"container/list"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"lockstep/router/api/wire"
)

// clientGrace is how long a connection is spared, when a place is needed, that has sent no request yet or sends a body.
const clientGrace = 2 * time.Second

// connections are those of a door, of which there are never more than most, and never more than ofAddress from one
// client address (an IPv6 address counts by its first 64 bits). When all places are taken a newcomer gets that of a
// connection that waits for its client: the oldest that never sent a request, else the longest idle one, else that whose body
// has been coming for longest, else that whose client has read nothing for longest. While there is no such connection a
// newcomer waits; one whose address has too many is closed.
type connections struct {
	net.Listener
	most, ofAddress int
	grace           time.Duration // clientGrace; tests change it
	plain           bool          // no TLS is spoken

	mu        sync.Mutex // guards all below
	all       map[*connection]struct{}
	from      map[netip.Addr]int
	silent    list.List // of *connection that have sent no request yet, the oldest first
	idle      list.List // of *connection between two requests, the longest first
	receiving list.List // of *connection over which a body comes, the longest first
	room      chan struct{}
	closed    chan struct{}
	closing   sync.Once
}

func newConnections(listener net.Listener, most int, plain bool) *connections {
	return &connections{Listener: listener, most: most, ofAddress: max(most/2, 1), grace: clientGrace, plain: plain,
		all: map[*connection]struct{}{}, from: map[netip.Addr]int{}, room: make(chan struct{}, 1), closed: make(chan struct{})}
}

// connection is one of them. Its owner's mutex guards all but begun and writing.
type connection struct {
	net.Conn
	owner   *connections
	address netip.Addr
	since   time.Time     // when it came into its list
	list    *list.List    // nil while a request is worked on
	element *list.Element // its place there
	gone    bool
	begun   bool         // something was read; for the reader alone
	writing atomic.Int64 // when the write began that is under way, in Unix nanoseconds; 0: none is
	trying  trying
}

// trying is what Try needs beside the connection, kept so that it takes no memory for each.
type trying struct {
	socket  syscall.RawConn // nil: it cannot be tried
	once    func(descriptor uintptr) bool
	piece   []byte
	written int
}

// Accept returns the next connection that has a place.
func (cs *connections) Accept() (net.Conn, error) {
	for {
		conn, err := cs.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: conn, owner: cs, address: clientAddress(conn)}
		if socket, ok := conn.(syscall.Conn); ok {
			c.trying.socket, _ = socket.SyscallConn()
			c.trying.once = c.tryOnce
		}
		if cs.place(c) {
			return c, nil
		}
		conn.Close()
	}
}

// place waits until a newcomer has a place; false: it gets none.
func (cs *connections) place(c *connection) bool {
	for {
		evicted, admitted, wait := cs.admit(c)
		if evicted != nil {
			evicted.Conn.Close()
		}
		if !wait {
			return admitted
		}
		select {
		case <-cs.room:
		case <-time.After(clientGrace): // somebody may be late now
		case <-cs.closed:
			return false
		}
	}
}

// admit gives a newcomer a place, that of the evicted one if all are taken. Without one, wait tells whether there can be one
// later.
func (cs *connections) admit(c *connection) (evicted *connection, admitted, wait bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	switch {
	case cs.from[c.address] >= cs.ofAddress:
		if evicted = cs.longestWaiting(func(other *connection) bool { return other.address == c.address }); evicted == nil {
			return nil, false, false
		}
	case len(cs.all) >= cs.most:
		if evicted = cs.longestWaiting(func(*connection) bool { return true }); evicted == nil {
			return nil, false, true
		}
	}
	if evicted != nil {
		cs.remove(evicted)
	}
	cs.all[c] = struct{}{}
	cs.from[c.address]++
	c.enter(&cs.silent)
	return evicted, true, false
}

// longestWaiting finds the connection that can best be missed, nil if there is none.
func (cs *connections) longestWaiting(eligible func(*connection) bool) *connection {
	first := func(l *list.List) *connection {
		for e := l.Front(); e != nil; e = e.Next() {
			if c := e.Value.(*connection); eligible(c) {
				return c
			}
		}
		return nil
	}
	silent, idle, receiving := first(&cs.silent), first(&cs.idle), first(&cs.receiving)
	late := func(c *connection) bool { return c != nil && time.Since(c.since) >= cs.grace }
	switch {
	case late(silent):
		return silent
	case idle != nil:
		return idle
	case late(receiving):
		return receiving
	}
	if stuck := cs.stuck(eligible); stuck != nil {
		return stuck
	}
	return silent
}

// stuck finds the connection whose client has read nothing for longest, and for longer than clients are spared.
func (cs *connections) stuck(eligible func(*connection) bool) (stuck *connection) {
	oldest := time.Now().Add(-cs.grace).UnixNano()
	for c := range cs.all {
		if began := c.writing.Load(); began != 0 && began < oldest && eligible(c) {
			stuck, oldest = c, began
		}
	}
	return stuck
}

// Write notes how long it takes.
func (c *connection) Write(p []byte) (int, error) {
	c.writing.Store(time.Now().UnixNano())
	defer c.writing.Store(0)
	return c.Conn.Write(p)
}

// Tries tells whether Try can be used.
func (c *connection) Tries() bool { return c.trying.socket != nil }

// Try writes as much as the socket takes at once. It knows no error: the next Write finds it.
func (c *connection) Try(p []byte) int {
	c.trying.piece, c.trying.written = p, 0
	c.trying.socket.Write(c.trying.once)
	return c.trying.written
}

func (c *connection) tryOnce(descriptor uintptr) bool {
	n, _ := syscall.Write(int(descriptor), c.trying.piece)
	c.trying.written = max(n, 0)
	return true
}

// note is for http.Server.ConnState: it keeps the lists. A connection is active once the head of a request is complete.
func (cs *connections) note(conn net.Conn, state http.ConnState) {
	c := beneath(conn)
	if c == nil {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	switch {
	case c.gone:
	case state == http.StateActive:
		c.leave()
	case state == http.StateIdle:
		c.leave()
		c.enter(&cs.idle)
		cs.signal() // a newcomer that waits can have its place
	}
}

// beneath finds the connection under one of net/http's, nil if there is none.
func beneath(conn net.Conn) *connection {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	c, _ := conn.(*connection)
	return c
}

// withConnection is for http.Server.ConnContext.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	switch c := beneath(conn); {
	case c == nil:
		return ctx
	case net.Conn(c) == conn:
		return context.WithValue(ctx, wire.ConnectionKey{}, wire.Connection(c))
	default:
		return context.WithValue(ctx, wire.ConnectionKey{}, wire.Connection(secured{c, conn}))
	}
}

// secured is a connection over which TLS is spoken, as requests see it.
type secured struct {
	*connection
	over net.Conn
}

func (s secured) Write(p []byte) (int, error) { return s.over.Write(p) }
func (s secured) Tries() bool                 { return false }

// Receiving notes that a body begins to come, or comes no more.
func (c *connection) Receiving(body bool) {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	c.leave()
	if body && !c.gone {
		c.enter(&c.owner.receiving)
		c.owner.signal()
	}
}

func (c *connection) enter(l *list.List) {
	c.since, c.list, c.element = time.Now(), l, l.PushBack(c)
}

func (c *connection) leave() {
	if c.list != nil {
		c.list.Remove(c.element)
		c.list, c.element = nil, nil
	}
}

// remove forgets a connection. The mutex is held.
func (cs *connections) remove(c *connection) {
	if c.gone {
		return
	}
	c.gone = true
	c.leave()
	delete(cs.all, c)
	if cs.from[c.address]--; cs.from[c.address] == 0 {
		delete(cs.from, c.address)
	}
	cs.signal()
}

func (cs *connections) signal() {
	select {
	case cs.room <- struct{}{}:
	default:
	}
}

// Close ends the accepting.
func (cs *connections) Close() error {
	cs.closing.Do(func() { close(cs.closed) })
	return cs.Listener.Close()
}

// Close gives the place back.
func (c *connection) Close() error {
	c.owner.mu.Lock()
	c.owner.remove(c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// notHTTP answers a client that speaks something else, TLS most likely: OpenAI's SDKs, curl and browsers that were given https://
// for a plain port. Their handshake fails at once, with an error that says that no TLS is spoken here.
const notHTTP = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"This port speaks plain HTTP: use http:// in place of https://, or give the server --tls-cert and --tls-key.\n"

// Read refuses at once what cannot become a request: net/http would wait for the end of its first line, which a client that
// speaks TLS never sends. Nothing else is read or written below net/http.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.begun || n == 0 || !c.owner.plain {
		return n, err
	}
	c.begun = true
	if first := p[0]; first < ' ' && first != '\r' && first != '\n' || first >= 0x7f {
		c.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		io.WriteString(c.Conn, notHTTP)
		return 0, io.EOF
	}
	return n, nil
}

// CloseWrite lets net/http end its answer before the connection, which a client that still sends would not see otherwise.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// clientAddress is by what a client is counted.
func clientAddress(conn net.Conn) netip.Addr {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return wire.Client(remote.AddrPort().Addr())
}

package router

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"lockstep/router/api"
	"lockstep/router/secure"
)

const (
	// readHeaderTimeout bounds how long a client may take for the head of a request, and its handshake.
	readHeaderTimeout = 30 * time.Second
	// idleTimeout bounds how long a connection is kept between two requests.
	idleTimeout = 10 * time.Minute
	// maxHeaderBytes bounds the head of a request; a longer one is answered 431.
	maxHeaderBytes = 64 << 10
)

// door is an address at which the router is served.
type door struct {
	listener *connections
	server   *http.Server
	dialect  string
	security *secure.Server // nil: plain
}

// doors are all of a router; the first is the main one.
type doors []*door

// openDoors listens at all addresses. What it returns must be closed, also with an error.
func openDoors(c *Config) (doors, error) {
	wanted := append([]Listener{{Dialect: c.Dialect, Address: net.JoinHostPort(c.Hostname, strconv.Itoa(c.Port)), TLS: c.TLS}},
		c.Listeners...)
	var opened doors
	for _, l := range wanted {
		d := &door{dialect: l.Dialect}
		var err error
		if l.TLS != nil {
			if d.security, err = secure.Open(*l.TLS); err != nil {
				return opened, err
			}
		}
		listener, err := net.Listen("tcp", l.Address)
		if err != nil {
			return opened, err
		}
		d.listener = newConnections(listener, c.MaxConnections, d.security == nil)
		opened = append(opened, d)
	}
	return opened, nil
}

func (ds doors) close() {
	for _, d := range ds {
		d.listener.Close()
	}
}

// furnish gives each door its server.
func (ds doors) furnish(handler *api.Server, log zerolog.Logger) {
	for _, d := range ds {
		d.server = &http.Server{Handler: handler.Handler(d.dialect), ConnState: d.listener.note, ConnContext: withConnection,
			ReadHeaderTimeout: readHeaderTimeout,
			IdleTimeout:       idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: stdlog.New(clientTrouble{log}, "", 0)}
	}
}

// clientTrouble takes what net/http says of single connections, such as handshakes that fail: detail, since any client can
// make it say so.
type clientTrouble struct{ log zerolog.Logger }

func (c clientTrouble) Write(line []byte) (int, error) {
	level := zerolog.DebugLevel
	if bytes.Contains(line, []byte("panic serving")) { // that is ours
		level = zerolog.ErrorLevel
	}
	c.log.WithLevel(level).Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}

// serve serves all doors until they are shut or one fails, whose error is returned.
func (ds doors) serve(log zerolog.Logger) error {
	ctx, cancel := context.WithCancel(context.Background())
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	done := make(chan error, len(ds))
	for _, d := range ds {
		var listener net.Listener = d.listener
		if d.security != nil {
			listener = tls.NewListener(d.listener, d.security.Config())
			watchers.Go(func() { d.security.Watch(ctx, log) })
		}
		go func() { done <- d.server.Serve(listener) }()
	}
	var first error
	for range ds {
		err := <-done
		if first == nil {
			first = err
		}
		if !errors.Is(err, http.ErrServerClosed) {
			for _, d := range ds {
				d.server.Close()
			}
		}
	}
	return first
}

// shut stops accepting and waits for the requests in flight until ctx ends.
func (ds doors) shut(ctx context.Context) error {
	errs := make([]error, len(ds))
	var all sync.WaitGroup
	for i, d := range ds {
		all.Go(func() { errs[i] = d.server.Shutdown(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// cut ends all connections at once.
func (ds doors) cut() {
	for _, d := range ds {
		d.server.Close()
	}
}

// url is where clients reach a door.
func (d *door) url() string {
	scheme := "http"
	if d.security != nil {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s", scheme, reachable(d.listener.Addr()))
}

// reachable turns a listening address into one that a client can use.
func reachable(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

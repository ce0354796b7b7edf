// Package bus connects routers and groups to NATS.
package bus

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
)

const (
	// reconnectWait lies between two tries to reach one server.
	reconnectWait = 100 * time.Millisecond
	// A server that does not answer pingsOutstanding pings is left for another.
	pingInterval     = 2 * time.Second
	pingsOutstanding = 2
)

// Config of a connection.
type Config struct {
	Name     string // for the servers' operators
	URLs     []string
	Identity protocol.Identity
	Node     string // whose process this is, for the text of a refusal
	// BufferBytes bounds what is published while no server can be reached; then publishing fails. 0: the library's 8 MiB.
	BufferBytes int
	// Refused gets what ended the connection for good: the servers let this process in no more. It must have room for it.
	Refused chan<- error
	// Complain is told of trouble that passes, on a goroutine of the connection's.
	Complain func(what string, err error)
}

// Connect returns a connection that comes back for ever, unless the servers refuse it. There may be none yet.
func Connect(c Config) (*nats.Conn, error) {
	options := []nats.Option{nats.Name(c.Name), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsOutstanding),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.Complain("NATS", err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.Complain("NATS is away", err)
			}
		}),
		nats.ClosedHandler(func(conn *nats.Conn) { // by Close, or since the servers refuse it again and again
			if err := conn.LastError(); errors.Is(err, nats.ErrAuthorization) {
				select {
				case c.Refused <- fmt.Errorf("%s: %w", c.Identity.RefusedByNATS(c.Node), err):
				default:
				}
			}
		})}
	if c.BufferBytes > 0 {
		options = append(options, nats.ReconnectBufSize(c.BufferBytes))
	}
	if c.Identity.NKey != "" {
		options = append(options, nats.Nkey(c.Identity.NKey, c.Identity.Sign))
	}
	conn, err := nats.Connect(strings.Join(c.URLs, ","), options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}

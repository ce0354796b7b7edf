package broker

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"lockstep/protocol/repeat"
)

// varying is what differs between two warnings that say the same: ports of connections, their numbers, attempts, and what
// clients have made up, such as subjects.
var varying = regexp.MustCompile(`:\d+|attempt \d+|"[^"]*"`)

// natsLog passes the server's log on, one level lower: what it notices is detail here. The server warns of a dead peer at
// every attempt to reach it, several times a second; that is said once, and then at growing intervals with its count.
type natsLog struct {
	log     zerolog.Logger
	repeats repeat.Filter
}

var _ server.Logger = (*natsLog)(nil)

func newNATSLog(log zerolog.Logger) *natsLog {
	return &natsLog{log: log.With().Str("part", "nats").Logger()}
}

func (n *natsLog) Errorf(format string, v ...any) {
	message := strings.TrimSpace(fmt.Sprintf(format, v...))
	if strings.Contains(message, "Problem registering with account") { // the connection has ended meanwhile, and will come again
		n.at(zerolog.DebugLevel, format, v)
		return
	}
	held, say := n.repeats.Due(varying.ReplaceAllString(message, ""), time.Now())
	if !say {
		n.at(zerolog.DebugLevel, format, v)
		return
	}
	entry := n.log.Warn()
	if held > 0 {
		entry.Int("held_back", held)
	}
	entry.Msg(message)
}

func (n *natsLog) at(level zerolog.Level, format string, v []any) {
	if n.log.GetLevel() <= level {
		n.log.WithLevel(level).Msg(fmt.Sprintf(format, v...))
	}
}

func (n *natsLog) Noticef(format string, v ...any) { n.at(zerolog.DebugLevel, format, v) }
func (n *natsLog) Warnf(format string, v ...any)   { n.at(zerolog.DebugLevel, format, v) }
func (n *natsLog) Fatalf(format string, v ...any)  { n.at(zerolog.ErrorLevel, format, v) }
func (n *natsLog) Debugf(format string, v ...any)  { n.at(zerolog.TraceLevel, format, v) }
func (n *natsLog) Tracef(format string, v ...any)  { n.at(zerolog.TraceLevel, format, v) }

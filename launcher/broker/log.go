package broker

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

const (
	// firstPause is how long a warning that comes again is held back; the pause doubles up to maxPause.
	firstPause = time.Minute
	maxPause   = time.Hour
	// maxRepeats bounds the warnings that are remembered; when there are more, all may be said again.
	maxRepeats = 256
)

// varying is what differs between two warnings that say the same: ports of connections, their numbers, attempts.
var varying = regexp.MustCompile(`:\d+|attempt \d+`)

// natsLog passes the server's log on, one level lower: what it notices is detail here. The server warns of a dead peer at
// every attempt to reach it, several times a second; that is said once, and then at growing intervals with its count.
type natsLog struct {
	log zerolog.Logger
	now func() time.Time

	mutex   sync.Mutex
	repeats map[string]*repeat
}

// repeat is a warning that may come again.
type repeat struct {
	held  int // how often it came since it was last said
	pause time.Duration
	until time.Time
}

var _ server.Logger = (*natsLog)(nil)

func newNATSLog(log zerolog.Logger) *natsLog {
	return &natsLog{log: log.With().Str("part", "nats").Logger(), now: time.Now, repeats: map[string]*repeat{}}
}

// due reports whether a warning is to be said now, and how often it was held back before.
func (n *natsLog) due(message string) (held int, say bool) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	now, key := n.now(), varying.ReplaceAllString(message, "")
	r := n.repeats[key]
	if r == nil || now.Sub(r.until) > maxPause {
		if len(n.repeats) >= maxRepeats {
			clear(n.repeats)
		}
		n.repeats[key] = &repeat{pause: firstPause, until: now.Add(firstPause)}
		return 0, true
	}
	if now.Before(r.until) {
		r.held++
		return 0, false
	}
	held, r.held = r.held, 0
	r.pause = min(2*r.pause, maxPause)
	r.until = now.Add(r.pause)
	return held, true
}

func (n *natsLog) Errorf(format string, v ...any) {
	message := strings.TrimSpace(fmt.Sprintf(format, v...))
	held, say := n.due(message)
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

// Package repeat holds back what a log has said already: what comes again and again is said once, and then at growing
// intervals with a count. Whoever can make a server speak, a dead peer or a hostile one, can then not fill its log.
package repeat

import (
	"sync"
	"time"
)

const (
	// FirstPause is how long what comes again is held back; the pause doubles up to MaxPause.
	FirstPause = time.Minute
	MaxPause   = time.Hour
	// MaxKeys bounds what is remembered; when there is more, all may be said again, but no sooner than overflowPause after
	// that happened the last time.
	MaxKeys       = 256
	overflowPause = 10 * time.Second
)

// Filter remembers what was said, by keys. The zero Filter has said nothing. It is safe for concurrent use.
type Filter struct {
	mutex   sync.Mutex
	said    map[string]*entry
	cleared time.Time
}

type entry struct {
	held  int // how often it came since it was last said
	pause time.Duration
	until time.Time
}

// Due reports whether to say something now, and how often it was held back since it was last said.
func (f *Filter) Due(key string, now time.Time) (held int, say bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	e := f.said[key]
	switch {
	case e == nil || now.Sub(e.until) > MaxPause:
		return 0, f.first(key, now)
	case now.Before(e.until):
		e.held++
		return 0, false
	}
	held, e.held = e.held, 0
	e.pause = min(2*e.pause, MaxPause)
	e.until = now.Add(e.pause)
	return held, true
}

// first makes an entry, if there is room for one.
func (f *Filter) first(key string, now time.Time) bool {
	if f.said[key] == nil && len(f.said) >= MaxKeys {
		if now.Sub(f.cleared) < overflowPause {
			return false
		}
		clear(f.said)
		f.cleared = now
	}
	if f.said == nil {
		f.said = map[string]*entry{}
	}
	f.said[key] = &entry{pause: FirstPause, until: now.Add(FirstPause)}
	return true
}

package supervise

import "time"

// How a unit that dies is started again.
const (
	// FirstBackoff is the pause before the second restart of a row; the first restart comes at once. It doubles each time.
	FirstBackoff = 100 * time.Millisecond
	// MaxBackoff bounds the pause.
	MaxBackoff = 5 * time.Second
	// Window is the time in which deaths are counted; a unit that lives longer than it starts afresh.
	Window = time.Minute
	// MaxDeaths within Window end the supervision: what dies so often will not be cured by one more start.
	MaxDeaths = 5
)

// restarts remembers the deaths of one unit, at most MaxDeaths of them.
type restarts struct {
	deaths []time.Time
	row    int // deaths since the unit last lived for Window
}

// died records a death and says how long to wait before the next start, or that there shall be none.
func (r *restarts) died(now time.Time) (pause time.Duration, giveUp bool) {
	if n := len(r.deaths); n > 0 && now.Sub(r.deaths[n-1]) > Window {
		r.row = 0
	}
	r.row++
	r.deaths = append(r.deaths, now)
	for now.Sub(r.deaths[0]) > Window {
		r.deaths = r.deaths[1:]
	}
	if len(r.deaths) >= MaxDeaths {
		return 0, true
	}
	if r.row == 1 {
		return 0, false
	}
	pause = FirstBackoff
	for range r.row - 2 {
		pause = min(2*pause, MaxBackoff)
	}
	return pause, false
}

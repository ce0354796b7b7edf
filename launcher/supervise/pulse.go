package supervise

import "time"

// How a rank that has stopped moving is told from one that is slow.
const (
	// LookInterval lies between two looks at the beats of a unit's processes.
	LookInterval = 100 * time.Millisecond
	// maxLook is how much of the time between two looks counts: in a longer one it was the observer who was absent.
	maxLook = 3 * LookInterval
	// maxStall is how long a process must stand still at the most to be given up.
	maxStall = time.Minute
	// stallFactor is how many times its pace a process must stand still.
	stallFactor = 6
	// paceTime is for how long the pauses of a serving unit are remembered, at least; twice that at most.
	paceTime = time.Minute
)

// minStalls is how long a process must stand still at the least to be given up, by how many were within the last Window.
// When what looks like stalls comes of a machine that is too busy, restarts make it worse.
var minStalls = [...]time.Duration{time.Second, time.Second, time.Second, 3 * time.Second, 6 * time.Second, 15 * time.Second, maxStall}

// pace is the longest pauses of a time, the longest first. The last of them counts: what is slow pauses often, and a pause or
// two of another cause, such as a busy machine's, must not make a process that hangs look slow.
type pace [3]time.Duration

func (p *pace) add(pause time.Duration) {
	for i := range p {
		if pause > p[i] {
			pause, p[i] = p[i], pause
		}
	}
}

func (p *pace) value() time.Duration { return p[len(p)-1] }

// Pulse finds the process of a unit that stands still. Processes count their beats; how long one may pause follows from
// how long they have paused again and again while they moved: before they served, when they computed their first steps, and
// lately. It is a core like Unit.
type Pulse struct {
	least  time.Duration
	last   []uint32
	still  []time.Duration // for how long each beat has stood still
	looked time.Time
	served bool // pauses are lately's, no longer those before

	largest        pace        // before the unit served, of all incarnations
	recent, former pace        // of this stretch of paceTime, and of the one before
	turned         time.Time   // when this stretch began
	stalls         []time.Time // within Window
}

// NewPulse makes a pulse of size processes, which are given up no sooner than after least.
func NewPulse(size int, least time.Duration) *Pulse {
	return &Pulse{least: least, last: make([]uint32, size), still: make([]time.Duration, size)}
}

// Restart forgets the beats of an incarnation that is gone. What is known of the pace stays.
func (p *Pulse) Restart() {
	clear(p.last)
	clear(p.still)
	p.looked, p.served = time.Time{}, false
}

// Serving says that the processes have computed their first steps and serve from now on.
func (p *Pulse) Serving() { p.served = true }

// Limit is how long a process may stand still now.
func (p *Pulse) Limit(now time.Time) time.Duration {
	stalls := 0
	for _, at := range p.stalls {
		if now.Sub(at) < Window {
			stalls++
		}
	}
	least := max(p.least, minStalls[min(stalls, len(minStalls)-1)])
	return min(max(least, stallFactor*max(p.largest.value(), p.recent.value(), p.former.value())), maxStall)
}

// Look takes in the beats of all processes, 0 of one that has not begun. It returns the one that has stood still for
// longer than it may, for how long, and whether there is one; a unit that does not serve yet only shows its pace.
func (p *Pulse) Look(now time.Time, beats []uint32) (rank int, still time.Duration, found bool) {
	passed := min(now.Sub(p.looked), maxLook)
	if p.looked.IsZero() {
		passed = 0
	}
	p.looked = now
	if now.Sub(p.turned) > paceTime {
		p.recent, p.former, p.turned = pace{}, p.recent, now
	}
	limit := p.Limit(now)
	for i, beat := range beats {
		if beat != p.last[i] || beat == 0 {
			p.paused(p.still[i])
			p.last[i], p.still[i] = beat, 0
			continue
		}
		if p.still[i] += passed; p.still[i] > limit && p.still[i] > still && p.served {
			rank, still, found = i, p.still[i], true
		}
	}
	if found {
		p.stalls = append(p.stalls, now)
		for now.Sub(p.stalls[0]) >= Window {
			p.stalls = p.stalls[1:]
		}
	}
	return rank, still, found
}

// paused takes in a pause that has ended.
func (p *Pulse) paused(pause time.Duration) {
	if p.served {
		p.recent.add(pause)
	} else {
		p.largest.add(pause)
	}
}

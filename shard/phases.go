package shard

import "time"

// The phases of a start, as Status has them.
const (
	PhaseReading = "reading the files"
	PhasePacking = "packing the weights"
	PhaseMemory  = "taking memory"
	PhaseWarmUp  = "computing the first steps"
)

// enter begins a phase of the start, and ends the one before: rank 0 logs how long that took. An empty one begins none.
func (r *rank) enter(phase string) {
	now := time.Now()
	if r.phase != "" && r.config.Rank == 0 {
		r.log.Info().Str("phase", r.phase).Dur("took_ms", now.Sub(r.entered)).Msg("done")
	}
	r.phase, r.entered = phase, now
	r.advance(0)
}

// advance tells the launcher how much of the present phase is done, from 0 to 1.
func (r *rank) advance(done float64) {
	if r.phase != "" {
		r.status(Status{Phase: r.phase, Progress: done})
	}
}

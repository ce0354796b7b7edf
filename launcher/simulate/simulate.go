// Package simulate runs a trace of requests through the server's own queue, ledger, choice of group, step scheduler and
// block table, in virtual time: only the steps' durations are modelled. It is a pure function of its options.
package simulate

import (
	"errors"
	"fmt"
	"math"

	"lockstep/protocol"
	"lockstep/router/admission"
	"lockstep/shard/schedule"
	"lockstep/shard/sim"
)

// Options of a simulation.
type Options struct {
	Requests []Request
	// Groups is how many shard groups there are; each has the sizes below.
	Groups         int
	CapacityTokens int
	BlockTokens    int
	PrefillTokens  int
	MaxSequences   int
	PrefixCache    bool
	StepModel      sim.StepModel
	// MaxNewTokens is what clients ask for; requests end after the trace's output. 0: clients know the output exactly.
	MaxNewTokens int
	Admission    admission.Config
	// Clients, when not 0, is a closed loop: so many clients send the requests one after another, each its next one when
	// its last one has ended; the trace's time does not count.
	Clients int
	// QueueTimeout is how many seconds a request waits at most before it is refused; 0: for ever.
	QueueTimeout float64
}

// Validate refuses what cannot be simulated.
func (o *Options) Validate() error {
	switch {
	case len(o.Requests) == 0:
		return errors.New("no requests")
	case o.Groups < 1 || o.BlockTokens < 1 || o.PrefillTokens < 1 || o.MaxSequences < 1 || o.MaxNewTokens < 0 || o.QueueTimeout < 0:
		return errors.New("groups, block tokens, prefill tokens and sequences must be at least 1, limits not negative")
	case o.CapacityTokens < o.BlockTokens:
		return fmt.Errorf("a capacity of %d tokens is less than a block", o.CapacityTokens)
	}
	return nil
}

const (
	kind = "model"
	// nanosecond is the unit of the admission core's clock.
	nanosecond = 1e-9
	// reportInterval lies between two samples of the load, in seconds.
	reportInterval = 0.1
)

// run is one simulation under way.
type run struct {
	Options
	core    *admission.Core
	groups  []*group
	byName  map[string]*group
	live    []live // by request
	now     float64
	sampled float64 // when the load was last sampled
	result  *Result
}

// live is the state of one request.
type live struct {
	group     *group
	arrival   float64
	produced  int
	last      float64 // moment of the last token
	longest   float64 // gap between two tokens
	firstStep float64 // moment of the first token
}

// group is a simulated shard group.
type group struct {
	name      string
	scheduler *schedule.Scheduler
	inbox     []int // requests that came during the step
	plan      []schedule.Work
	busy      bool
	end       float64       // of the step
	cost      schedule.Cost // of the step
}

// Run simulates until every request has ended or was refused.
func Run(options Options) (*Result, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options.Admission.QueueLimit = len(options.Requests)
	core, err := admission.New(options.Admission)
	if err != nil {
		return nil, err
	}
	r := &run{Options: options, core: core, byName: map[string]*group{}, live: make([]live, len(options.Requests)),
		result: newResult(options)}
	limits := protocol.Limits{MaxSequenceTokens: options.CapacityTokens,
		CapacityTokens: options.CapacityTokens / options.BlockTokens * options.BlockTokens,
		BlockTokens:    options.BlockTokens, MaxSequences: options.MaxSequences, MaxRequests: 8 * options.MaxSequences,
		PrefillTokens: options.PrefillTokens}
	for i := range options.Groups {
		g := &group{name: fmt.Sprintf("group-%04d", i), scheduler: schedule.New(schedule.Limits{BlockTokens: options.BlockTokens,
			Blocks: options.CapacityTokens / options.BlockTokens, PrefillTokens: options.PrefillTokens,
			MaxSequences: options.MaxSequences})}
		r.groups, r.byName[g.name] = append(r.groups, g), g
		core.SetGroup(g.name, admission.Group{Kind: kind, Limits: limits})
	}
	if err := r.loop(); err != nil {
		return nil, err
	}
	return r.result, r.finish()
}

// loop handles arrivals and ends of steps in the order of time.
func (r *run) loop() error {
	next := 0
	for {
		moment, ending := math.Inf(1), (*group)(nil)
		if next < len(r.Requests) {
			moment = r.arrival(next)
		}
		for _, g := range r.groups {
			if g.busy && g.end <= moment {
				moment, ending = g.end, g
			}
		}
		if math.IsInf(moment, 1) {
			return nil
		}
		r.now = max(r.now, moment)
		if ending != nil {
			r.endStep(ending)
		} else {
			if err := r.arrive(next); err != nil {
				return err
			}
			next++
		}
		r.admit()
		r.sample()
		for _, g := range r.groups {
			if !g.busy && (g == ending || len(g.inbox) > 0) {
				r.beginStep(g)
			}
		}
	}
}

// arrival is when the next request comes.
func (r *run) arrival(index int) float64 {
	switch {
	case r.Clients == 0:
		return r.Requests[index].Arrival
	case index-r.result.Completed-r.result.Refused < r.Clients:
		return r.now
	}
	return math.Inf(1)
}

// arrive puts a request into the queue.
func (r *run) arrive(index int) error {
	request := &r.Requests[index]
	r.live[index].arrival = r.now
	wanted := request.OutputTokens
	if r.MaxNewTokens > 0 {
		wanted = max(r.MaxNewTokens, wanted)
	}
	room := r.CapacityTokens/r.BlockTokens*r.BlockTokens - request.PromptTokens
	if room < request.OutputTokens {
		r.result.Refused++ // no group could ever hold it
		return nil
	}
	item := admission.Item{ID: uint64(index + 1), Kind: kind, PromptTokens: request.PromptTokens, MaxNewTokens: min(wanted, room),
		Keys: r.keys(request)}
	if r.QueueTimeout > 0 {
		item.Deadline = int64((r.now + r.QueueTimeout) / nanosecond)
	}
	return r.core.Push(item)
}

// keys names the full blocks of a prompt by the trace's hashes.
func (r *run) keys(request *Request) []protocol.BlockKey {
	if !r.PrefixCache || request.Hashes == nil {
		return nil
	}
	keys := make([]protocol.BlockKey, 0, (request.PromptTokens+request.OutputTokens)/r.BlockTokens)
	for block := range request.PromptTokens / r.BlockTokens {
		last := (block+1)*r.BlockTokens - 1 // the block's last token names all before it
		if last/HashTokens >= len(request.Hashes) {
			break
		}
		hash, place := request.Hashes[last/HashTokens], last%HashTokens
		keys = append(keys, protocol.BlockKey{byte(hash), byte(hash >> 8), byte(hash >> 16), byte(hash >> 24), byte(place),
			byte(place >> 8), 1})
	}
	return keys
}

// admit hands over what admission lets go, and drops what has waited too long.
func (r *run) admit() {
	if r.core.Queued() == 0 {
		return
	}
	now := int64(r.now / nanosecond)
	if r.QueueTimeout > 0 {
		r.result.Refused += len(r.core.Expire(now))
	}
	for _, assignment := range r.core.Admit(now) {
		g, index := r.byName[assignment.Group], int(assignment.ID-1)
		r.live[index].group = g
		g.inbox = append(g.inbox, index)
	}
}

// beginStep lets a group take what has come, and compute its next step.
func (r *run) beginStep(g *group) {
	for _, index := range g.inbox {
		request := &r.Requests[index]
		g.scheduler.Add(schedule.ID(index), request.PromptTokens, r.keys(request), true)
	}
	g.inbox = g.inbox[:0]
	g.plan = g.scheduler.Next()
	if g.busy = len(g.plan) > 0; !g.busy {
		return
	}
	g.cost = schedule.Cost{}
	for i := range g.plan {
		work := &g.plan[i]
		g.cost.Add(work.Start, work.Count)
		if work.Begins {
			r.core.Begun(uint64(work.ID)+1, work.Cached)
		}
		r.result.CachedTokens += (work.Added - work.Fresh) * r.BlockTokens
	}
	seconds := r.StepModel.Seconds(&g.cost)
	g.end = r.now + seconds
	r.result.Steps++
	r.result.BusySeconds += seconds
}

// endStep gives every sequence that the step brought to its end the next token.
func (r *run) endStep(g *group) {
	g.busy = false
	for i := range g.plan {
		if g.plan[i].Reaches {
			r.token(g, int(g.plan[i].ID))
		}
	}
	counts := g.scheduler.Counts()
	r.core.Report(g.name, protocol.Load{HeldTokens: counts.HeldBlocks * r.BlockTokens, CachedTokens: counts.CachedBlocks * r.BlockTokens,
		Running: counts.Running, Waiting: counts.Waiting, Parked: counts.Parked})
}

// token gives a request its next token.
func (r *run) token(g *group, index int) {
	request, state := &r.Requests[index], &r.live[index]
	id := uint64(index + 1)
	if state.produced++; state.produced == 1 {
		state.firstStep = r.now
	} else {
		gap := r.now - state.last
		state.longest = max(state.longest, gap)
		r.result.gaps.add(gap)
	}
	state.last = r.now
	r.core.Advance(id, state.produced)
	if state.produced < request.OutputTokens {
		g.scheduler.Append(schedule.ID(index))
		return
	}
	g.scheduler.Remove(schedule.ID(index))
	r.core.Finish(id)
	r.result.complete(request.PromptTokens, request.OutputTokens, state.firstStep-state.arrival, state.last-state.arrival, state.longest)
}

// sample notes the load from time to time.
func (r *run) sample() {
	if r.now-r.sampled < reportInterval {
		return
	}
	r.sampled = r.now
	for _, g := range r.groups {
		counts, ledger := g.scheduler.Counts(), r.core.Load(g.name)
		held := float64(counts.HeldBlocks * r.BlockTokens)
		r.result.Sample(held/float64(r.CapacityTokens), float64(counts.Running),
			math.Abs(float64(ledger.LedgerTokens)-held)/float64(r.CapacityTokens))
	}
}

// finish checks that nothing is left.
func (r *run) finish() error {
	r.result.Duration = r.now
	for _, g := range r.groups {
		if err := g.scheduler.Check(); err != nil {
			return err
		}
		counts := g.scheduler.Counts()
		r.result.Evictions += counts.Parked
		if account := r.core.Account(g.name); counts.HeldBlocks != 0 || counts.Running+counts.Waiting != 0 || account.Requests != 0 ||
			account.Tokens != 0 {
			return fmt.Errorf("all requests have ended, but %s has %+v and the ledger says %+v", g.name, counts, account)
		}
	}
	if r.core.Queued() > 0 {
		return fmt.Errorf("%d requests wait for ever: no group takes them", r.core.Queued())
	}
	return nil
}

// Package schedule decides what each step of a group computes: a pure core without clock, I/O or goroutines. There are no
// phases: every sequence has tokens that are known and tokens that are computed, and a step hands out a budget of tokens
// until they meet. Running sequences go first, those that only need their next token before those in prefill, so nobody's
// decode waits for another's prompt. KV blocks are taken as needed; when none is free the newest sequence is parked: it
// gives its blocks back and is computed again later, which its client cannot tell (design, laws 3 and 4).
package schedule

// ID names a sequence; the caller chooses it.
type ID uint64

// Limits of a scheduler, all at least 1.
type Limits struct {
	BlockTokens  int // positions of a KV block
	Blocks       int // KV blocks that there are
	StepTokens   int // token budget of a step
	MaxSequences int // sequences that run at once
}

// Work is what a step computes of one sequence: Count tokens from position Start on. If that reaches the last known token,
// the step yields the next one (see Append).
type Work struct {
	ID        ID
	Start     int
	Count     int
	Reaches   bool
	Blocks    []int32 // the whole block table; valid until the next call
	NewBlocks []int32 // its last part, taken for this step: they must be zeroed
}

// sequence is a request that the group has accepted.
type sequence struct {
	id       ID
	known    int // tokens whose ids are known
	computed int // tokens whose keys and values are in the cache
	blocks   []int32
	running  bool
}

// Scheduler owns the block table and the order of sequences.
type Scheduler struct {
	limits  Limits
	free    []int32
	running []*sequence // in the order in which they were admitted
	waiting []*sequence // the first runs next
	byID    map[ID]*sequence
	parked  int
	plan    []Work
}

// New returns an empty scheduler.
func New(limits Limits) *Scheduler {
	s := &Scheduler{limits: limits, byID: make(map[ID]*sequence)}
	for block := limits.Blocks - 1; block >= 0; block-- {
		s.free = append(s.free, int32(block))
	}
	return s
}

// Fits reports whether a sequence of so many tokens can ever be computed.
func (s *Scheduler) Fits(tokens int) bool { return s.blocksFor(tokens) <= s.limits.Blocks }

// Add puts a sequence with known token ids at the end of the queue. Its whole length must fit (see Fits), and its id be new.
func (s *Scheduler) Add(id ID, known int) {
	seq := &sequence{id: id, known: known}
	s.byID[id] = seq
	s.waiting = append(s.waiting, seq)
}

// Append says that the next token of a running sequence is known.
func (s *Scheduler) Append(id ID) { s.byID[id].known++ }

// Remove forgets a sequence, finished or cancelled, and frees its blocks at once. Unknown ids are ignored.
func (s *Scheduler) Remove(id ID) {
	seq := s.byID[id]
	if seq == nil {
		return
	}
	delete(s.byID, id)
	s.release(seq)
	s.running = without(s.running, seq)
	s.waiting = without(s.waiting, seq)
}

// Counts returns the sequences that hold blocks, those that wait, the blocks in use, and how often one was parked so far.
func (s *Scheduler) Counts() (running, waiting, usedBlocks, parked int) {
	return len(s.running), len(s.waiting), s.limits.Blocks - len(s.free), s.parked
}

// Next decides a step and takes it for done: computed grows by what it hands out. An empty step means that there is
// nothing to do.
func (s *Scheduler) Next() []Work {
	s.plan = s.plan[:0]
	budget := s.limits.StepTokens
	parkedBefore := s.parked
	for _, decoding := range []bool{true, false} {
		for i := 0; i < len(s.running) && budget > 0; i++ {
			seq := s.running[i]
			if missing := seq.known - seq.computed; missing > 0 && (missing == 1) == decoding && !s.planned(seq) {
				budget -= s.grant(seq, min(missing, budget))
			}
		}
	}
	for s.parked == parkedBefore && budget > 0 && len(s.waiting) > 0 && len(s.running) < s.limits.MaxSequences {
		seq := s.waiting[0]
		count := min(seq.known, budget)
		if s.blocksFor(count) > len(s.free) {
			break
		}
		s.waiting = s.waiting[1:]
		s.running = append(s.running, seq)
		seq.running = true
		budget -= s.grant(seq, count)
	}
	return s.plan
}

// planned reports whether the step has the sequence already: computed is advanced when work is granted, so a prefill that
// leaves one token over would else look like a decode.
func (s *Scheduler) planned(seq *sequence) bool {
	for i := range s.plan {
		if s.plan[i].ID == seq.id {
			return true
		}
	}
	return false
}

// grant plans count tokens of a running sequence, parking the newest ones for blocks, perhaps itself. It returns how many
// tokens were planned.
func (s *Scheduler) grant(seq *sequence, count int) int {
	need := s.blocksFor(seq.computed+count) - len(seq.blocks)
	for need > len(s.free) {
		victim := s.running[len(s.running)-1]
		s.park(victim)
		if victim == seq {
			return 0
		}
	}
	held := len(seq.blocks)
	for range need {
		seq.blocks = append(seq.blocks, s.free[len(s.free)-1])
		s.free = s.free[:len(s.free)-1]
	}
	work := Work{ID: seq.id, Start: seq.computed, Count: count, Blocks: seq.blocks, NewBlocks: seq.blocks[held:]}
	seq.computed += count
	work.Reaches = seq.computed == seq.known
	s.plan = append(s.plan, work)
	return count
}

// park takes the blocks of a running sequence away and puts it to the front of the queue. Work that this step had planned
// for it is struck out.
func (s *Scheduler) park(seq *sequence) {
	for i := range s.plan {
		if s.plan[i].ID == seq.id {
			s.plan = append(s.plan[:i], s.plan[i+1:]...)
			break
		}
	}
	s.release(seq)
	seq.computed, seq.running = 0, false
	s.running = without(s.running, seq)
	s.waiting = append([]*sequence{seq}, s.waiting...)
	s.parked++
}

func (s *Scheduler) release(seq *sequence) {
	s.free = append(s.free, seq.blocks...)
	seq.blocks = nil
}

func (s *Scheduler) blocksFor(tokens int) int {
	return (tokens + s.limits.BlockTokens - 1) / s.limits.BlockTokens
}

func without(list []*sequence, seq *sequence) []*sequence {
	for i := range list {
		if list[i] == seq {
			return append(list[:i], list[i+1:]...)
		}
	}
	return list
}

// Package schedule decides what each step of a group computes: a pure core without clock, I/O or goroutines. There are no
// phases: every sequence has tokens that are known and tokens that are computed, and a step hands out work until they meet.
//
// Every running sequence that only lacks its next token gets it in each step, and beside them prompts are computed in
// chunks, up to a budget of tokens: so nobody's decode waits for another's prompt longer than that budget takes, and no
// prompt waits for decodes. KV blocks are taken as needed; when none is left the newest sequence is parked: it gives its
// blocks back and is computed again later, which its client cannot tell (laws 3 and 4 in docs/architecture.md).
//
// Full blocks stay findable by the key of their content (the prefix cache): a sequence begins behind the blocks that are
// known already, but computes at least its last token. Blocks are found once the step that fills them is over.
package schedule

import (
	"fmt"
	"slices"

	"lockstep/protocol"
)

// ID names a sequence; the caller chooses it.
type ID uint64

// Limits of a scheduler, all at least 1.
type Limits struct {
	BlockTokens   int // positions of a KV block
	Blocks        int // KV blocks that there are
	PrefillTokens int // tokens of prompts that one step computes at most, beside one token of each other sequence
	MaxSequences  int // sequences that run at once
}

// Work is what a step computes of one sequence: Count tokens from position Start on. If that reaches the last known token,
// the step yields the next one (see Append).
type Work struct {
	ID      ID
	Start   int
	Count   int
	Reaches bool
	// Begins says that the sequence's block table is new. Cached is how many of its tokens were found since it began.
	Begins bool
	Cached int
	// Blocks is the whole block table, valid until the next call. The last Added of it are new, and of these the last
	// Fresh have no content: they must be zeroed.
	Blocks       []int32
	Added, Fresh int
}

// Counts are a moment's numbers.
type Counts struct {
	Running, Waiting                     int
	HeldBlocks, CachedBlocks, FreeBlocks int
	Parked                               int // how often a sequence was parked so far
}

// sequence is a request that the group has accepted.
type sequence struct {
	id        ID
	arrival   uint64
	known     int // tokens whose ids are known
	computed  int // tokens whose keys and values are in the cache
	reached   int // positions that were computed since it holds blocks, of wrong guesses too
	blocks    []int32
	keys      []protocol.BlockKey // of its full blocks of known tokens, unless it must not be cached
	lookup    bool                // it may use what others computed
	published int                 // blocks that the cache knows
	told      int                 // blocks that its work has named
	found     int                 // blocks that were found
	planned   uint64              // the last step that has work for it; 0: none since it holds blocks
	parked    bool                // it was
}

// Scheduler owns the block table and the order of sequences.
type Scheduler struct {
	limits  Limits
	blocks  *blockTable
	running []*sequence // in the order of arrival
	waiting []*sequence // likewise
	byID    map[ID]*sequence
	arrived uint64
	step    uint64
	parked  int
	plan    []Work
}

// New returns an empty scheduler.
func New(limits Limits) *Scheduler {
	return &Scheduler{limits: limits, blocks: newBlockTable(limits.Blocks), byID: make(map[ID]*sequence)}
}

// Fits reports whether a sequence of so many tokens can ever be computed.
func (s *Scheduler) Fits(tokens int) bool { return s.blocksFor(tokens) <= s.limits.Blocks }

// Add puts a sequence with known token ids at the end of the queue. Its whole length must fit (see Fits), and its id be
// new. keys are those of its full blocks, which the scheduler owns from now on; without them nothing of it is cached.
// lookup says whether it may use what others computed.
func (s *Scheduler) Add(id ID, known int, keys []protocol.BlockKey, lookup bool) {
	s.arrived++
	seq := &sequence{id: id, arrival: s.arrived, known: known, keys: keys, lookup: lookup}
	s.byID[id] = seq
	s.waiting = append(s.waiting, seq)
}

// Append says that the next token of a running sequence is known.
func (s *Scheduler) Append(id ID) { s.byID[id].known++ }

// AppendDrafted says that it is the one that was drafted for its place, so that it is computed too.
func (s *Scheduler) AppendDrafted(id ID) {
	seq := s.byID[id]
	seq.known++
	seq.computed++
}

// Draft makes a step compute up to count guessed tokens more behind the work that it has of a sequence, which reaches its last known
// token, and returns how many: nobody gives blocks up for them. w is of the result of Next, and valid as long. What is not appended
// before the next step was guessed wrong.
func (s *Scheduler) Draft(w *Work, count int) int {
	seq := s.byID[w.ID]
	count = min(count, (len(seq.blocks)+s.blocks.available())*s.limits.BlockTokens-seq.computed)
	for range s.blocksFor(seq.computed+count) - len(seq.blocks) {
		seq.blocks = append(seq.blocks, s.blocks.take())
		w.Added++
		w.Fresh++
	}
	seq.reached = max(seq.reached, seq.computed+count)
	w.Blocks, w.Count, seq.told = seq.blocks, w.Count+count, len(seq.blocks)
	return count
}

// AppendKey says which key the block has that the newest known token has filled.
func (s *Scheduler) AppendKey(id ID, key protocol.BlockKey) {
	seq := s.byID[id]
	seq.keys = append(seq.keys, key)
}

// Remove forgets a sequence, finished or cancelled, and gives its blocks back at once. Unknown ids are ignored.
func (s *Scheduler) Remove(id ID) {
	seq := s.byID[id]
	if seq == nil {
		return
	}
	delete(s.byID, id)
	s.publish(seq)
	s.release(seq)
	s.running = without(s.running, seq)
	s.waiting = without(s.waiting, seq)
}

// Counts returns the present numbers.
func (s *Scheduler) Counts() Counts {
	return Counts{Running: len(s.running), Waiting: len(s.waiting), HeldBlocks: s.blocks.held, CachedBlocks: s.blocks.cached,
		FreeBlocks: len(s.blocks.free), Parked: s.parked}
}

// Next decides a step and takes it for done: the step must be computed before any other call. An empty step means that
// there is nothing to do. The result is valid until the next call.
func (s *Scheduler) Next() []Work {
	for _, seq := range s.running {
		s.publish(seq)
	}
	s.step++
	s.plan = s.plan[:0]
	parkedBefore := s.parked
	for i := 0; i < len(s.running); i++ {
		if seq := s.running[i]; seq.known-seq.computed == 1 {
			s.grant(seq, 1)
		}
	}
	budget := s.limits.PrefillTokens
	for i := 0; i < len(s.running) && budget > 0; i++ {
		if seq := s.running[i]; seq.known > seq.computed && seq.planned != s.step {
			s.lookUp(seq)
			budget -= s.grant(seq, min(seq.known-seq.computed, budget))
		}
	}
	for s.parked == parkedBefore && budget > 0 && len(s.waiting) > 0 && len(s.running) < s.limits.MaxSequences && s.admits(s.waiting[0]) {
		seq := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.running = insert(s.running, seq)
		s.lookUp(seq)
		budget -= s.grant(seq, min(seq.known-seq.computed, budget))
	}
	return s.plan
}

// admits reports whether a waiting sequence can be computed to its last known token without taking blocks that running
// ones still lack for theirs. One that was parked also leaves each of them a block to grow into, lest it be parked again
// at once.
func (s *Scheduler) admits(seq *sequence) bool {
	if len(s.running) == 0 {
		return true
	}
	spare := s.blocks.available()
	for _, other := range s.running {
		spare -= max(0, s.blocksFor(other.known)-len(other.blocks))
	}
	if seq.parked {
		spare -= len(s.running)
	}
	need := s.blocksFor(seq.known)
	for i := range s.findable(seq, 0) {
		if block, ok := s.blocks.find(seq.keys[i]); !ok {
			break
		} else if s.blocks.holders[block] > 0 {
			need--
		}
	}
	return need <= spare
}

// findable is how many blocks, behind the first ones that it has, a sequence may take from the cache.
func (s *Scheduler) findable(seq *sequence, has int) int {
	if !seq.lookup {
		return 0
	}
	return max(0, min(len(seq.keys), (seq.known-1)/s.limits.BlockTokens)-has)
}

// lookUp moves a sequence, if it stands at the beginning of a block, forward over the blocks that the cache has: also
// within its prompt, where another one with the same prompt was faster.
func (s *Scheduler) lookUp(seq *sequence) {
	if seq.computed != len(seq.blocks)*s.limits.BlockTokens {
		return
	}
	for range s.findable(seq, len(seq.blocks)) {
		block, ok := s.blocks.find(seq.keys[len(seq.blocks)])
		if !ok {
			return
		}
		s.blocks.share(block)
		seq.blocks = append(seq.blocks, block)
		seq.computed += s.limits.BlockTokens
		seq.published = len(seq.blocks)
		seq.found++
	}
}

// grant plans count tokens of a running sequence, parking the newest ones for blocks, perhaps itself. It returns how many
// tokens were planned.
func (s *Scheduler) grant(seq *sequence, count int) int {
	work := Work{ID: seq.id, Start: seq.computed, Count: count, Begins: seq.planned == 0}
	if end := seq.computed + count; end > len(seq.blocks)*s.limits.BlockTokens {
		work.Fresh = s.blocksFor(end) - len(seq.blocks)
		for work.Fresh > s.blocks.available() {
			victim := s.running[len(s.running)-1]
			s.park(victim)
			if victim == seq {
				return 0
			}
		}
		for range work.Fresh {
			seq.blocks = append(seq.blocks, s.blocks.take())
		}
	}
	seq.computed += count
	seq.reached = max(seq.reached, seq.computed)
	work.Reaches = seq.computed == seq.known
	work.Cached = seq.found * s.limits.BlockTokens
	work.Blocks, work.Added = seq.blocks, len(seq.blocks)-seq.told
	seq.told, seq.planned = len(seq.blocks), s.step
	s.plan = append(s.plan, work)
	return count
}

// park takes the blocks of a running sequence away and lets it wait again before those that came later. Work that this
// step had planned for it is struck out.
func (s *Scheduler) park(seq *sequence) {
	if seq.planned == s.step {
		index := slices.IndexFunc(s.plan, func(w Work) bool { return w.ID == seq.id })
		s.plan = slices.Delete(s.plan, index, index+1)
	}
	s.release(seq)
	seq.parked = true
	s.running = without(s.running, seq)
	s.waiting = insert(s.waiting, seq)
	s.parked++
}

// publish makes the full blocks findable that a sequence has computed.
func (s *Scheduler) publish(seq *sequence) {
	for ; seq.published < len(seq.keys) && (seq.published+1)*s.limits.BlockTokens <= seq.computed; seq.published++ {
		s.blocks.name(seq.blocks[seq.published], seq.keys[seq.published])
	}
}

func (s *Scheduler) release(seq *sequence) {
	for i := len(seq.blocks) - 1; i >= 0; i-- {
		s.blocks.release(seq.blocks[i])
	}
	seq.blocks = seq.blocks[:0]
	seq.computed, seq.reached, seq.published, seq.told, seq.found, seq.planned = 0, 0, 0, 0, 0, 0
}

// Check counts all blocks anew and returns what does not hold of: every block is either free, held or cached; running
// sequences hold as many as the tokens need that were computed, drafted ones too, and nobody else holds any. Errors are bugs of this
// package.
func (s *Scheduler) Check() error {
	if err := s.blocks.check(); err != nil {
		return err
	}
	holders := 0
	for _, seq := range s.running {
		if want := s.blocksFor(max(seq.computed, seq.reached)); len(seq.blocks) != want {
			return fmt.Errorf("sequence %d has %d blocks for %d tokens, want %d", seq.id, len(seq.blocks), seq.reached, want)
		}
		holders += len(seq.blocks)
	}
	for _, seq := range s.waiting {
		if len(seq.blocks) != 0 {
			return fmt.Errorf("sequence %d waits and holds %d blocks", seq.id, len(seq.blocks))
		}
	}
	for _, count := range s.blocks.holders {
		holders -= int(count)
	}
	if holders != 0 || len(s.byID) != len(s.running)+len(s.waiting) {
		return fmt.Errorf("%d sequences, %d run, %d wait; they hold %d blocks more than the table says", len(s.byID), len(s.running),
			len(s.waiting), holders)
	}
	return nil
}

func (s *Scheduler) blocksFor(tokens int) int {
	return (tokens + s.limits.BlockTokens - 1) / s.limits.BlockTokens
}

// insert puts a sequence into a list in the order of arrival.
func insert(list []*sequence, seq *sequence) []*sequence {
	at := len(list)
	for at > 0 && list[at-1].arrival > seq.arrival {
		at--
	}
	return slices.Insert(list, at, seq)
}

func without(list []*sequence, seq *sequence) []*sequence {
	if at := slices.Index(list, seq); at >= 0 {
		return slices.Delete(list, at, at+1)
	}
	return list
}

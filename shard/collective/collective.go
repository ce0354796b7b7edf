// Package collective is what the ranks of a group share: an all-reduce of activations, a gather of logits to rank 0, and
// the ring of step plans, all in one anonymous shared memory.
//
// Every wait reads the abort word, which the launcher sets when a rank has died, and has a deadline where a live peer
// must answer soon; it never waits for ever. Sums run in rank order over one fixed tree, so every rank computes the same
// bits, and where a model divides evenly the same as any other number of ranks (law 3 in docs/architecture.md).
package collective

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lockstep/shard/wait"
)

var (
	// ErrAborted says that the launcher gave the group up because a rank died.
	ErrAborted = errors.New("the group was aborted")
	// ErrDeadline says that another rank did not arrive in time.
	ErrDeadline = errors.New("a rank did not answer in time")
)

// PeerDeadline is how long a rank waits for another that is at work on the same step. The launcher, which sees all ranks'
// beats, knows much sooner which of them hangs; this is for a group without one.
const PeerDeadline = 60 * time.Second

// Sizes says how large the shared parts are. All ranks must give the same.
type Sizes struct {
	Ranks int
	// ReduceFloats is the largest all-reduce, in floats.
	ReduceFloats int
	// GatherFloats is the area in which ranks put their logits for rank 0, in floats, all ranks together.
	GatherFloats int
	// PlanBytes is the largest step plan.
	PlanBytes int
	// Crowded says that the group has more threads than cores: who waits for a rank sleeps soon, so that it can run.
	Crowded bool
}

// planSlots is how many plans rank 0 may be ahead of the slowest rank; then it waits.
const planSlots = 4

// MaxRanks of a group.
const MaxRanks = 64

// The header, by cache lines: the abort word, the newest plan's number, then four lines for each rank.
const (
	lineBytes  = 64
	planLine   = 1
	rankLines  = 2 // first line of rank 0
	linesEach  = 4
	reduceLine = 0 // reductions published
	ackLine    = 1 // plans taken
	gatherLine = 2 // gathers published; of rank 0: gathers consumed
	beatLine   = 3 // see Beat
)

// shareBytes is what a rank can tell all others by Share, less a byte; it lies behind the lines.
const shareBytes = 256

// Group is one rank's view. One goroutine owns it.
type Group struct {
	sizes    Sizes
	rank     int
	memory   []byte
	reduce   [2][][]float32 // by parity, then rank
	gather   []float32
	plans    [][]byte
	reduced  uint32
	gathered uint32
	planned  uint32
	waiter   wait.Waiter
	beating  atomic.Bool
}

// Open maps the group's memory; file may be nil for a group of one. The file grows to the size that follows from sizes.
func Open(file *os.File, rank int, sizes Sizes) (*Group, error) {
	if sizes.Ranks < 1 || sizes.Ranks > MaxRanks || rank < 0 || rank >= sizes.Ranks {
		return nil, fmt.Errorf("rank %d of %d: at most %d ranks", rank, sizes.Ranks, MaxRanks)
	}
	align := func(n int) int { return (n + 4095) &^ 4095 }
	reduceBytes, gatherBytes, planBytes := align(4*sizes.ReduceFloats), align(4*sizes.GatherFloats), align(sizes.PlanBytes+8)
	total := headerBytes + 2*sizes.Ranks*reduceBytes + gatherBytes + planSlots*planBytes
	fd, flags := -1, unix.MAP_SHARED|unix.MAP_ANONYMOUS
	if file != nil {
		if err := file.Truncate(int64(total)); err != nil {
			return nil, fmt.Errorf("shared memory of %d bytes: %w", total, err)
		}
		fd, flags = int(file.Fd()), unix.MAP_SHARED
	} else if sizes.Ranks > 1 {
		return nil, errors.New("several ranks need shared memory")
	}
	memory, err := unix.Mmap(fd, 0, total, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, fmt.Errorf("map shared memory of %d bytes: %w", total, err)
	}
	g := &Group{sizes: sizes, rank: rank, memory: memory, waiter: wait.Waiter{Brief: sizes.Crowded}}
	at := headerBytes
	take := func(bytes int) []byte {
		part := memory[at : at+bytes : at+bytes]
		at += bytes
		return part
	}
	for parity := range g.reduce {
		for range sizes.Ranks {
			g.reduce[parity] = append(g.reduce[parity], floats(take(reduceBytes)))
		}
	}
	g.gather = floats(take(gatherBytes))
	for range planSlots {
		g.plans = append(g.plans, take(planBytes))
	}
	return g, nil
}

func floats(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}

// Close unmaps the memory; slices that the group gave out must not be used any more.
func (g *Group) Close() error { return unix.Munmap(g.memory) }

// Memory is all that the ranks share.
func (g *Group) Memory() []byte { return g.memory }

// Rank and Ranks say who this is and of how many.
func (g *Group) Rank() int  { return g.rank }
func (g *Group) Ranks() int { return g.sizes.Ranks }

func (g *Group) line(i int) *wait.Word { return (*wait.Word)(unsafe.Pointer(&g.memory[i*lineBytes])) }

func (g *Group) rankLine(rank, line int) *wait.Word { return g.line(rankLines + rank*linesEach + line) }

// Aborted reports whether the launcher has given the group up.
func (g *Group) Aborted() bool {
	return (*atomic.Uint32)(unsafe.Pointer(&g.memory[abortOffset])).Load() != 0
}

func (g *Group) withDeadline(waited time.Duration) error {
	if err := g.patiently(waited); err != nil || waited <= PeerDeadline {
		return err
	}
	return ErrDeadline
}

// patiently is for waits that may take as long as they like.
func (g *Group) patiently(time.Duration) error {
	g.Beat()
	if g.Aborted() {
		return ErrAborted
	}
	return nil
}

// Beat shows whoever watches the group that this rank moves: it waits for others, begins a collective operation, or is
// at rest between two steps. A rank whose beat stands still computes one and the same piece of a layer, or hangs. It may
// be called from any goroutine.
func (g *Group) Beat() {
	if g.beating.Load() {
		beat := (*atomic.Uint32)(unsafe.Pointer(&g.memory[beatOffset(g.rank)]))
		if beat.Add(1) == 0 {
			beat.Add(1) // 0 means that it has not begun
		}
	}
}

// Meet waits for all ranks, however long they take to load, and begins the beats.
func (g *Group) Meet() error {
	if err := g.meet(); err != nil {
		return err
	}
	g.beating.Store(true)
	g.Beat()
	return nil
}

func (g *Group) meet() error {
	g.reduced++
	g.rankLine(g.rank, reduceLine).Set(g.reduced)
	for rank := range g.sizes.Ranks {
		if err := g.waiter.Until(g.rankLine(rank, reduceLine), wait.AtLeast(g.reduced), g.patiently); err != nil {
			return fmt.Errorf("meet rank %d: %w", rank, err)
		}
	}
	return nil
}

// Share tells all ranks a few bytes, and returns what all have told, by rank. It waits as Meet does.
func (g *Group) Share(mine []byte) (all [][]byte, err error) {
	if len(mine) >= shareBytes {
		return nil, fmt.Errorf("%d bytes are too many to share: at most %d", len(mine), shareBytes-1)
	}
	of := func(rank int) []byte { return g.memory[shareOffset+rank*shareBytes:][:shareBytes] }
	own := of(g.rank)
	own[0] = byte(len(mine))
	copy(own[1:], mine)
	if err := g.meet(); err != nil {
		return nil, err
	}
	for rank := range g.sizes.Ranks {
		told := of(rank)
		all = append(all, slices.Clone(told[1:1+int(told[0])]))
	}
	return all, g.meet() // nobody writes before all have read
}

// Header is the page with the abort word, at its begin: a uint32 that is not 0 once the group is given up.
func (g *Group) Header() []byte { return g.memory[:pageBytes] }

// Partial returns where this rank writes its part of the next reduction. It stays valid until the reduction after that
// begins.
func (g *Group) Partial() []float32 { return g.reduce[(g.reduced+1)&1][g.rank] }

// Exchange publishes what was written to Partial and waits for the other ranks. It returns every rank's part, by rank;
// they may be read until the next call.
func (g *Group) Exchange() ([][]float32, error) {
	g.Beat()
	g.reduced++
	parts := g.reduce[g.reduced&1]
	if g.sizes.Ranks == 1 {
		return parts, nil
	}
	g.rankLine(g.rank, reduceLine).Set(g.reduced)
	reached := wait.AtLeast(g.reduced)
	for rank := range g.sizes.Ranks {
		if err := g.waiter.Until(g.rankLine(rank, reduceLine), reached, g.withDeadline); err != nil {
			return nil, fmt.Errorf("all-reduce %d, rank %d: %w", g.reduced, rank, err)
		}
	}
	return parts, nil
}

// GatherArea is where the ranks write their logits before Gather.
func (g *Group) GatherArea() []float32 { return g.gather }

// Gather tells rank 0 that this rank's part of the area is written. On rank 0 it returns when all parts are; there the
// area may be read until Release. Other ranks return at once; they wait for rank 0's Release before they write again.
func (g *Group) Gather() error {
	g.Beat()
	g.gathered++
	if g.rank != 0 {
		g.rankLine(g.rank, gatherLine).Set(g.gathered)
		return nil
	}
	reached := wait.AtLeast(g.gathered)
	for rank := 1; rank < g.sizes.Ranks; rank++ {
		if err := g.waiter.Until(g.rankLine(rank, gatherLine), reached, g.withDeadline); err != nil {
			return fmt.Errorf("gather %d, rank %d: %w", g.gathered, rank, err)
		}
	}
	return nil
}

// Release lets the other ranks write the area again.
func (g *Group) Release() { g.rankLine(0, gatherLine).Set(g.gathered) }

// AwaitRelease waits until rank 0 has read the last gather. The deadline is generous: rank 0 samples meanwhile.
func (g *Group) AwaitRelease() error {
	if g.rank == 0 {
		return nil
	}
	return g.waiter.Until(g.rankLine(0, gatherLine), wait.AtLeast(g.gathered), g.withDeadline)
}

// ErrPlanTooLarge is a bug of the caller: limits must keep plans within Sizes.PlanBytes.
var ErrPlanTooLarge = errors.New("step plan too large")

// Send broadcasts a plan from rank 0 to all others. It waits while a rank is planSlots plans behind.
func (g *Group) Send(plan []byte) error {
	if len(plan) > g.sizes.PlanBytes {
		return ErrPlanTooLarge
	}
	g.planned++
	if g.sizes.Ranks == 1 {
		return nil
	}
	free := wait.AtLeast(g.planned - planSlots)
	for rank := 1; rank < g.sizes.Ranks; rank++ {
		if err := g.waiter.Until(g.rankLine(rank, ackLine), free, g.withDeadline); err != nil {
			return fmt.Errorf("plan %d, rank %d: %w", g.planned, rank, err)
		}
	}
	slot := g.plans[g.planned%planSlots]
	*(*uint64)(unsafe.Pointer(&slot[0])) = uint64(len(plan))
	copy(slot[8:], plan)
	g.line(planLine).Set(g.planned)
	return nil
}

// Receive waits on rank 1 and up for the next plan, however long rank 0 is idle, and returns a copy in buffer's storage.
// The plan counts as taken when Receive returns.
func (g *Group) Receive(buffer []byte) ([]byte, error) {
	g.planned++
	if err := g.waiter.Until(g.line(planLine), wait.AtLeast(g.planned), g.patiently); err != nil {
		return nil, err
	}
	slot := g.plans[g.planned%planSlots]
	length := *(*uint64)(unsafe.Pointer(&slot[0]))
	if length > uint64(g.sizes.PlanBytes) {
		return nil, fmt.Errorf("plan %d has %d bytes, at most %d", g.planned, length, g.sizes.PlanBytes)
	}
	buffer = append(buffer[:0], slot[8:8+length]...)
	g.rankLine(g.rank, ackLine).Set(g.planned)
	return buffer, nil
}

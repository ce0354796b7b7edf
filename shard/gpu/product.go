package gpu

import "fmt"

// Products of plain weights have three kernels, of the same bits: each output of a chunk is one chain of products of 16 columns.

// fewRows is how many rows a product has at most that reads the weights for all of them at once.
const fewRows = 64

// multiplyPlain computes a product of some rows into y, [chunk][row][outputs].
func (b *Backend) multiplyPlain(y Address, m *matrix, x Address, rows int) error {
	p := product{tiles: m.tiles, steps: m.taken, chunks: m.chunks, rows: rows, xTerms: b.terms, terms: m.terms}
	card := b.device.Describe()
	l := p.linear()
	switch {
	case rows > fewRows:
		l = p.gemm()
	case card.Capability >= 90:
		l = p.ring(card.Processors, card.Shared)
	}
	l.Args = append([]any{y, m.data, x, int32(p.tiles), int32(p.steps), int32(p.chunks), int32(p.rows)}, l.Args...)
	return b.device.Launch(&l)
}

// product says what is computed: the terms are those of x and of the weights.
type product struct{ tiles, steps, chunks, rows, xTerms, terms int }

// linear is a launch of kernels/linear.cu, which any card can run. Of arguments it has those behind the number of rows.
func (p product) linear() Launch {
	const warps = 4
	few := p.fewest()
	return Launch{Kernel: fmt.Sprintf("linear_%d", few), Grid: [3]int{(p.tiles*p.chunks + warps - 1) / warps, (p.rows + few - 1) / few, 1},
		Threads: [3]int{32 * warps, 1, 1}, Args: []any{int32(p.terms), int32(p.xTerms)}}
}

// fewest is for how many rows the smallest kernel is that takes these, or the largest.
func (p product) fewest() int {
	few := 8
	for few < min(p.rows, fewRows) {
		few *= 2
	}
	return few
}

// gemm is a launch of kernels/gemm.cu.
func (p product) gemm() Launch {
	const rows, tiles, stageBytes = 128, 8, 8 << 10 // of a block; of a term of weights or x
	stages := 4
	if p.terms > 1 {
		stages = 3 // for blocks of sm_86
	}
	return Launch{Kernel: fmt.Sprintf("gemm_%d%d", p.xTerms, p.terms),
		Grid:    [3]int{(p.rows + rows - 1) / rows, (p.tiles + tiles - 1) / tiles, p.chunks},
		Threads: [3]int{128, 1, 1}, Shared: stages * stageBytes * (p.xTerms + p.terms)}
}

// ring is a launch of kernels/ring.cu.
func (p product) ring(processors, shared int) Launch {
	plan := p.plan(processors, shared)
	return Launch{Kernel: fmt.Sprintf("ring_%d%d_%d", p.xTerms, p.terms, p.fewest()), Grid: [3]int{plan.blocks, 1, 1},
		Threads: [3]int{32 * (plan.warps + 1), 1, 1}, Shared: ringBarriers + plan.stages*p.stageBytes(plan),
		Args: []any{int32(plan.stages), int32(plan.piece)}}
}

// ringPlan is how a ring is laid out: warps that multiply, each a tile at a time; stages, each of so many steps; and blocks.
type ringPlan struct{ warps, stages, piece, blocks int }

// What bounds plans: the kernel's barriers and warps, and how much of each multiprocessor's shared memory is ring. From a memory that
// answers in 0.8 us, 2.4 MB must be under way for 3 TB/s: 18 KB on each of 132, and more where a stage is not vacant at once.
const (
	ringBarriers  = 512 // bytes
	ringMaxStages = 32
	ringMaxWarps  = 8
	ringBytes     = 96 << 10
)

// stageBytes is the size of a stage.
func (p product) stageBytes(plan ringPlan) int {
	return plan.piece * (plan.warps*p.terms*step*step*2 + p.xTerms*p.rows*step*2)
}

// plan deals a product's tiles and chunks out to the multiprocessors, as evenly as can be. Of plans that are about equally even it takes
// the one of the most warps, since these share what is read of x, and one warp's chain is too slow for the memory alone; pieces are as
// large as leaves four stages.
func (p product) plan(processors, shared int) ringPlan {
	items := func(warps int) int { return (p.tiles + warps - 1) / warps * p.chunks }
	busiest := func(warps int) int { return (items(warps) + processors - 1) / processors * warps } // tiles of one multiprocessor
	plan := ringPlan{warps: 1, piece: 8}
	if p.tiles*p.chunks > processors {
		best := busiest(2)
		for warps := 3; warps <= ringMaxWarps; warps++ {
			best = min(best, busiest(warps))
		}
		for warps := 2; warps <= ringMaxWarps; warps++ {
			if 32*busiest(warps) <= 33*best {
				plan.warps = warps
			}
		}
	}
	plan.blocks = min(items(plan.warps), processors)
	room := min(ringBytes, shared-ringBarriers)
	for plan.piece > 1 && 4*p.stageBytes(plan) > room {
		plan.piece /= 2
	}
	pieces := (p.steps/p.chunks + plan.piece - 1) / plan.piece * ((items(plan.warps) + plan.blocks - 1) / plan.blocks)
	plan.stages = max(min(room/p.stageBytes(plan), ringMaxStages, pieces), 1)
	return plan
}

package gpu

import (
	"fmt"

	"lockstep/shard/model"
)

// Products of plain weights have four kernels, of the same bits: each output of a chunk is one chain of products of 16 columns. Which
// computes a product depends on its rows, and on the card.

// fewRows is how many rows a product has at most that reads the weights for all of them at once.
const fewRows = 64

// mostMatrices is how many matrices of the same input kernels gemm, wgmma and ring take.
const mostMatrices = 3

// result is a product with a matrix: y is where it goes, [chunk][row][outputs].
type result struct {
	y Address
	m *matrix
}

// parts is how many parts multiply leaves of a matrix's product: its chunks, or none where nothing of it is this rank's.
func (m *matrix) parts() int {
	if m.data == 0 {
		return 0
	}
	return m.chunks
}

// plain says that a matrix has weights that are neither codes nor take their input in another order.
func (m *matrix) plain() bool { return !m.coded && m.order == 0 }

// multiplyAll computes products of some rows and the same x, in one launch those that can be.
func (b *Backend) multiplyAll(x Address, rows int, results ...result) error {
	var together []result
	for _, r := range results {
		switch {
		case r.m.data == 0 || rows == 0:
		case !r.m.plain():
			if err := b.multiply(r.y, r.m, x, rows); err != nil {
				return err
			}
		default:
			if len(together) == mostMatrices || len(together) > 0 && !r.m.alike(together[0].m) {
				if err := b.multiplyTogether(x, rows, together); err != nil {
					return err
				}
				together = nil
			}
			together = append(together, r)
		}
	}
	return b.multiplyTogether(x, rows, together)
}

// alike says that two matrices take the same input, in as many terms of weights.
func (m *matrix) alike(o *matrix) bool {
	return m.taken == o.taken && m.chunks == o.chunks && m.terms == o.terms
}

// multiplyTogether computes products of plain matrices that are alike.
func (b *Backend) multiplyTogether(x Address, rows int, results []result) error {
	card := b.device.Describe()
	if rows <= fewRows && card.Capability < 90 {
		for _, r := range results {
			p := b.product(rows, r)
			if err := b.launchProduct(p.linear(), x, &p, r); err != nil {
				return err
			}
		}
		return nil
	}
	if len(results) == 0 {
		return nil
	}
	p := b.product(rows, results...)
	l := p.ring(card.Processors, card.Shared)
	if rows > fewRows {
		l = p.many(card, false)
	}
	return b.launchTogether(l, x, &p, results...)
}

// multiplyParts is multiply for who adds the parts that it leaves in y: of many rows kernels add them.
func (b *Backend) multiplyParts(y Address, m *matrix, x Address, rows int) (parts int, err error) {
	p := b.product(rows, result{y, m})
	card := b.device.Describe()
	if rows <= fewRows || m.data == 0 || !m.plain() || !p.sums(card.Processors) {
		return m.parts(), b.multiply(y, m, x, rows)
	}
	return 1, b.launchTogether(p.many(card, true), x, &p, result{y, m})
}

// multiplyGate computes gate, up and what joins them in one launch, where a kernel can: the input of the next product has no columns but
// theirs.
func (b *Backend) multiplyGate(to Address, s *gate, x Address, rows int) (done bool, err error) {
	card, gate, up := b.device.Describe(), &s.gate, &s.up
	kernel := rows <= fewRows && card.Capability >= 90 && b.terms == 1 && s.Activation == model.SiLU
	matrices := gate.data != 0 && up.data != 0 && gate.plain() && up.plain() && gate.alike(up) && gate.tiles == up.tiles
	fills := s.to.steps == up.tiles && s.to.columns == up.outputs()
	if adapted := b.adapted.count > 0 && (gate.low != nil || up.low != nil); !kernel || !matrices || !fills || adapted || rows == 0 {
		return false, nil
	}
	p := b.product(rows, result{m: gate})
	p.terms = 2 // a warp takes as much of weights
	l := p.ring(card.Processors, card.Shared)
	l.Kernel = fmt.Sprintf("ring_gate_%d", p.fewest())
	l.Args = append([]any{to, gate.data, up.data, gate.bias, up.bias, int32(gate.tiles), x, int32(p.steps), int32(rows)}, l.Args...)
	return true, b.device.Launch(&l)
}

// launchProduct runs a kernel of one matrix.
func (b *Backend) launchProduct(l Launch, x Address, p *product, r result) error {
	l.Args = append([]any{r.y, r.m.data, x, int32(r.m.tiles), int32(p.steps), int32(p.chunks), int32(p.rows)}, l.Args...)
	return b.device.Launch(&l)
}

// launchTogether runs a kernel of up to mostMatrices.
func (b *Backend) launchTogether(l Launch, x Address, p *product, results ...result) error {
	var args []any
	for i := range mostMatrices {
		data, y, tiles := Address(0), Address(0), 0
		if i < len(results) {
			data, y, tiles = results[i].m.data, results[i].y, results[i].m.tiles
		}
		args = append(args, data, y, int32(tiles))
	}
	l.Args = append(append(args, x, int32(p.steps), int32(p.chunks), int32(p.rows)), l.Args...)
	return b.device.Launch(&l)
}

// product says what is computed of matrices that are alike.
func (b *Backend) product(rows int, results ...result) product {
	m := results[0].m
	p := product{steps: m.taken, chunks: m.chunks, rows: rows, xTerms: b.terms, terms: m.terms}
	for i, r := range results {
		p.tiles[i] = r.m.tiles
	}
	return p
}

// product says what is computed, with how many tiles of each matrix: the terms are those of x and of the weights.
type product struct {
	tiles                              [mostMatrices]int
	steps, chunks, rows, xTerms, terms int
}

// allTiles are those of all matrices.
func (p *product) allTiles() int { return p.tiles[0] + p.tiles[1] + p.tiles[2] }

// linear is a launch of kernels/linear.cu, of one matrix, which any card can run. Launches have the arguments behind the number of rows.
func (p product) linear() Launch {
	const warps = 4
	few := p.fewest()
	return Launch{Kernel: fmt.Sprintf("linear_%d", few),
		Grid:    [3]int{(p.tiles[0]*p.chunks + warps - 1) / warps, (p.rows + few - 1) / few, 1},
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

// many is a launch for many rows; sum has the kernel add the chunks. Of products that leave 2 of 5 multiprocessors without a block of wgmma
// smaller blocks should make up for its rate, some 5 to gemm's 3.
func (p product) many(card Description, sum bool) Launch {
	if card.Capability == 90 && p.xTerms == 1 && p.terms == 1 && 5*p.blocks(128, 128)*p.blockChunks(sum) >= 3*card.Processors {
		return p.wgmma(card.Processors, sum)
	}
	return p.gemm(card.Processors, sum)
}

// gemm is a launch of kernels/gemm.cu. Blocks of 128 rows and 128 outputs read least, and those of 64 are for products that do not have one
// of these for each multiprocessor.
func (p product) gemm(processors int, sum bool) Launch {
	block := 128
	if !sum && p.blocks(block, block)*p.chunks < processors {
		block = 64
	}
	stages, stageBytes := 4, block*step*2*2*(p.xTerms+p.terms) // of two steps
	if p.terms > 1 {
		stages = 3 // for blocks of sm_86
	}
	l := p.tiled(block, block, sum)
	l.Kernel, l.Threads, l.Shared = fmt.Sprintf("gemm_%d%d_%d", p.xTerms, p.terms, block), [3]int{128, 1, 1}, stages*stageBytes
	return l
}

// wgmma is a launch of kernels/wgmma.cu. Blocks of 256 rows read least, and those of 128 are for products that do not have one of these for
// each multiprocessor, or whose rows would leave more than an eighth of them empty.
func (p product) wgmma(processors int, sum bool) Launch {
	const outputs, stages, pieceSteps, alignment = 128, 6, 4, 128
	rows := 256
	if p.blocks(rows, outputs)*p.blockChunks(sum) < processors || 8*((p.rows+255)/256*256) > 9*((p.rows+127)/128*128) {
		rows = 128
	}
	l := p.tiled(rows, outputs, sum)
	l.Kernel, l.Threads, l.Shared = fmt.Sprintf("wgmma_%d", rows), [3]int{256, 1, 1}, alignment+stages*pieceSteps*rows*step*2
	return l
}

// tiled is the grid of a launch whose blocks have so many rows and outputs, and its argument.
func (p product) tiled(rows, outputs int, sum bool) Launch {
	rowBlocks, argument := (p.rows+rows-1)/rows, int32(0)
	if sum {
		argument = 1
	}
	return Launch{Grid: [3]int{rowBlocks, p.blocks(rows, outputs) / rowBlocks, p.blockChunks(sum)}, Args: []any{argument}}
}

// blockChunks is how many chunks have blocks of their own.
func (p product) blockChunks(sum bool) int {
	if sum {
		return 1
	}
	return p.chunks
}

// blocks is how many blocks a chunk has, of so many rows and outputs each, which are of one matrix.
func (p product) blocks(rows, outputs int) (blocks int) {
	for _, tiles := range p.tiles {
		blocks += (tiles*step + outputs - 1) / outputs
	}
	return blocks * ((p.rows + rows - 1) / rows)
}

// sums says that a product has work for all multiprocessors without its chunks: then a block can add them.
func (p product) sums(processors int) bool { return p.chunks > 1 && p.blocks(128, 128) >= processors }

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
	items := func(warps int) int { return (p.allTiles() + warps - 1) / warps * p.chunks }
	busiest := func(warps int) int { return (items(warps) + processors - 1) / processors * warps } // tiles of one multiprocessor
	plan := ringPlan{warps: 1, piece: 8}
	if p.allTiles()*p.chunks > processors {
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

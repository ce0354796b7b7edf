package kernels_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"lockstep/shard/gpu/kernels"
	"lockstep/shard/gpu/ptx"
)

// targets are the PTX that package ptx runs, with the core of the cards that run it.
var targets = map[string]ptx.Core{"compute_80": ptx.Ampere, "compute_90a": ptx.Hopper}

func module(t testing.TB, name, target string) *ptx.Module {
	t.Helper()
	code, err := kernels.Module(name, target)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ptx.Parse(string(code))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// product is a product of some matrices of random numbers and the same x: weights [wTerms][tile][step][256], x [xTerms][step][row][16].
type product struct {
	tiles                               []int // of each matrix
	steps, chunks, rows, wTerms, xTerms int
	w                                   [][]uint16
	x                                   []uint16
}

// numbers are bfloat16 of both signs, groups of them near 1, so small that their products are subnormal, or over all exponents.
func numbers(r *rand.Rand, count int) []uint16 {
	all := make([]uint16, count)
	low, width := 120, 12
	for i := range all {
		if i%64 == 0 {
			low, width = 120, 12
			switch r.IntN(16) {
			case 0:
				low, width = 50, 20
			case 1:
				low, width = 1, 180
			}
		}
		all[i] = uint16(r.Uint32())&0x807f | uint16(low+r.IntN(width))<<7
	}
	return all
}

func randomProduct(r *rand.Rand, tiles []int, steps, chunks, rows, wTerms, xTerms int) *product {
	p := &product{tiles, steps, chunks, rows, wTerms, xTerms, nil, numbers(r, xTerms*steps*rows*16)}
	for _, count := range tiles {
		p.w = append(p.w, numbers(r, wTerms*count*steps*256))
	}
	return p
}

func (p *product) String() string {
	return fmt.Sprintf("%d tiles, %d steps, %d chunks, %d rows, terms %d of W and %d of x", p.tiles, p.steps, p.chunks, p.rows, p.wTerms,
		p.xTerms)
}

// launch is how a kernel computes it.
type launch struct {
	kernel        string
	grid, threads [3]int
	shared        int
	more          []any // arguments behind the number of rows
}

// units is how many units of so many tiles the matrices have, each one beginning another.
func (p *product) units(tiles int) (count int) {
	for _, own := range p.tiles {
		count += (own + tiles - 1) / tiles
	}
	return count
}

// gemm is a launch of blocks of so many rows and outputs.
func (p *product) gemm(block int, sum bool) launch {
	stages, chunks, more := 4, p.chunks, int32(0)
	if p.wTerms > 1 {
		stages = 3
	}
	if sum {
		chunks, more = 1, 1
	}
	return launch{fmt.Sprintf("gemm_%d%d_%d", p.xTerms, p.wTerms, block), [3]int{(p.rows + block - 1) / block, p.units(block / 16), chunks},
		[3]int{128, 1, 1}, stages * block * 64 * (p.wTerms + p.xTerms), []any{more}}
}

// wgmma is a launch of blocks of 128 outputs and so many rows.
func (p *product) wgmma(rows int, sum bool) launch {
	chunks, more := p.chunks, int32(0)
	if sum {
		chunks, more = 1, 1
	}
	return launch{fmt.Sprintf("wgmma_%d", rows), [3]int{(p.rows + rows - 1) / rows, p.units(8), chunks}, [3]int{256, 1, 1},
		128 + 6*4*rows*32, []any{more}}
}

func (p *product) ring(warps, stages, piece, blocks int) launch {
	rows := 8
	for rows < p.rows {
		rows *= 2
	}
	return launch{fmt.Sprintf("ring_%d%d_%d", p.xTerms, p.wTerms, rows), [3]int{blocks, 1, 1}, [3]int{32 * (warps + 1), 1, 1},
		512 + stages*piece*(warps*p.wTerms*512+p.xTerms*p.rows*32), []any{int32(stages), int32(piece)}}
}

// memory is a card's with a product's operands.
type memory struct {
	ptx.Memory
	x    uint64
	w, y [3]uint64
}

func (p *product) upload() *memory {
	m := &memory{}
	upload := func(words []uint16) uint64 {
		at := m.Alloc(2 * len(words))
		data := m.Bytes(at, 2*len(words))
		for i, v := range words {
			binary.LittleEndian.PutUint16(data[2*i:], v)
		}
		return at
	}
	m.x = upload(p.x)
	for i, w := range p.w {
		m.w[i], m.y[i] = upload(w), m.Alloc(p.size(i))
	}
	return m
}

// size is the bytes of a matrix's results.
func (p *product) size(matrix int) int { return 4 * p.chunks * p.rows * p.tiles[matrix] * 16 }

// results are those of all matrices, float32, [chunk][row][output].
func (p *product) results(m *memory) [][]byte {
	var y [][]byte
	for i := range p.w {
		y = append(y, m.Bytes(m.y[i], p.size(i)))
	}
	return y
}

// linear computes all by kernel linear_8, …, linear_64, matrix by matrix.
func (p *product) linear(t *testing.T, module *ptx.Module, core ptx.Core, rows int) [][]byte {
	t.Helper()
	const warps = 4
	m := p.upload()
	for i, tiles := range p.tiles {
		l := ptx.Launch{Kernel: fmt.Sprintf("linear_%d", rows),
			Grid:    [3]int{(tiles*p.chunks + warps - 1) / warps, (p.rows + rows - 1) / rows, 1},
			Threads: [3]int{32 * warps, 1, 1}, Core: core, Workers: runtime.GOMAXPROCS(0)}
		if _, err := module.Run(&m.Memory, l, m.y[i], m.w[i], m.x, int32(tiles), int32(p.steps), int32(p.chunks), int32(p.rows),
			int32(p.wTerms), int32(p.xTerms)); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
	}
	return p.results(m)
}

// compute computes all in one launch of a kernel that takes several matrices.
func (p *product) compute(module *ptx.Module, core ptx.Core, l launch) ([][]byte, error) {
	m := p.upload()
	var args []any
	for i := range 3 {
		tiles := int32(0)
		if i < len(p.tiles) {
			tiles = int32(p.tiles[i])
		}
		args = append(args, m.w[i], m.y[i], tiles)
	}
	args = append(append(args, m.x, int32(p.steps), int32(p.chunks), int32(p.rows)), l.more...)
	_, err := module.Run(&m.Memory, ptx.Launch{Kernel: l.kernel, Grid: l.grid, Threads: l.threads, Shared: l.shared, Core: core,
		Workers: runtime.GOMAXPROCS(0)}, args...)
	return p.results(m), err
}

// sums adds the chunks of results as a binary tree.
func (p *product) sums(y [][]byte) (all [][]byte) {
	for i := range y {
		size := p.size(i) / p.chunks
		sum := make([]byte, size)
		for at := 0; at < size; at += 4 {
			var tree func(from, to int) float32
			tree = func(from, to int) float32 {
				if to-from == 1 {
					return math.Float32frombits(binary.LittleEndian.Uint32(y[i][from*size+at:]))
				}
				left := 1
				for left*2 < to-from {
					left *= 2
				}
				return tree(from, from+left) + tree(from+left, to)
			}
			binary.LittleEndian.PutUint32(sum[at:], math.Float32bits(tree(0, p.chunks)))
		}
		all = append(all, sum)
	}
	return all
}

// equal reports whether results begin with those that are wanted.
func equal(got, want [][]byte) bool {
	return slices.EqualFunc(got, want, func(a, b []byte) bool { return bytes.HasPrefix(a, b) })
}

// must is compute where nothing may go wrong.
func (p *product) must(t *testing.T, m *ptx.Module, core ptx.Core, l launch) [][]byte {
	t.Helper()
	y, err := p.compute(m, core, l)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return y
}

// sum is an output by definition: of a step the products W0 x0, W0 x1, W1 x0, in the order of steps. The columns of a step are in the order
// of fragments, 0, 1, 4, 5, …, and then 2, 3, 6, 7, …: cores that add 8 at once add those.
func (p *product) sum(core ptx.Core, matrix, chunk, row, output int) uint32 {
	weights := func(term, step int) *[16]uint16 {
		fragment := p.w[matrix][((term*p.tiles[matrix]+output/16)*p.steps+step)*256:]
		var columns [16]uint16
		for i := range columns { // lane 4g+t has two of output g, two of g+8, the next two of g, and of g+8
			columns[i] = fragment[(output%8*4+i/2%4)*8+i/8*4+output%16/8*2+i%2]
		}
		return &columns
	}
	inputs := func(term, step int) *[16]uint16 {
		var columns [16]uint16
		for i := range columns {
			columns[i] = p.x[((term*p.steps+step)*p.rows+row)*16+i/2%4*4+i/8*2+i%2]
		}
		return &columns
	}
	sum, chunkSteps := uint32(0), p.steps/p.chunks
	for step := chunk * chunkSteps; step < (chunk+1)*chunkSteps; step++ {
		for term := range p.xTerms {
			sum = core.Dot(weights(0, step), inputs(term, step), sum)
		}
		if p.wTerms > 1 {
			sum = core.Dot(weights(1, step), inputs(0, step), sum)
		}
	}
	return sum
}

// check compares some outputs with their definition.
func (p *product) check(t *testing.T, r *rand.Rand, core ptx.Core, y [][]byte) {
	t.Helper()
	for range 200 {
		matrix, chunk, row := r.IntN(len(p.tiles)), r.IntN(p.chunks), r.IntN(p.rows)
		output := r.IntN(p.tiles[matrix] * 16)
		got := binary.LittleEndian.Uint32(y[matrix][4*((chunk*p.rows+row)*p.tiles[matrix]*16+output):])
		if want := p.sum(core, matrix, chunk, row, output); got != want {
			t.Fatalf("%s: chunk %d, row %d, output %d of matrix %d: %#x, want %#x", p, chunk, row, output, matrix, got, want)
		}
	}
}

// terms are what products are computed with, of W and x.
var terms = [][2]int{{1, 1}, {1, 2}, {2, 2}}

// randomTiles are those of one to three matrices.
func randomTiles(r *rand.Rand, most int) []int {
	tiles := make([]int, 1+r.IntN(3))
	for i := range tiles {
		tiles[i] = 1 + r.IntN(most)
	}
	return tiles
}

// Products of many rows have the bits of those of few, and the sums of their chunks those of the tree.
func TestLarge(t *testing.T) {
	for target, core := range targets {
		t.Run(target, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			linear, gemm := module(t, "linear", target), module(t, "gemm", target)
			for i, chunks := range []int{1, 2, 8, 1, 2, 7, 3, 6, 1} {
				steps := chunks * (1 + r.IntN(12/min(chunks, 4))) // odd ones too, and fewer than the ring has
				p := randomProduct(r, randomTiles(r, 10/(1+i%3)), steps, chunks, 65+r.IntN(236/(1+i%3)), terms[i%3][0], terms[i%3][1])
				want := p.linear(t, linear, core, 64)
				p.check(t, r, core, want)
				for _, block := range []int{64, 128} {
					if !equal(p.must(t, gemm, core, p.gemm(block, false)), want) {
						t.Errorf("%s, blocks of %d: other bits", p, block)
					}
					if !equal(p.must(t, gemm, core, p.gemm(block, true)), p.sums(want)) {
						t.Errorf("%s, blocks of %d: other sums of chunks", p, block)
					}
				}
			}
		})
	}
}

// Products of warpgroups have the bits of others, for any number of rows and steps.
func TestWarpgroups(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	linear, wgmma := module(t, "linear", "compute_90a"), module(t, "wgmma", "compute_90a")
	for i, chunks := range []int{1, 3, 8, 2, 1, 7, 5} {
		p := randomProduct(r, randomTiles(r, 18/(1+i%3)), chunks*(1+r.IntN(36/(chunks+1))), chunks, 1+r.IntN(300/(1+i%3)), 1, 1)
		want := p.linear(t, linear, ptx.Hopper, 64)
		p.check(t, r, ptx.Hopper, want)
		for _, rows := range []int{128, 256} {
			if !equal(p.must(t, wgmma, ptx.Hopper, p.wgmma(rows, false)), want) {
				t.Errorf("%s, blocks of %d rows: other bits", p, rows)
			}
			if !equal(p.must(t, wgmma, ptx.Hopper, p.wgmma(rows, true)), p.sums(want)) {
				t.Errorf("%s, blocks of %d rows: other sums of chunks", p, rows)
			}
		}
	}
}

// Products through rings have the bits of those without, for any number of rows and any plan.
func TestRing(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	linear, ring := module(t, "linear", "compute_90a"), module(t, "ring", "compute_90a")
	for i, rows := range []int{1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64} {
		for _, chunks := range []int{1, 8} {
			pair := terms[(i+chunks)%3]
			p := randomProduct(r, randomTiles(r, 6), chunks*(1+r.IntN(20/min(chunks, 4))), chunks, rows, pair[0], pair[1])
			want := p.linear(t, linear, ptx.Hopper, map[bool]int{true: 8, false: 64}[rows <= 8])
			p.check(t, r, ptx.Hopper, want)
			for range 2 {
				warps, stages, piece, blocks := 1+r.IntN(8), 2+r.IntN(5), 1+r.IntN(9), 1+r.IntN(12)
				if !equal(p.must(t, ring, ptx.Hopper, p.ring(warps, stages, piece, blocks)), want) {
					t.Errorf("%s; %d warps, %d stages of %d steps, %d blocks: other bits", p, warps, stages, piece, blocks)
				}
			}
		}
	}
}

// gateOperands are those of a gate and an up beside a product of two matrices: biases, and what they join to.
func (p *product) gateOperands(m *memory, r *rand.Rand) (biases [2]uint64, to uint64) {
	outputs := p.tiles[0] * 16
	for i := range biases {
		biases[i] = m.Alloc(4 * outputs)
		data := m.Bytes(biases[i], 4*outputs)
		for at := 0; at < len(data); at += 4 {
			binary.LittleEndian.PutUint32(data[at:], math.Float32bits(float32(r.NormFloat64())))
		}
	}
	return biases, m.Alloc(2 * p.rows * outputs)
}

// Gate and up in one launch leave the bits of two products and kernel activate.
func TestRingGate(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	linear, ring, rowsModule := module(t, "linear", "compute_90a"), module(t, "ring", "compute_90a"), module(t, "rows", "compute_90a")
	for i, rows := range []int{1, 8, 11, 27, 32, 57, 64} {
		tiles := 1 + r.IntN(7)
		p := randomProduct(r, []int{tiles, tiles}, 1+r.IntN(20), 1, rows, 1, 1)
		y := p.linear(t, linear, ptx.Hopper, 64)
		m := p.upload()
		for i := range y {
			copy(m.Bytes(m.y[i], p.size(i)), y[i])
		}
		biases, to := p.gateOperands(m, r)
		if i%2 == 0 {
			biases[i/2%2] = 0
		}
		run := func(module *ptx.Module, l launch, args ...any) []byte {
			clear(m.Bytes(to, 2*rows*tiles*16))
			if _, err := module.Run(&m.Memory, ptx.Launch{Kernel: l.kernel, Grid: l.grid, Threads: l.threads, Shared: l.shared,
				Core: ptx.Hopper}, args...); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			return slices.Clone(m.Bytes(to, 2*rows*tiles*16))
		}
		columns := int32(tiles * 16)
		want := run(rowsModule, launch{kernel: "activate", grid: [3]int{rows, 2, 1}, threads: [3]int{256, 1, 1}}, to, m.y[0], m.y[1],
			biases[0],
			biases[1], uint64(0), int32(0), columns, columns, int32(1), int32(tiles), int32(1))
		p.wTerms = 2 // a warp takes as much
		l := p.ring(1+r.IntN(8), 2+r.IntN(4), 1+r.IntN(9), 1+r.IntN(5))
		l.kernel = "ring_gate_" + l.kernel[strings.LastIndex(l.kernel, "_")+1:]
		got := run(ring, l, append([]any{to, m.w[0], m.w[1], biases[0], biases[1], int32(tiles), m.x, int32(p.steps), int32(rows)},
			l.more...)...)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bits", p)
		}
	}
}

// changed is a module with a kernel in which a text is replaced, once, the from-th time that it is there; nil: there are not so many.
func changed(t *testing.T, name, kernel, old, new string, from int) *ptx.Module {
	code, err := kernels.Module(name, "compute_90a")
	if err != nil {
		t.Fatal(err)
	}
	text := string(code)
	begin := strings.Index(text, ".visible .entry "+kernel+"(")
	end := len(text)
	if next := strings.Index(text[begin+1:], ".visible .entry"); next >= 0 {
		end = begin + 1 + next
	}
	parts := strings.SplitAfter(text[begin:end], old)
	if from >= len(parts)-1 {
		return nil
	}
	parts[from] = strings.TrimSuffix(parts[from], old) + new
	m, err := ptx.Parse(text[:begin] + strings.Join(parts, "") + text[end:])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Faults planted in the kernels are found: by an error, or by other bits.
func TestPlantedFaults(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	large, small := randomProduct(r, []int{9}, 27, 1, 130, 1, 1), randomProduct(r, []int{4}, 40, 1, 3, 1, 1)
	for _, f := range []struct {
		p        *product
		l        launch
		module   string
		what     string
		old, new string
		places   int // that have it
		spare    int // of them, since the next does as well
	}{
		{large, large.gemm(128, false), "gemm", "a missing barrier", "bar.sync", "mov.u32 %nothing, 0; //", 1, 0},
		{large, large.gemm(128, false), "gemm", "a copy that is not waited for", "cp.async.wait_group", "cp.async.commit_group; //", 1, 0},
		{large, large.wgmma(128, false), "wgmma", "a missing barrier", "bar.sync", "mov.u32 %nothing, 0; //", 3, 0},
		{large, large.wgmma(128, false), "wgmma", "a copy that is not waited for", "cp.async.wait_group",
			"cp.async.commit_group; //", 3, 0},
		{large, large.wgmma(128, false), "wgmma", "no fence behind copies", "fence.proxy.async", "fence.none; //", 3, 0},
		{large, large.wgmma(128, false), "wgmma", "no fence before products", "wgmma.fence", "fence.none; //", 5, 2},
		{large, large.wgmma(128, false), "wgmma", "products that are not waited for", "wgmma.wait_group", "fence.none; //", 6, 2},
		{large, large.wgmma(128, false), "wgmma", "products of no group", "wgmma.commit_group", "fence.none; //", 5, 2},
		{small, small.ring(2, 2, 4, 1), "ring", "no barrier behind the making of barriers", "bar.sync", "mov.u32 %nothing, 0; //", 1, 0},
		{small, small.ring(2, 2, 4, 1), "ring", "nobody waits", "mbarrier.try_wait.parity.shared::cta.b64 p",
			"setp.eq.s32 p, 0, 0; //", 2, 0},
		{small, small.ring(2, 2, 4, 1), "ring", "nobody says that a stage is vacant", "mbarrier.arrive.shared::cta.b64", "fence.none; //",
			1, 0},
		{small, small.ring(2, 2, 4, 1), "ring", "no bytes are expected", "mbarrier.arrive.expect_tx.shared::cta.b64",
			"mbarrier.arrive.shared::cta.b64", 2, 0},
		{small, small.ring(2, 2, 4, 1), "ring", "a barrier is never made", "mbarrier.init.shared::cta.b64", "fence.none; //", 2, 0},
	} {
		want := f.p.must(t, module(t, f.module, "compute_90a"), ptx.Hopper, f.l)
		places, spare := 0, 0
		for m := changed(t, f.module, f.l.kernel, f.old, f.new, 0); m != nil; m = changed(t, f.module, f.l.kernel, f.old, f.new, places) {
			got, err := f.p.compute(m, ptx.Hopper, f.l)
			if err == nil && equal(got, want) {
				spare++
			}
			t.Logf("%s, place %d: %v", f.what, places, err)
			places++
		}
		if places != f.places || spare != f.spare {
			t.Errorf("%s: %d places, of which %d are not seen, want %d and %d", f.what, places, spare, f.places, f.spare)
		}
	}
}

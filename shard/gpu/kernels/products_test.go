package kernels_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
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

// product is a product of random numbers: weights [wTerms][tile][step][256], x [xTerms][step][row][16].
type product struct {
	tiles, steps, chunks, rows, wTerms, xTerms int
	w, x                                       []uint16
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

func randomProduct(r *rand.Rand, tiles, steps, chunks, rows, wTerms, xTerms int) *product {
	return &product{tiles, steps, chunks, rows, wTerms, xTerms, numbers(r, wTerms*tiles*steps*256), numbers(r, xTerms*steps*rows*16)}
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

func (p *product) linear(rows int) launch {
	const warps = 4
	return launch{fmt.Sprintf("linear_%d", rows), [3]int{(p.tiles*p.chunks + warps - 1) / warps, (p.rows + rows - 1) / rows, 1},
		[3]int{32 * warps, 1, 1}, 0, []any{int32(p.wTerms), int32(p.xTerms)}}
}

func (p *product) gemm() launch {
	stages := 4
	if p.wTerms > 1 {
		stages = 3
	}
	return launch{fmt.Sprintf("gemm_%d%d", p.xTerms, p.wTerms), [3]int{(p.rows + 127) / 128, (p.tiles + 7) / 8, p.chunks},
		[3]int{128, 1, 1},
		stages * 8192 * (p.wTerms + p.xTerms), nil}
}

func (p *product) ring(warps, stages, piece, blocks int) launch {
	rows := 8
	for rows < p.rows {
		rows *= 2
	}
	return launch{fmt.Sprintf("ring_%d%d_%d", p.xTerms, p.wTerms, rows), [3]int{blocks, 1, 1}, [3]int{32 * (warps + 1), 1, 1},
		512 + stages*piece*(warps*p.wTerms*512+p.xTerms*p.rows*32), []any{int32(stages), int32(piece)}}
}

// compute returns the float32 results, [chunk][row][output], as bytes.
func (p *product) compute(m *ptx.Module, core ptx.Core, l launch) ([]byte, error) {
	var memory ptx.Memory
	upload := func(words []uint16) uint64 {
		at := memory.Alloc(2 * len(words))
		data := memory.Bytes(at, 2*len(words))
		for i, v := range words {
			binary.LittleEndian.PutUint16(data[2*i:], v)
		}
		return at
	}
	size := 4 * p.chunks * p.rows * p.tiles * 16
	y := memory.Alloc(size)
	args := append([]any{y, upload(p.w), upload(p.x), int32(p.tiles), int32(p.steps), int32(p.chunks), int32(p.rows)}, l.more...)
	_, err := m.Run(&memory, ptx.Launch{Kernel: l.kernel, Grid: l.grid, Threads: l.threads, Shared: l.shared, Core: core,
		Workers: runtime.GOMAXPROCS(0)}, args...)
	return memory.Bytes(y, size), err
}

// must is compute where nothing may go wrong.
func (p *product) must(t *testing.T, m *ptx.Module, core ptx.Core, l launch) []byte {
	t.Helper()
	y, err := p.compute(m, core, l)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return y
}

// sum is an output by definition: of a step the products W0 x0, W0 x1, W1 x0, in the order of steps. The columns of a step are in the order
// of fragments, 0, 1, 4, 5, …, and then 2, 3, 6, 7, …: cores that add 8 at once add those.
func (p *product) sum(core ptx.Core, chunk, row, output int) uint32 {
	weights := func(term, step int) *[16]uint16 {
		fragment := p.w[((term*p.tiles+output/16)*p.steps+step)*256:]
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
func (p *product) check(t *testing.T, r *rand.Rand, core ptx.Core, y []byte) {
	t.Helper()
	for range 200 {
		chunk, row, output := r.IntN(p.chunks), r.IntN(p.rows), r.IntN(p.tiles*16)
		got := binary.LittleEndian.Uint32(y[4*((chunk*p.rows+row)*p.tiles*16+output):])
		if want := p.sum(core, chunk, row, output); got != want {
			t.Fatalf("%s: chunk %d, row %d, output %d: %#x, want %#x", p, chunk, row, output, got, want)
		}
	}
}

// terms are what products are computed with, of W and x.
var terms = [][2]int{{1, 1}, {1, 2}, {2, 2}}

// Products of many rows have the bits of those of few.
func TestLarge(t *testing.T) {
	for target, core := range targets {
		t.Run(target, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			linear, gemm := module(t, "linear", target), module(t, "gemm", target)
			for i, chunks := range []int{1, 2, 8, 1, 2, 1} {
				steps := chunks * (1 + r.IntN(12/min(chunks, 4))) // odd ones too, and fewer than the ring has
				p := randomProduct(r, 1+r.IntN(11), steps, chunks, 65+r.IntN(236/(1+i%3)), terms[i%3][0], terms[i%3][1])
				want := p.must(t, linear, core, p.linear(64))
				p.check(t, r, core, want)
				if got := p.must(t, gemm, core, p.gemm()); !bytes.Equal(got, want) {
					t.Errorf("%s: other bits", p)
				}
			}
		})
	}
}

// Products through rings have the bits of those without, for any number of rows and any plan.
func TestRing(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	linear, ring := module(t, "linear", "compute_90a"), module(t, "ring", "compute_90a")
	for i, rows := range []int{1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64} {
		for _, chunks := range []int{1, 8} {
			p := randomProduct(r, 1+r.IntN(9), chunks*(1+r.IntN(20/min(chunks, 4))), chunks, rows, terms[(i+chunks)%3][0],
				terms[(i+chunks)%3][1])
			want := p.must(t, linear, ptx.Hopper, p.linear(map[bool]int{true: 8, false: 64}[rows <= 8]))
			p.check(t, r, ptx.Hopper, want)
			for range 2 {
				warps, stages, piece, blocks := 1+r.IntN(8), 2+r.IntN(5), 1+r.IntN(9), 1+r.IntN(12)
				if got := p.must(t, ring, ptx.Hopper, p.ring(warps, stages, piece, blocks)); !bytes.Equal(got, want) {
					t.Errorf("%s; %d warps, %d stages of %d steps, %d blocks: other bits", p, warps, stages, piece, blocks)
				}
			}
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
	large, small := randomProduct(r, 9, 20, 1, 130, 1, 1), randomProduct(r, 4, 40, 1, 3, 1, 1)
	for _, f := range []struct {
		p        *product
		l        launch
		module   string
		what     string
		old, new string
		places   int // that have it
	}{
		{large, large.gemm(), "gemm", "a missing barrier", "bar.sync", "mov.u32 %nothing, 0; //", 1},
		{large, large.gemm(), "gemm", "a copy that is not waited for", "cp.async.wait_group", "cp.async.commit_group; //", 1},
		{small, small.ring(2, 2, 4, 1), "ring", "no barrier behind the making of barriers", "bar.sync", "mov.u32 %nothing, 0; //", 1},
		{small, small.ring(2, 2, 4, 1), "ring", "nobody waits", "mbarrier.try_wait.parity.shared::cta.b64 p", "setp.eq.s32 p, 0, 0; //", 2},
		{small, small.ring(2, 2, 4, 1), "ring", "nobody says that a stage is vacant", "mbarrier.arrive.shared::cta.b64", "fence.none; //",
			1},
		{small, small.ring(2, 2, 4, 1), "ring", "no bytes are expected", "mbarrier.arrive.expect_tx.shared::cta.b64",
			"mbarrier.arrive.shared::cta.b64", 2},
		{small, small.ring(2, 2, 4, 1), "ring", "a barrier is never made", "mbarrier.init.shared::cta.b64", "fence.none; //", 2},
	} {
		want := f.p.must(t, module(t, f.module, "compute_90a"), ptx.Hopper, f.l)
		places := 0
		for m := changed(t, f.module, f.l.kernel, f.old, f.new, 0); m != nil; m = changed(t, f.module, f.l.kernel, f.old, f.new, places) {
			got, err := f.p.compute(m, ptx.Hopper, f.l)
			if err == nil && bytes.Equal(got, want) {
				t.Errorf("%s, place %d: not seen", f.what, places)
			}
			t.Logf("%s, place %d: %v", f.what, places, err)
			places++
		}
		if places != f.places {
			t.Errorf("%s: %d places, want %d", f.what, places, f.places)
		}
	}
}

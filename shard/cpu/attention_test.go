package cpu_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"lockstep/shard/codes"
	"lockstep/shard/cpu"
)

// headCache is the paged cache of one head among others' data.
type headCache struct {
	headDim, valueDim, positions int
	softmax                      cpu.Softmax
	tolerance                    float64 // if it is more than the usual
	cache                        cpu.Cache
	stride, keyBase, valueBase   int
	blocks                       []int32
	keys, values                 [][]float32
}

func newHeadCache(rng *rand.Rand, k *cpu.Kernels, headDim, positions, spare int) *headCache {
	return newUnlikeHeadCache(rng, k, headDim, headDim, positions, spare)
}

// newUnlikeHeadCache has values of other dimensions than keys.
func newUnlikeHeadCache(rng *rand.Rand, k *cpu.Kernels, headDim, valueDim, positions, spare int, kind ...cpu.CacheType) *headCache {
	h := &headCache{headDim: headDim, valueDim: valueDim, positions: positions, softmax: cpu.Softmax{Scale: 0.125}, keyBase: 48}
	h.valueBase = h.keyBase + cpu.KeyBlockFloats(headDim) + 16
	h.stride = h.valueBase + cpu.ValueBlockFloats(valueDim) + 32
	count := (positions+15)/16 + spare
	h.cache = cpu.Cache{Type: append(kind, cpu.CacheF32)[0]}
	h.cache.Data = aligned(h.cache.Type.Bytes() * (count + 1) * h.stride)
	for _, b := range rng.Perm(count) {
		h.blocks = append(h.blocks, int32(b+1))
	}
	for p := range positions {
		key, value := normals(rng, headDim), normals(rng, valueDim)
		h.keys, h.values = append(h.keys, key), append(h.values, value)
		base := int(h.blocks[p/16]) * h.stride
		k.StoreKV(h.cache, base+h.keyBase, base+h.valueBase, p%16, key, value)
	}
	return h
}

func (h *headCache) run(k *cpu.Kernels, q []float32, first, end []int32, blocks int, s *cpu.Scratch) []float32 {
	rows := len(first)
	dst := guarded(rows*(h.valueDim+3) + 16)
	k.Attention(cpu.Rows{dst, h.valueDim + 3, rows}, cpu.Rows{q, h.headDim + 2, rows}, cpu.Spans{first, end},
		cpu.HeadCache{h.cache, h.stride, h.keyBase, h.valueBase, h.headDim, h.valueDim, h.blocks[:blocks]}, h.softmax, s)
	return dst
}

// naive is the definition in float64.
func (h *headCache) naive(q []float32, row int, first, end int32) []float64 {
	out := make([]float64, h.valueDim)
	var scores []float64
	top, sum := math.Inf(-1), 0.0
	for p := first; p < end; p++ {
		dot := 0.0
		for d, v := range h.keys[p] {
			dot += float64(v) * float64(q[d])
		}
		score := dot * float64(h.softmax.Scale)
		if limit := float64(h.softmax.Cap); limit != 0 {
			score = limit * math.Tanh(score/limit)
		}
		scores = append(scores, score)
		top = max(top, score)
	}
	if h.softmax.Sinks != nil {
		sum = math.Exp(float64(h.softmax.Sinks[row]) - top)
	}
	for i, score := range scores {
		e := math.Exp(score - top)
		sum += e
		for d, v := range h.values[int(first)+i] {
			out[d] += e * float64(v)
		}
	}
	for d := range out {
		if sum > 0 {
			out[d] /= sum
		}
	}
	return out
}

func TestAttention(t *testing.T) {
	ref := plainGo(t)
	for _, headDim := range []int{1, 20, 64, 80} {
		for _, positions := range []int{1, 15, 16, 17, 100, 300} {
			rng := rand.New(rand.NewPCG(uint64(headDim), uint64(positions)))
			h := newHeadCache(rng, ref, headDim, positions, 3)
			for _, rows := range []int{1, 2, 3, 5, 6, 7, 13, 25, 50} {
				if rows > 13 && positions > 100 {
					continue
				}
				first, end := make([]int32, rows), make([]int32, rows)
				for r := range end {
					end[r] = 1 + rng.Int32N(int32(positions))
					if rng.IntN(2) == 0 {
						first[r] = rng.Int32N(end[r])
					}
				}
				if rows == 7 {
					first[3], end[3] = 5, 5 // sees nothing
				}
				checkAttention(t, h, rng, first, end)
			}
		}
	}
}

// Values of other dimensions than keys, soft caps, sinks and narrow caches, one by one and together.
func TestAttentionVariants(t *testing.T) {
	ref, rng := plainGo(t), rand.New(rand.NewPCG(3, 4))
	for i, dims := range [][2]int{{20, 10}, {24, 40}, {16, 16}} {
		for _, limit := range []float32{0, 0.5} {
			for _, rows := range []int{1, 7, 50} {
				h := newUnlikeHeadCache(rng, ref, dims[0], dims[1], 100, 1, cpu.CacheType(i))
				h.softmax.Cap, h.tolerance = limit, []float64{2e-5, 3e-3, 3e-2}[i]
				if i > 0 {
					h.softmax.Sinks = normals(rng, rows)
				}
				first, end := make([]int32, rows), make([]int32, rows)
				for r := range end {
					end[r] = 1 + rng.Int32N(100)
					first[r] = rng.Int32N(end[r])
				}
				checkAttention(t, h, rng, first, end)
			}
		}
	}
}

func checkAttention(t *testing.T, h *headCache, rng *rand.Rand, first, end []int32) {
	t.Helper()
	ref, s, rows := plainGo(t), cpu.NewScratch(), len(first)
	q := normals(rng, rows*(h.headDim+2))
	name := fmt.Sprintf("dim %d, %d positions, %d rows", h.headDim, h.positions, rows)
	need := func(end int32) int { return (int(end) + 15) / 16 }
	most := int32(0)
	for _, e := range end {
		most = max(most, e)
	}
	want := h.run(ref, q, first, end, need(most), s)
	for r := range rows {
		row := want[r*(h.valueDim+3):][:h.valueDim]
		for d, exact := range h.naive(q[r*(h.headDim+2):], r, first[r], end[r]) {
			if math.Abs(float64(row[d])-exact) > max(h.tolerance, 2e-5) {
				t.Fatalf("%s: row %d dim %d is %v, want %v", name, r, d, row[d], exact)
			}
		}
		// The row alone, with no block past its end.
		only := *h
		if h.softmax.Sinks != nil {
			only.softmax.Sinks = h.softmax.Sinks[r : r+1]
		}
		alone := only.run(ref, q[r*(h.headDim+2):], first[r:r+1], end[r:r+1], need(end[r]), s)
		if i := differ(alone[:h.valueDim], row); i >= 0 {
			t.Fatalf("%s: row %d dim %d is %v in the batch, %v alone", name, r, i, row[i], alone[i])
		}
	}
	for _, k := range fast(t) {
		for _, blocks := range []int{need(most), len(h.blocks)} {
			got := h.run(k, q, first, end, blocks, s)
			if i := differ(got, want); i >= 0 {
				t.Fatalf("%s %s: element %d is %v, want %v", k.Name(), name, i, got[i], want[i])
			}
		}
	}
}

// TestAttentionZeroSign has every weighted value vanish: the sign of the zero
// must not depend on the blocks that follow.
func TestAttentionZeroSign(t *testing.T) {
	for _, k := range cpu.Available() {
		h := newHeadCache(rand.New(rand.NewPCG(1, 1)), k, 16, 40, 0)
		clear(h.cache.Data)
		tiny := make([]float32, 16)
		for d := range tiny {
			tiny[d] = -0x1p-149
		}
		for p := range 40 {
			base := int(h.blocks[p/16]) * h.stride
			k.StoreKV(h.cache, base+h.keyBase, base+h.valueBase, p%16, make([]float32, 16), tiny)
		}
		h.run(k, make([]float32, 18), []int32{0}, []int32{3}, 1, cpu.NewScratch())
		for p := range 40 { // a negative zero everywhere
			base := int(h.blocks[p/16]) * h.stride
			for d := range tiny {
				tiny[d] = float32(math.Copysign(0, -1))
			}
			k.StoreKV(h.cache, base+h.keyBase, base+h.valueBase, p%16, make([]float32, 16), tiny)
		}
		out := h.run(k, make([]float32, 18), []int32{0}, []int32{3}, 1, cpu.NewScratch())
		for d, v := range out[:16] {
			if math.Float32bits(v) != 0 {
				t.Fatalf("%s: dim %d is %v with bits %#x, want +0", k.Name(), d, v, math.Float32bits(v))
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, k := range fast(t) {
		s := cpu.NewScratch()
		h := newHeadCache(rng, k, 64, 100, 0)
		m := pack(t, cpu.BF16, 64, 64, 1, source(rng, cpu.BF16, 64, 64))
		scheme := schemes(64)["Q4_K"]
		rows := make([]*codes.Row, 64)
		for i := range rows {
			rows[i] = codedRow(rng, scheme, 0, 64)
		}
		coded := packCoded(t, scheme, 0, 64, 1, rows)
		x, dst := normals(rng, 8*66), make([]float32, 8*66)
		first, end := []int32{0, 0}, []int32{99, 100}
		step := func() {
			k.RMSNorm(dst[:64], x[:64], x[64:128], 1e-5)
			k.MatMul(cpu.Rows{dst, 64, 1}, cpu.Rows{x, 64, 1}, m, 0, 4, s)
			k.MatMul(cpu.Rows{dst, 64, 8}, cpu.Rows{x, 64, 8}, m, 0, 4, s)
			k.MatMul(cpu.Rows{dst, 64, 1}, cpu.Rows{x, 64, 1}, coded, 0, 4, s)
			k.MatMul(cpu.Rows{dst, 64, 8}, cpu.Rows{x, 64, 8}, coded, 0, 4, s)
			k.Attention(cpu.Rows{dst, 64, 2}, cpu.Rows{x, 64, 2}, cpu.Spans{first, end},
				cpu.HeadCache{h.cache, h.stride, h.keyBase, h.valueBase, 64, 64, h.blocks}, cpu.Softmax{Scale: 1}, s)
		}
		step()
		if n := testing.AllocsPerRun(10, step); n != 0 {
			t.Errorf("%s: %v allocations per step", k.Name(), n)
		}
	}
}

func TestSelfTest(t *testing.T) {
	for _, k := range cpu.Available() {
		if !cpu.SelfTest(k) {
			t.Errorf("%s fails its self-test", k.Name())
		}
	}
}

// What a cache of float16 stores is the same in all kernels, for numbers of all kinds, and what is beyond its range is at its ends.
func TestStoreHalves(t *testing.T) {
	const dim = 80 + 7
	rng := rand.New(rand.NewPCG(41, 42))
	key, value := make([]float32, dim), make([]float32, dim)
	for i := range key {
		key[i] = math.Float32frombits(rng.Uint32())
		value[i] = float32(math.Ldexp(rng.NormFloat64(), rng.IntN(40)-26))
	}
	key[3], key[20], value[1], value[50] = float32(math.Inf(1)), float32(math.Inf(-1)), 1e6, -65519
	size := cpu.KeyBlockFloats(dim) + cpu.ValueBlockFloats(dim)
	store := func(k *cpu.Kernels) []byte {
		cache := cpu.Cache{Type: cpu.CacheF16, Data: aligned(2 * size)}
		k.StoreKV(cache, 0, cpu.KeyBlockFloats(dim), 5, key, value)
		return cache.Data
	}
	half := func(data []byte, at int) uint16 { return binary.LittleEndian.Uint16(data[2*at:]) }
	want := store(plainGo(t))
	if got := half(want, 3*16+5); got != 0x7bff {
		t.Errorf("infinity is stored as %#x", got)
	}
	for _, k := range fast(t) {
		got := store(k)
		for i := range size {
			a, b := half(got, i), half(want, i)
			if a != b && (a&0x7fff <= 0x7c00 || b&0x7fff <= 0x7c00) { // payloads are open
				t.Fatalf("%s: number %d is %#x, want %#x", k.Name(), i, a, b)
			}
		}
	}
}

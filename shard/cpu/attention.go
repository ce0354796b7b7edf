package cpu

import (
	"math"
	"unsafe"

	"lockstep/shard/half"
)

const (
	// attentionGroups is how many tiles of rows share a read of the cache.
	attentionGroups = 4
	// attentionBlocks is how many cache blocks are read before the next tile
	// of rows takes its turn; their keys stay in the second-level cache.
	attentionBlocks = 16
	// attentionBytes of values, at most, are fetched while the scores of their
	// keys are computed.
	attentionBytes = 256 << 10
)

// KeyBlockFloats returns the floats of one head's keys in a block of 16
// positions: [headDim][16 positions].
func KeyBlockFloats(headDim int) int { return headDim * lanes }

// ValueBlockFloats returns the floats of one head's values in a block of 16
// positions: [ceil(headDim/16)][16 positions][16 dims], missing dims zero.
func ValueBlockFloats(headDim int) int { return (headDim + lanes - 1) / lanes * lanes * lanes }

// CacheType is how the numbers of a cache are stored.
type CacheType int

const (
	CacheF32 CacheType = iota
	CacheF16           // half precision, what is beyond its range at its ends
	CacheBF16

	cacheTypes = iota
)

// Bytes is the size of a number.
func (t CacheType) Bytes() int {
	if t == CacheF32 {
		return 4
	}
	return 2
}

// Cache is memory for keys and values. Offsets into it count numbers.
type Cache struct {
	Type CacheType
	Data []byte // aligned to 4 bytes
}

// Part returns count numbers of the cache.
func (c Cache) Part(from, count int) Cache {
	size := c.Type.Bytes()
	return Cache{c.Type, c.Data[from*size:][:count*size]}
}

// stored returns a number as it is in a cache of two bytes a number: rounded to the nearest, of two to the even one.
func (t CacheType) stored(v float32) uint16 {
	if t == CacheF16 {
		return half.Bits(max(min(v, 65504), -65504))
	}
	bits := math.Float32bits(v)
	if v == v {
		bits += 0x7fff + bits>>16&1
	}
	return uint16(bits >> 16)
}

// floats and halves are the numbers of a cache of four and of two bytes a number.
func (c Cache) floats() []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(&c.Data[0])), len(c.Data)/4)
}
func (c Cache) halves() []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(&c.Data[0])), len(c.Data)/2)
}

// widened returns count numbers.
func (t CacheType) widened(data *byte, count int) []float32 {
	if t == CacheF32 {
		return unsafe.Slice((*float32)(unsafe.Pointer(data)), count)
	}
	wide := make([]float32, count)
	for i, bits := range unsafe.Slice((*uint16)(unsafe.Pointer(data)), count) {
		if wide[i] = math.Float32frombits(uint32(bits) << 16); t == CacheF16 {
			wide[i] = half.Float32(bits)
		}
	}
	return wide
}

// bytesAt returns a pointer n bytes behind p.
func bytesAt(p *byte, n int) *byte { return (*byte)(unsafe.Add(unsafe.Pointer(p), n)) }

// StoreKV writes one position's key and value of one head into a block whose keys start at cache[keyBase] and whose values start
// at cache[valueBase]. slot is the position modulo 16.
func (k *Kernels) StoreKV(cache Cache, keyBase, valueBase int, slot int, key, value []float32) {
	keys, values := cache.Part(keyBase, KeyBlockFloats(len(key))), cache.Part(valueBase, ValueBlockFloats(len(value)))
	if cache.Type == CacheF32 {
		to := keys.floats()
		for d, v := range key {
			to[d*lanes+slot] = v
		}
		to = values.floats()
		for d := 0; d < len(value); d += lanes {
			copy(to[(d+slot)*lanes:][:lanes], value[d:])
		}
		return
	}
	n, to := 0, keys.halves()
	if cache.Type == CacheF16 && len(key) >= lanes {
		n = whole(len(key))
		k.halvesApart(&to[slot], &key[0], n)
	}
	for d, v := range key[n:] {
		to[(n+d)*lanes+slot] = cache.Type.stored(v)
	}
	n, to = 0, values.halves()
	for ; cache.Type == CacheF16 && n+lanes <= len(value); n += lanes {
		k.halves(&to[(n+slot)*lanes], &value[n], lanes)
	}
	for d, v := range value[n:] {
		to[(n+d/lanes*lanes+slot)*lanes+d%lanes] = cache.Type.stored(v)
	}
}

// Spans says which positions First[r] <= p < End[r] row r sees.
type Spans struct{ First, End []int32 }

// HeadCache is what one key-value head of one sequence has in a paged cache in
// blocks of 16 positions. Blocks[i] holds positions 16i..16i+15; its keys start
// at Data[Blocks[i]*Stride+Keys] and its values at ...+Values, laid out as
// KeyBlockFloats and ValueBlockFloats say. Keys have HeadDim numbers, values
// ValueDim.
type HeadCache struct {
	Data                                    Cache
	Stride, Keys, Values, HeadDim, ValueDim int
	Blocks                                  []int32
}

// Softmax says how dot products become probabilities: they are multiplied by
// Scale, which is positive, and, where Cap is not 0, capped softly (SoftCap).
// Sinks, where there are any, is for each row the score of a position that
// takes its share of the probability and has no value.
type Softmax struct {
	Scale, Cap float32
	Sinks      []float32
}

// Attention computes query rows of one key-value head over its cache. Row r is
// the first HeadDim numbers of query[r], and ValueDim numbers are written to
// dst[r]; a row that sees no position gets zeros. dst may be query.
//
// A score is one chain over the dims, times scale; a probability is
// exp(score - max), and 0 at a position that the row does not see; their sum
// has 16 virtual lanes (lane = position modulo 16), to which a sink is added
// last; an output is one chain over the positions, times 1/sum. Positions with probability 0 do not change
// an output, because the sign of a zero is dropped at the end; so a row's bits
// do not depend on the other rows or on how many blocks the call covers. All
// of the 16 positions of a block that any row sees must hold finite numbers.
func (k *Kernels) Attention(dst, query Rows, seen Spans, cache HeadCache, softmax Softmax, s *Scratch) {
	rows := query.N
	if rows < 1 {
		return
	}
	a := attention{Kernels: k, HeadCache: cache, Softmax: softmax, scratch: s}
	limit := attentionGroups * k.tileRows
	passes := (rows + limit - 1) / limit
	for i := range passes {
		row0, row1 := rows*i/passes, rows*(i+1)/passes
		a.first, a.end = seen.First[row0:row1], seen.End[row0:row1]
		if softmax.Sinks != nil {
			a.Sinks = softmax.Sinks[row0:row1]
		}
		a.pass(dst.Data[row0*dst.Stride:], dst.Stride, query.Data[row0*query.Stride:], query.Stride, row1-row0)
	}
}

// attention is one call of Attention.
type attention struct {
	*Kernels
	HeadCache
	Softmax
	scratch    *Scratch
	first, end []int32 // of the rows of this pass, like Sinks
	groups     [attentionGroups]attentionGroup
	beside     int // bytes from a block's keys to its values, if those of all blocks stay in the second-level cache; else 0
}

// attentionGroup is the rows of one tile.
type attentionGroup struct {
	row, rows  int
	low, high  int       // blocks [low, high) hold what any of the rows sees
	query, out []float32 // packed queries; [dims/16][row][16]
	scores     []float32 // [block-low][row][16]
}

// pass computes up to attentionGroups tiles of rows.
func (a *attention) pass(dst []float32, dstStride int, q []float32, qStride, rows int) {
	count := (rows + a.tileRows - 1) / a.tileRows
	groups := a.groups[:count]
	a.plan(groups, rows)
	for i := range groups {
		g := &groups[i]
		for r := range g.rows {
			packRow(g.query, q[(g.row+r)*qStride:][:a.HeadDim], r, g.rows)
		}
	}
	low, high := span(groups)
	a.beside = 0
	if size := a.Data.Type.Bytes(); (high-low)*ValueBlockFloats(a.ValueDim)*size <= attentionBytes {
		a.beside = (a.Values - a.Keys) * size
	}
	for from := low; from < high; from += attentionBlocks {
		for i := range groups {
			a.score(&groups[i], from, from+attentionBlocks)
		}
	}
	var sums [attentionGroups * maxTileRows]float32
	for i := range groups {
		g := &groups[i]
		for r := range g.rows {
			sums[g.row+r] = a.softmax(g, r)
		}
	}
	for from := low; from < high; from += attentionBlocks {
		for i := range groups {
			a.weigh(&groups[i], from, from+attentionBlocks)
		}
	}
	for i := range groups {
		g := &groups[i]
		for r := range g.rows {
			a.store(dst[(g.row+r)*dstStride:][:a.ValueDim], g, r, sums[g.row+r])
		}
	}
}

// plan cuts the rows into groups, finds the blocks that each needs, and gives
// each its part of the scratch memory.
func (a *attention) plan(groups []attentionGroup, rows int) {
	dims := (a.HeadDim + lanes - 1) / lanes * lanes
	valueDims := (a.ValueDim + lanes - 1) / lanes * lanes
	packed := Grow(&a.scratch.packed, rows*dims)
	out := Grow(&a.scratch.sums, rows*valueDims)
	clear(out)
	total := 0
	for i := range groups {
		g := &groups[i]
		g.row = rows * i / len(groups)
		g.rows = rows*(i+1)/len(groups) - g.row
		g.low, g.high = 0, 0
		for r := g.row; r < g.row+g.rows; r++ {
			if low, high := a.span(r); low < high {
				if g.low == g.high {
					g.low = low
				}
				g.low, g.high = min(g.low, low), max(g.high, high)
			}
		}
		g.query = packed[g.row*dims:][:g.rows*dims]
		g.out = out[g.row*valueDims:][:g.rows*valueDims]
		total += (g.high - g.low) * g.rows * lanes
	}
	scores := Grow(&a.scratch.scores, total)
	for i := range groups {
		g := &groups[i]
		n := (g.high - g.low) * g.rows * lanes
		g.scores, scores = scores[:n], scores[n:]
	}
}

// span returns the blocks [low, high) that row r of the pass sees.
func (a *attention) span(r int) (low, high int) {
	if a.first[r] >= a.end[r] {
		return 0, 0
	}
	return int(a.first[r]) / lanes, (int(a.end[r]) + lanes - 1) / lanes
}

// span returns the blocks [low, high) that any of the groups sees.
func span(groups []attentionGroup) (low, high int) {
	for i := range groups {
		if g := &groups[i]; g.low < g.high {
			if low == high {
				low = g.low
			}
			low, high = min(low, g.low), max(high, g.high)
		}
	}
	return low, high
}

// score fills the scores of a group for the blocks [from, to).
func (a *attention) score(g *attentionGroup, from, to int) {
	from, to = max(from, g.low), min(to, g.high)
	if from >= to {
		return
	}
	size := a.Data.Type.Bytes()
	a.Kernels.scores[a.Data.Type][g.rows](&g.scores[(from-g.low)*g.rows*lanes], &g.query[0], &a.Data.Data[a.Keys*size],
		&a.Blocks[from], to-from, a.Stride*size, a.HeadDim, a.beside)
}

// weigh adds the values of the blocks [from, to), times their probabilities,
// to the output of a group.
func (a *attention) weigh(g *attentionGroup, from, to int) {
	from, to = max(from, g.low), min(to, g.high)
	if from >= to {
		return
	}
	kernels, size := &a.Kernels.values[a.Data.Type], a.Data.Type.Bytes()
	for panel := 0; panel*lanes < a.ValueDim; {
		panels := 1
		if (panel+1)*lanes < a.ValueDim && kernels[1][g.rows] != nil {
			panels = 2
		}
		kernels[panels-1][g.rows](&g.out[panel*g.rows*lanes], &g.scores[(from-g.low)*g.rows*lanes],
			&a.Data.Data[(a.Values+panel*lanes*lanes)*size], &a.Blocks[from], to-from, a.Stride*size)
		panel += panels
	}
}

// softmax turns the scores of row r of a group into probabilities and returns
// their sum, or 0 if the row sees nothing.
func (a *attention) softmax(g *attentionGroup, r int) float32 {
	low, high := a.span(g.row + r)
	block := func(b int) []float32 { return g.scores[((b-g.low)*g.rows+r)*lanes:][:lanes] }
	for b := g.low; b < g.high; b++ {
		if b < low || b >= high {
			clear(block(b))
		}
	}
	if low >= high {
		return 0
	}
	scale := a.Scale
	if a.Cap != 0 {
		for b := low; b < high; b++ {
			scores := block(b)
			for i := range scores {
				scores[i] *= scale
			}
			a.SoftCap(scores, a.Cap)
		}
		scale = 1
	}
	hidden := float32(math.Inf(-1))
	for i := range int(a.first[g.row+r]) - low*lanes {
		block(low)[i] = hidden
	}
	for i := int(a.end[g.row+r]) - (high-1)*lanes; i < lanes; i++ {
		block(high - 1)[i] = hidden
	}
	start, stride := &block(low)[0], g.rows*lanes*4
	maxima := a.rowMax(start, stride, high-low, scale)
	top := maxLanes(&maxima)
	if a.Sinks != nil && a.Sinks[g.row+r] > top {
		top = a.Sinks[g.row+r]
	}
	sums := a.rowExpSum(start, stride, high-low, top)
	sum := sumLanes(&sums)
	if a.Sinks != nil {
		sum += exp32(a.Sinks[g.row+r] - top)
	}
	return sum
}

// store writes row r of a group to dst.
func (a *attention) store(dst []float32, g *attentionGroup, r int, sum float32) {
	var inv float32
	if sum != 0 {
		inv = 1 / sum
	}
	panel := r
	for ; len(dst) >= lanes; dst, panel = dst[lanes:], panel+g.rows {
		out, to := (*[lanes]float32)(g.out[panel*lanes:]), (*[lanes]float32)(dst)
		for i, v := range out {
			to[i] = (v + 0) * inv
		}
	}
	for i := range dst {
		dst[i] = (g.out[panel*lanes+i] + 0) * inv
	}
}

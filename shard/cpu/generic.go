package cpu

import (
	"math"
	"unsafe"

	"lockstep/shard/codes"
)

// genericPrimitives is the reference: plain Go, written to be read. Every
// other implementation is tested against its bits.
func genericPrimitives() primitives {
	p := primitives{
		tileRows: 4, wideK: 256,
		squares: squaresGo, scale: scaleGo, add: addGo, siluMul: siluMulGo, geluMul: geluMulGo, exp: expGo, rotate: rotateGo,
		rowMax: rowMaxGo, rowExpSum: rowExpSumGo, largest: largestGo, expSum: expSumGo, peak: peakGo, stream: streamGo,
		roundPairs: roundPairsGo, roundFloats: roundFloatsGo, pairs: true, quantise: quantiseGo,
		halves: halvesGo, halvesApart: halvesApartGo, integerRows: 4,
	}
	for f := range BF16Dot {
		p.gemv[f][1] = func(out, x *float32, w *byte, _, k int) { gemvGo(f, out, x, w, k) }
		if f != F32 {
			p.dequant[f] = func(dst *float32, w *byte, k int) { dequantGo(f, dst, w, k) }
		}
	}
	for kind := codes.Bits2; kind <= codes.E4M3; kind++ {
		p.codes[kind] = func(dst *float32, w *byte, scales, offsets *float32, index *int32, base, k int) {
			codesGo(kind, dst, w, scales, offsets, unsafe.Slice(index, k), base)
		}
		p.mixed[kind] = p.codes[kind]
	}
	for rows := 1; rows <= p.tileRows; rows++ {
		p.tile[F32][0][rows] = func(c, x *float32, w *byte, k, stride, _, fresh int, _ *byte, _ int) {
			begin(c, rows, stride, fresh)
			tileGo(rows, c, x, (*float32)(unsafe.Pointer(w)), k, stride)
		}
		for number, form := range integerForms {
			p.integerTile[number][0][rows] = func(c, x *float32, w *byte, k, stride, _, fresh int, _ *byte, _ int) {
				begin(c, rows, stride, fresh)
				integerTileGo(form, rows, c, x, w, k, stride)
			}
		}
		p.tile[BF16Dot][0][rows] = func(c, x *float32, w *byte, k, stride, _, fresh int, _ *byte, _ int) {
			begin(c, rows, stride, fresh)
			dotGo(rows, c, x, w, k, stride)
		}
		for t := range CacheType(cacheTypes) {
			p.scores[t][rows] = func(dst, q *float32, keys *byte, blocks *int32, count, stride, k, _ int) {
				for i, b := range unsafe.Slice(blocks, count) {
					c := at(dst, i*rows*lanes)
					clear(unsafe.Slice(c, rows*lanes))
					tileGo(rows, c, q, &t.widened(bytesAt(keys, int(b)*stride), k*lanes)[0], k, lanes*4)
				}
			}
			p.values[t][0][rows] = func(c, p *float32, values *byte, blocks *int32, count, stride int) {
				for i, b := range unsafe.Slice(blocks, count) {
					valuesGo(rows, c, at(p, i*rows*lanes), &t.widened(bytesAt(values, int(b)*stride), lanes*lanes)[0])
				}
			}
		}
	}
	return p
}

// chain adds x*w[lane] to each of 16 chains.
func chain(c *[lanes]float32, x float32, w *[lanes]float32) {
	for i := range c {
		c[i] = fma32(x, w[i], c[i])
	}
}

// words returns n words behind p.
func words(p *byte, n int) []uint32 { return unsafe.Slice((*uint32)(unsafe.Pointer(p)), n) }

// lanesAt returns the 16 floats at n*16 floats behind p.
func lanesAt(p *float32, n int) *[lanes]float32 {
	return (*[lanes]float32)(unsafe.Pointer(at(p, n*lanes)))
}

func gemvGo(f Format, out, x *float32, w *byte, k int) {
	m := Matrix{Format: f, Rows: lanes, Columns: k, Chunks: 1, Data: unsafe.Slice(w, f.panelBytes(k))}
	sums := lanesAt(out, 0)
	for i, v := range unsafe.Slice(x, k) {
		var column [lanes]float32
		for lane := range column {
			column[lane] = m.At(lane, i)
		}
		chain(sums, v, &column)
	}
}

func dequantGo(f Format, dst *float32, w *byte, k int) {
	m := Matrix{Format: f, Rows: lanes, Columns: k, Chunks: 1, Data: unsafe.Slice(w, f.panelBytes(k))}
	for i := range k {
		column := lanesAt(dst, i)
		for lane := range column {
			column[lane] = m.At(lane, i)
		}
	}
}

func codesGo(kind codes.Kind, dst *float32, w *byte, scales, offsets *float32, index []int32, base int) {
	u := unit(kind)
	data := unsafe.Slice(w, len(index)*kind.Bits()/8*lanes)
	for i, place := range index {
		block := data[i/u*u*kind.Bits()/8*lanes:]
		group := (int(place) - base) / (lanes * 4)
		column, scale, offset := lanesAt(dst, i), lanesAt(scales, group), lanesAt(offsets, group)
		for lane := range column {
			column[lane] = fma32(kind.Level(codeAt(kind, block, lane, i%u)), scale[lane], offset[lane])
		}
	}
}

// begin clears the rows of a fresh tile of one panel.
func begin(c *float32, rows, stride, fresh int) {
	for r := range rows {
		if fresh != 0 {
			clear(lanesAt(at(c, r*stride/4), 0)[:])
		}
	}
}

func tileGo(rows int, c, x, w *float32, k, stride int) {
	for i := range k {
		for r := range rows {
			chain(lanesAt(at(c, r*stride/4), 0), *at(x, i/4*rows*4+r*4+i%4), lanesAt(w, i))
		}
	}
}

func valuesGo(rows int, c, p, values *float32) {
	for i := range lanes {
		for r := range rows {
			chain(lanesAt(c, r), *at(p, r*lanes+i), lanesAt(values, i))
		}
	}
}

func squaresGo(x *float32, n int) (sums [lanes]float32) {
	for i, v := range unsafe.Slice(x, n) {
		sums[i%lanes] = fma32(v, v, sums[i%lanes])
	}
	return sums
}

func scaleGo(dst, x, weight *float32, n int, factor float32) {
	out, w := unsafe.Slice(dst, n), unsafe.Slice(weight, n)
	for i, v := range unsafe.Slice(x, n) {
		out[i] = float32(v*factor) * w[i]
	}
}

func addGo(dst, a, b *float32, n int) {
	out, right := unsafe.Slice(dst, n), unsafe.Slice(b, n)
	for i, v := range unsafe.Slice(a, n) {
		out[i] = v + right[i]
	}
}

func siluMulGo(dst, gate, up *float32, n int) {
	out, u := unsafe.Slice(dst, n), unsafe.Slice(up, n)
	for i, v := range unsafe.Slice(gate, n) {
		out[i] = silu32(v) * u[i]
	}
}

func geluMulGo(dst, gate, up *float32, n int) {
	out, u := unsafe.Slice(dst, n), unsafe.Slice(up, n)
	for i, v := range unsafe.Slice(gate, n) {
		out[i] = gelu32(v) * u[i]
	}
}

func expGo(dst, x *float32, n int) {
	out := unsafe.Slice(dst, n)
	for i, v := range unsafe.Slice(x, n) {
		out[i] = exp32(v)
	}
}

func rotateGo(x0, x1, cos, sin *float32, n int) {
	u, v, c, s := unsafe.Slice(x0, n), unsafe.Slice(x1, n), unsafe.Slice(cos, n), unsafe.Slice(sin, n)
	for i := range n {
		a, b := u[i], v[i]
		u[i] = float32(a*c[i]) - float32(b*s[i])
		v[i] = float32(b*c[i]) + float32(a*s[i])
	}
}

// rowMaxGo multiplies count groups of 16 scores, stride bytes apart, by scale
// and returns the largest of each lane.
func rowMaxGo(s *float32, stride, count int, scale float32) (top [lanes]float32) {
	for i := range top {
		top[i] = float32(math.Inf(-1))
	}
	for n := range count {
		row := (*[lanes]float32)(unsafe.Pointer(at(s, n*stride/4)))
		for i := range row {
			row[i] *= scale
			if row[i] > top[i] {
				top[i] = row[i]
			}
		}
	}
	return top
}

// rowExpSumGo replaces count groups of 16 scores by exp(score-top) and returns
// the sum of each lane.
func rowExpSumGo(s *float32, stride, count int, top float32) (sums [lanes]float32) {
	for n := range count {
		row := (*[lanes]float32)(unsafe.Pointer(at(s, n*stride/4)))
		for i := range row {
			row[i] = exp32(row[i] - top)
			sums[i] += row[i]
		}
	}
	return sums
}

func largestGo(x *float32, n int) (top [lanes]float32) {
	for i := range top {
		top[i] = float32(math.Inf(-1))
	}
	for i, v := range unsafe.Slice(x, n) {
		if v > top[i%lanes] {
			top[i%lanes] = v
		}
	}
	return top
}

func expSumGo(x *float32, n int, top float32) (sums [lanes]float32) {
	for i, v := range unsafe.Slice(x, n) {
		sums[i%lanes] += exp32(v - top)
	}
	return sums
}

func halvesGo(dst *uint16, x *float32, n int) {
	out := unsafe.Slice(dst, n)
	for i, v := range unsafe.Slice(x, n) {
		out[i] = CacheF16.stored(v)
	}
}

func halvesApartGo(dst *uint16, x *float32, n int) {
	out := unsafe.Slice(dst, (n-1)*lanes+1)
	for i, v := range unsafe.Slice(x, n) {
		out[i*lanes] = CacheF16.stored(v)
	}
}

func peakGo(iterations int) (flops int) {
	c, x := [lanes]float32{}, [lanes]float32{}
	for range iterations {
		chain(&c, 1, &x)
	}
	return iterations * 2 * lanes
}

func streamGo(data *byte, n int) (sum uint64) {
	for _, v := range unsafe.Slice((*uint64)(unsafe.Pointer(data)), n/8) {
		sum += v
	}
	return sum
}

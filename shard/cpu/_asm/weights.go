package main

import (
	"fmt"
	"math"
	"strings"
)

// quant describes a block format: a word holds count fields of bits bits in
// groups groups, after a header of scales; a weight is fma(field, d, offset),
// where offset is d*bias or, if bias is 0, the m of the file.
type quant struct {
	name        string
	bits, count int
	groups      int
	bias        float32
	header      int // bytes
}

var quants = []quant{
	{"Q8_0", 8, 4, 8, -128, 32},
	{"Q4_0", 4, 8, 4, -8, 32},
	{"Q4_1", 4, 8, 4, 0, 64},
}

// plainName is a format's name without what names of functions lack.
func plainName(format string) string { return strings.ReplaceAll(format, "_", "") }

func (q quant) blockBytes() int { return q.header + q.groups*64 }

// panels addresses up to four panels that lie R9 bytes apart: three from DX,
// the fourth from R11 = DX + 3*R9.
func panelAt(offset, p int) string {
	switch p {
	case 0:
		return fmt.Sprintf("%d(DX)", offset)
	case 1:
		return fmt.Sprintf("%d(DX)(R9*1)", offset)
	case 2:
		return fmt.Sprintf("%d(DX)(R9*2)", offset)
	}
	return fmt.Sprintf("%d(R11)", offset)
}

const prefetchBytes = 1024

func (g *generator) nextColumns(x, w, panels int) {
	g.in("ADDQ $%d, SI", x)
	g.in("ADDQ $%d, DX", w)
	if panels > 3 {
		g.in("ADDQ $%d, R11", w)
	}
}

// prefetch asks for the lines that a loop over step bytes of each panel will
// reach later.
func (g *generator) prefetch(step, panels int) {
	for p := range panels {
		for o := 0; o < step; o += 64 {
			g.in("PREFETCHT0 %s", panelAt(prefetchBytes+o, p))
		}
	}
}

func (g *generator) gemvStart(v isa, format string, panels int) tile {
	g.function(fmt.Sprintf("gemv%d%s%s", panels, plainName(format), v.suffix), "is a gemvFunc.",
		"out *float32, x *float32, w *byte, panelBytes int, k int", "")
	g.enter("gemv[%s][%d]", format, panels)
	g.load("out", "DI", "x", "SI", "w", "DX", "panelBytes", "R9", "k", "CX")
	if panels > 3 {
		g.in("LEAQ (R9)(R9*2), R11")
		g.in("ADDQ DX, R11")
	}
	t := tile{v, 1, panels}
	g.sumsOf(t, false)
	return t
}

func (g *generator) gemvEnd(t tile) {
	g.sumsOf(t, true)
	g.ret()
}

// unrolled emits a loop over CX in steps of `by`, then the rest one by one.
func (g *generator) unrolled(by int, body func(i int), next func(n int)) {
	loop, rest, one, done := g.label("loop"), g.label("rest"), g.label("one"), g.label("done")
	g.in("MOVQ CX, BX")
	g.in("ANDQ $%d, BX", by-1)
	g.in("SUBQ BX, CX")
	g.in("JZ %s", rest)
	g.at(loop)
	for i := range by {
		body(i)
	}
	next(by)
	g.in("SUBQ $%d, CX", by)
	g.in("JNZ %s", loop)
	g.at(rest)
	g.in("TESTQ BX, BX")
	g.in("JZ %s", done)
	g.at(one)
	body(0)
	next(1)
	g.in("DECQ BX")
	g.in("JNZ %s", one)
	g.at(done)
}

func (g *generator) gemvs(v isa) {
	for _, panels := range []int{1, 2, 4} {
		g.gemvF32(v, panels)
		g.gemvF16(v, panels)
		g.gemvBF16(v, panels)
	}
	for panels := 1; panels <= 2*v.regs/16; panels *= 2 {
		for _, q := range quants {
			g.gemvQuant(v, q, panels)
		}
	}
}

func (g *generator) gemvF32(v isa, panels int) {
	t := g.gemvStart(v, "F32", panels)
	g.unrolled(4, func(i int) {
		x := v.r(t.free() + i%4)
		g.in("VBROADCASTSS %d(SI), %s", i*4, x)
		for p := range panels {
			for part := range v.parts {
				g.in("VFMADD231PS %s, %s, %s", panelAt(i*64+part*v.bytes, p), x, t.acc(0, p, part))
			}
		}
	}, func(n int) {
		if n > 1 {
			g.prefetch(n*64, panels)
		}
		g.nextColumns(n*4, n*64, panels)
	})
	g.gemvEnd(t)
}

func (g *generator) gemvF16(v isa, panels int) {
	t := g.gemvStart(v, "F16", panels)
	turn := 0
	g.unrolled(4, func(i int) {
		x := v.r(t.free() + i%2)
		g.in("VBROADCASTSS %d(SI), %s", i*4, x)
		for p := range panels {
			for part := range v.parts {
				w := v.r(t.free() + 2 + turn%4)
				turn++
				g.in("VCVTPH2PS %s, %s", panelAt(i*32+part*v.bytes/2, p), w)
				g.in("VFMADD231PS %s, %s, %s", w, x, t.acc(0, p, part))
			}
		}
	}, func(n int) {
		if n > 1 {
			g.prefetch(n*32, panels)
		}
		g.nextColumns(n*4, n*32, panels)
	})
	g.gemvEnd(t)
}

// highHalf sets the mask 0xffff0000 in register m.
func (g *generator) highHalf(v isa, m string) {
	g.in("VBROADCASTSS %s, %s", g.constant("maskHigh", 0xffff0000), m)
}

func (v isa) and(src, b, dst string) string {
	if v.suffix == "AVX512" {
		return fmt.Sprintf("VPANDD %s, %s, %s", src, b, dst)
	}
	return fmt.Sprintf("VPAND %s, %s, %s", src, b, dst)
}

func (g *generator) gemvBF16(v isa, panels int) {
	t := g.gemvStart(v, "BF16", panels)
	f := t.free()
	mask, x0, x1 := v.r(f), v.r(f+1), v.r(f+2)
	g.highHalf(v, mask)
	g.in("MOVQ CX, AX")
	g.in("SHRQ $1, CX")
	pair := func(i int, odd bool) {
		g.in("VBROADCASTSS %d(SI), %s", i*8, x0)
		if odd {
			g.in("VBROADCASTSS %d(SI), %s", i*8+4, x1)
		}
		for p := range panels {
			for part := range v.parts {
				w, even := v.r(f+3+part), v.r(f+3+v.parts+part)
				g.in("VMOVUPS %s, %s", panelAt(i*64+part*v.bytes, p), w)
				g.in("VPSLLD $16, %s, %s", w, even)
				g.in("VFMADD231PS %s, %s, %s", even, x0, t.acc(0, p, part))
				if odd {
					g.in("%s", v.and(mask, w, w))
					g.in("VFMADD231PS %s, %s, %s", w, x1, t.acc(0, p, part))
				}
			}
		}
	}
	g.unrolled(2, func(i int) { pair(i, true) }, func(n int) {
		if n > 1 {
			g.prefetch(n*64, panels)
		}
		g.nextColumns(n*8, n*64, panels)
	})
	done := g.label("even")
	g.in("TESTQ $1, AX")
	g.in("JZ %s", done)
	pair(0, false)
	g.at(done)
	g.gemvEnd(t)
}

// scales loads d and the offset of every part of a panel's block.
func (g *generator) scales(v isa, q quant, memory func(offset int) string, d, m string, part int) {
	at := part * v.bytes / 2
	g.in("VCVTPH2PS %s, %s", memory(at), d)
	if q.bias == 0 {
		g.in("VCVTPH2PS %s, %s", memory(32+at), m)
		return
	}
	name := g.constant("bias"+q.name, math.Float32bits(q.bias))
	if v.suffix == "AVX512" {
		g.in("VBROADCASTSS %s, %s", name, m)
		g.in("VMULPS %s, %s, %s", m, d, m)
	} else {
		g.in("VMULPS %s, %s, %s", name, d, m)
	}
}

// fields emits the loop over the fields j of a block: body(j, g, widen) for
// every group, where widen(memory, d, m, t) sets t to the weights. The fields
// below the top are masked where they are, which multiplies them by 2^(j*bits),
// and d is divided by the same, exactly; the top one would be negative as an
// integer, so it is shifted down. one is a register for the mask, all ds are
// rescaled.
func (g *generator) fields(v isa, q quant, mask string, ds []string, body func(k, group int, widen func(memory, d, m, t string))) {
	down := g.constant("down"+q.name, math.Float32bits(float32(math.Ldexp(1, -q.bits))))
	up := g.constant("up"+q.name, math.Float32bits(float32(math.Ldexp(1, q.bits*(q.count-2)))))
	g.in("VBROADCASTSS %s, %s", g.constant("mask"+q.name, 1<<q.bits-1), mask)
	for j := range q.count {
		last := j == q.count-1
		if j > 0 {
			if !last {
				g.in("VPSLLD $%d, %s, %s", q.bits, mask, mask)
			}
			factor := down
			if last {
				factor = up
			}
			if v.suffix == "AVX512" {
				g.in("VBROADCASTSS %s, %s", factor, v.r(31))
				factor = v.r(31)
			}
			for _, d := range ds {
				g.in("VMULPS %s, %s, %s", factor, d, d)
			}
		}
		for group := range q.groups {
			body(j*q.groups+group, group, func(memory, d, m, t string) {
				if last {
					g.in("VMOVUPS %s, %s", memory, t)
					g.in("VPSRLD $%d, %s, %s", j*q.bits, t, t)
				} else {
					g.in("%s", v.and(memory, mask, t))
				}
				g.in("VCVTDQ2PS %s, %s", t, t)
				g.in("VFMADD213PS %s, %s, %s", m, d, t)
			})
		}
	}
}

func (g *generator) gemvQuant(v isa, q quant, panels int) {
	n := panels * v.parts
	t := g.gemvStart(v, q.name, panels)
	d := func(i int) string { return v.r(n + i) }
	m := func(i int) string { return v.r(2*n + i) }
	mask, x, next := v.r(3*n), v.r(3*n+1), 3*n+2
	temps := min(v.regs-next, 6)
	if v.regs == 32 { // fields uses the last one
		temps = min(v.regs-1-next, 6)
	}
	loop := g.label("block")
	g.in("SHRQ $5, CX")
	g.at(loop)
	var ds []string
	for i := range n {
		p, part := i/v.parts, i%v.parts
		g.scales(v, q, func(o int) string { return panelAt(o, p) }, d(i), m(i), part)
		ds = append(ds, d(i))
	}
	turn := 0
	g.fields(v, q, mask, ds, func(k, group int, widen func(memory, d, m, t string)) {
		if k%q.groups == 0 && k/q.groups*64 < q.blockBytes() {
			for p := range panels {
				g.in("PREFETCHT0 %s", panelAt(prefetchBytes+k/q.groups*64, p))
			}
		}
		g.in("VBROADCASTSS %d(SI), %s", k*4, x)
		for i := range n {
			p, part := i/v.parts, i%v.parts
			w := v.r(next + turn%temps)
			turn++
			widen(panelAt(q.header+group*64+part*v.bytes, p), d(i), m(i), w)
			g.in("VFMADD231PS %s, %s, %s", w, x, t.acc(0, p, part))
		}
	})
	g.nextColumns(32*4, q.blockBytes(), panels)
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.gemvEnd(t)
}

func (g *generator) dequants(v isa) {
	start := func(format string) {
		g.function("dequant"+plainName(format)+v.suffix, "is a dequantFunc.", "dst *float32, w *byte, k int", "")
		g.enter("dequant[%s]", format)
		g.load("dst", "DI", "w", "SI", "k", "CX")
	}
	start("F16")
	g.prefetchNext(32, 2)
	g.unrolled(4, func(i int) {
		for part := range v.parts {
			w := v.r(i*v.parts + part)
			g.in("VCVTPH2PS %d(SI), %s", i*32+part*v.bytes/2, w)
			g.in("VMOVUPS %s, %d(DI)", w, i*64+part*v.bytes)
		}
	}, func(n int) {
		g.in("ADDQ $%d, SI", n*32)
		g.in("ADDQ $%d, DI", n*64)
	})
	g.ret()

	start("BF16")
	g.prefetchNext(32, 2)
	g.highHalf(v, v.r(0))
	g.in("INCQ CX")
	g.in("SHRQ $1, CX")
	g.unrolled(2, func(i int) {
		for part := range v.parts {
			w, even := v.r(1+2*part), v.r(2+2*part)
			g.in("VMOVUPS %d(SI), %s", i*64+part*v.bytes, w)
			g.in("VPSLLD $16, %s, %s", w, even)
			g.in("VMOVUPS %s, %d(DI)", even, i*128+part*v.bytes)
			g.in("%s", v.and(v.r(0), w, w))
			g.in("VMOVUPS %s, %d(DI)", w, i*128+64+part*v.bytes)
		}
	}, func(n int) {
		g.in("ADDQ $%d, SI", n*64)
		g.in("ADDQ $%d, DI", n*128)
	})
	g.ret()

	for _, q := range quants {
		start(q.name)
		g.dequantQuant(v, q)
	}
}

func (g *generator) dequantQuant(v isa, q quant) {
	loop := g.label("block")
	n := v.parts
	mask := v.r(2 * n)
	g.in("SHRQ $5, CX")
	g.at(loop)
	var ds []string
	for part := range n {
		g.scales(v, q, func(o int) string { return fmt.Sprintf("%d(SI)", o) }, v.r(part), v.r(n+part), part)
		ds = append(ds, v.r(part))
	}
	turn := 0
	g.fields(v, q, mask, ds, func(k, group int, widen func(memory, d, m, t string)) {
		for part := range n {
			w := v.r(2*n + 1 + turn%8)
			turn++
			widen(fmt.Sprintf("%d(SI)", q.header+group*64+part*v.bytes), v.r(part), v.r(n+part), w)
			g.in("VMOVUPS %s, %d(DI)", w, k*64+part*v.bytes)
		}
	})
	g.in("ADDQ $%d, SI", q.blockBytes())
	g.in("ADDQ $%d, DI", 32*64)
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.ret()
}

// directQuants emits tiles over packed blocks: every weight is widened once,
// in a register, for all of the rows.
func (g *generator) directQuants(v isa) {
	panels, most := 1, 4
	if v.regs == 32 {
		panels, most = 2, 6
	}
	for _, q := range quants {
		for n := 1; n <= panels; n++ {
			for rows := 2; rows <= most; rows++ {
				g.directQuant(tile{v, rows, n}, q)
			}
		}
	}
}

func (g *generator) directQuant(t tile, q quant) {
	v := t.v
	g.tileStart(t, q.name)
	n := t.panels * v.parts
	d := func(i int) string { return v.r(t.free() + i) }
	m := func(i int) string { return v.r(t.free() + n + i) }
	w := func(i int) string { return v.r(t.free() + 2*n + i) }
	mask := v.r(t.free() + 3*n)
	spare := t.free() + 3*n + 1
	xs := min(v.regs-spare, 3)
	if v.regs == 32 { // fields uses the last one
		xs = min(v.regs-1-spare, 3)
	}
	loop := g.label("block")
	g.in("SHRQ $5, CX")
	g.at(loop)
	var ds []string
	for i := range n {
		p, part := i/v.parts, i%v.parts
		g.scales(v, q, func(o int) string { return fmt.Sprintf("%d(%s)", o, panelBase[p]) }, d(i), m(i), part)
		ds = append(ds, d(i))
	}
	g.fields(v, q, mask, ds, func(k, group int, widen func(memory, d, m, t string)) {
		if k%4 == 0 && k/4*64 < q.blockBytes()+63 {
			for p := range t.panels {
				g.in("PREFETCHT0 %d(%s)", prefetchBytes+k/4*64, panelBase[p])
			}
		}
		for i := range n {
			p, part := i/v.parts, i%v.parts
			widen(fmt.Sprintf("%d(%s)", q.header+group*64+part*v.bytes, panelBase[p]), d(i), m(i), w(i))
		}
		for r := range t.rows {
			x := v.r(spare + r%xs)
			g.in("VBROADCASTSS %d(SI), %s", k/4*t.rows*16+r*16+k%4*4, x)
			for i := range n {
				g.in("VFMADD231PS %s, %s, %s", w(i), x, t.acc(r, i/v.parts, i%v.parts))
			}
		}
	})
	g.in("ADDQ $%d, SI", 8*t.rows*16)
	for p := range t.panels {
		g.in("ADDQ $%d, %s", q.blockBytes(), panelBase[p])
	}
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.rowSums(t, true)
	g.ret()
}

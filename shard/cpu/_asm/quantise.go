package main

import (
	"fmt"
	"math"
)

// integerWideners emits the functions that widen blocks of all forms.
func (g *generator) integerWideners(v isa) {
	for _, f := range integerForms[wideForms:] {
		wide := integerForm{"", codeKinds[5], f.group, "wideScale", 0}
		if f.pair() {
			wide.scales = "widePair"
		}
		g.function("widen"+f.name()+v.suffix, "is a widenFunc.", "dst *byte, w *byte, k int", "")
		g.enter("widenIntegers[%s]", f.number)
		g.load("dst", "DI", "w", "DX", "k", "CX")
		loop := g.label("block")
		g.in("SHRQ $5, CX")
		g.at(loop)
		for o := 0; o < f.bytes(); o += 64 {
			g.in("PREFETCHT0 %d(DX)", prefetchBytes+o)
		}
		for part := range v.parts {
			for group := range f.groups() {
				g.groupScale(v, f, "DX", group, part, v.r(0), v.r(1), v.r(2))
				g.in("VMOVUPS %s, %d(DI)", v.r(0), group*64+part*v.bytes)
				if f.pair() {
					g.in("VMOVUPS %s, %d(DI)", v.r(1), (f.groups()+group)*64+part*v.bytes)
				}
			}
			for word := range 8 {
				to, other := v.r(3+word%4*2), v.r(4+word%4*2)
				g.levels(v, f, word, 0, part, to, other)
				if base := 1 << max(f.shift(), 0); !f.pair() && base < 128 {
					name := g.constant(fmt.Sprintf("bytes%02x", 128-base), uint32(128-base)*0x01010101)
					if v.regs == 32 {
						g.in("VPBROADCASTD %s, %s", name, other)
						name = other
					}
					g.in("VPADDB %s, %s, %s", name, to, to)
				}
				g.in("VMOVDQU%s %s, %d(DI)", wideSuffix(v), to, wide.header()+word*64+part*v.bytes)
			}
		}
		g.in("ADDQ $%d, DX", f.bytes())
		g.in("ADDQ $%d, DI", wide.bytes())
		g.in("DECQ CX")
		g.in("JNZ %s", loop)
		g.ret()
	}
}

// quantise emits what makes blocks of a row's activations.
func (g *generator) quantise() {
	g.function("quantiseAVX2", "is primitives.quantise.", "dst *float32, x *float32, blocks int, stride int", "")
	g.load("dst", "DI", "x", "SI", "blocks", "CX", "stride", "R8")
	broadcast := func(name string, bits uint32, to string) { g.in("VBROADCASTSS %s, %s", g.constant(name, bits), to) }
	broadcast("magnitude", 0x7fffffff, "Y15")
	broadcast("infinity", 0x7f800000, "Y14")
	broadcast("number127", math.Float32bits(127), "Y13")
	broadcast("bytes01", 0x01010101, "Y12")
	broadcast("words1", 0x00010001, "Y11")
	loop, next, none, bad := g.label("block"), g.label("next"), g.label("none"), g.label("bad")
	g.at(loop)
	for i := range 4 {
		g.in("VMOVUPS %d(SI), Y%d", i*32, i)
		g.in("VPAND Y15, Y%d, Y%d", i, 4+i)
	}
	// The largest of all magnitudes: as integers, so that what is no number is the largest.
	g.in("VPMAXUD Y4, Y5, Y4")
	g.in("VPMAXUD Y6, Y7, Y6")
	g.in("VPMAXUD Y4, Y6, Y4")
	g.in("VEXTRACTI128 $1, Y4, X5")
	g.in("VPMAXUD X4, X5, X4")
	g.in("VPSHUFD $0x4e, X4, X5")
	g.in("VPMAXUD X4, X5, X4")
	g.in("VPSHUFD $0xb1, X4, X5")
	g.in("VPMAXUD X4, X5, X4")
	g.in("VMOVD X4, AX")
	g.in("CMPL AX, $0x7f800000")
	g.in("JAE %s", bad)
	g.in("CMPL AX, $%#x", math.Float32bits(0x1p-100))
	g.in("JB %s", none)
	g.in("VDIVSS X13, X4, X6") // d
	g.in("VDIVSS X4, X13, X5")
	g.in("VBROADCASTSS X5, Y5")
	for i := range 4 {
		g.in("VMULPS Y5, Y%d, Y%d", i, i)
		g.in("VCVTPS2DQ Y%d, Y%d", i, i)
	}
	g.in("VPACKSSDW Y1, Y0, Y0") // by lanes: 0 1 8 9, 2 3 10 11 in fours
	g.in("VPACKSSDW Y3, Y2, Y2")
	g.in("VPACKSSWB Y2, Y0, Y0")
	g.in("VMOVDQU %s, Y7", g.order8("unpacked", [8]uint32{0, 4, 1, 5, 2, 6, 3, 7}))
	g.in("VPERMD Y0, Y7, Y0")
	g.in("VMOVDQU Y0, (DI)")
	g.quantiseSums()
	g.at(next)
	g.in("ADDQ $128, SI")
	g.in("ADDQ R8, DI")
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.ret()
	for _, c := range []struct {
		label string
		d     uint32
	}{{none, 0}, {bad, 0x7fc00000}} {
		g.at(c.label)
		g.in("VPXOR Y0, Y0, Y0")
		g.in("VMOVDQU Y0, (DI)")
		g.in("VMOVDQU Y0, 32(DI)")
		for _, at := range []int{32, 40, 52, 56} {
			g.in("MOVL $%#x, %d(DI)", c.d, at)
		}
		g.in("JMP %s", next)
	}
}

// quantiseSums emits the words behind the codes, which are in Y0; d is in X6.
func (g *generator) quantiseSums() {
	g.in("VPMADDUBSW Y0, Y12, Y1") // sums of two, of four, and of 16
	g.in("VPMADDWD Y11, Y1, Y1")
	g.in("VPHADDD Y1, Y1, Y1")
	g.in("VPHADDD Y1, Y1, Y1")
	g.in("VEXTRACTI128 $1, Y1, X2")
	g.in("VPADDD X1, X2, X3") // of 32
	g.in("VPUNPCKLDQ X2, X1, X1")
	g.in("VPXOR X4, X4, X4")
	g.in("VPSUBD X3, X4, X5")
	g.in("VPSUBD X1, X4, X7")
	g.in("VCVTDQ2PS X3, X3")
	g.in("VCVTDQ2PS X1, X1")
	g.in("VBROADCASTSS X6, X8")
	g.in("VMULPS X8, X3, X3")
	g.in("VMULPS X8, X1, X1")
	g.in("VMOVSS X6, 32(DI)")
	g.in("VMOVSS X5, 36(DI)")
	g.in("VMOVSS X3, 40(DI)")
	g.in("VMOVQ X7, 44(DI)")
	g.in("VMOVQ X1, 52(DI)")
	g.in("MOVL $0, 60(DI)")
}

// order8 declares an order of eight words.
func (g *generator) order8(name string, values [8]uint32) string {
	var floats []float32
	for _, v := range values {
		floats = append(floats, math.Float32frombits(v))
	}
	return g.numbers(name, floats)
}

package main

import (
	"fmt"
	"math"
)

// The constants of exp and of GELU; they repeat those of float.go in the package.
var expConstants = map[string]float32{
	"expLow": -87.33, "expHigh": 88.7228, "expLog2e": 1.44269504088896341, "expMagic": 0x1.8p23,
	"expLn2Hi": -0.693359375, "expLn2Lo": 2.12194440e-4,
	"expC0": 1.9875691500e-4, "expC1": 1.3981999507e-3, "expC2": 8.3334519073e-3,
	"expC3": 4.1665795894e-2, "expC4": 1.6666665459e-1, "expC5": 5.0000001201e-1, "one": 1,
	"geluLinear": -1.5957691216057308, "geluCubic": -0.07135481282671037,
}

func (g *generator) exp(name string) string {
	value, ok := expConstants[name]
	if !ok {
		panic(name)
	}
	return g.constant(name, math.Float32bits(value))
}

// exponential emits x = exp(x) with the four other registers for work.
func (g *generator) exponential(x, t, n, r, p string) {
	g.in("VMOVUPS %s, %s", g.exp("expMagic"), t)
	g.in("VFMADD231PS %s, %s, %s", g.exp("expLog2e"), x, t)
	g.in("VSUBPS %s, %s, %s", g.exp("expMagic"), t, n)
	g.in("VMOVAPS %s, %s", x, r)
	g.in("VFMADD231PS %s, %s, %s", g.exp("expLn2Hi"), n, r)
	g.in("VFMADD231PS %s, %s, %s", g.exp("expLn2Lo"), n, r)
	g.in("VMOVUPS %s, %s", g.exp("expC0"), p)
	for i := 1; i <= 5; i++ {
		g.in("VFMADD213PS %s, %s, %s", g.exp(fmt.Sprintf("expC%d", i)), r, p)
	}
	g.in("VMULPS %s, %s, %s", r, r, n)
	g.in("VFMADD213PS %s, %s, %s", r, n, p)
	g.in("VADDPS %s, %s, %s", g.exp("one"), p, p)
	g.in("VPSLLD $23, %s, %s", t, t)
	g.in("VPADDD %s, %s, %s", t, p, p)
	g.in("VCMPPS $1, %s, %s, %s", g.exp("expLow"), x, n)
	g.in("VANDNPS %s, %s, %s", p, n, p)
	g.in("VCMPPS $14, %s, %s, %s", g.exp("expHigh"), x, n)
	g.in("VBLENDVPS %s, %s, %s, %s", n, g.constant("infinity", 0x7f800000), p, x)
}

// each emits a loop over CX elements, 8 at a time, with offset AX in bytes.
func (g *generator) each(body func()) {
	loop, done := g.label("loop"), g.label("done")
	g.in("XORQ AX, AX")
	g.in("SHRQ $3, CX")
	g.in("JZ %s", done)
	g.at(loop)
	body()
	g.in("ADDQ $32, AX")
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.at(done)
	g.ret()
}

func (g *generator) vectors() {
	g.function("addAVX2", "is primitives.add.", "dst *float32, a *float32, b *float32, n int", "")
	g.load("dst", "DI", "a", "SI", "b", "DX", "n", "CX")
	g.each(func() {
		g.in("VMOVUPS (SI)(AX*1), Y0")
		g.in("VADDPS (DX)(AX*1), Y0, Y0")
		g.in("VMOVUPS Y0, (DI)(AX*1)")
	})

	g.gated("siluMulAVX2", "is primitives.siluMul.", func() {
		g.in("VXORPS Y15, Y5, Y0")
	})
	g.gated("geluMulAVX2", "is primitives.geluMul.", func() {
		g.in("VMULPS Y5, Y5, Y0")
		g.in("VMOVUPS %s, Y1", g.exp("geluLinear"))
		g.in("VFMADD132PS %s, Y1, Y0", g.exp("geluCubic"))
		g.in("VMULPS Y5, Y0, Y0")
	})

	g.function("expAVX2", "is primitives.exp.", "dst *float32, x *float32, n int", "")
	g.load("dst", "DI", "x", "SI", "n", "CX")
	g.each(func() {
		g.in("VMOVUPS (SI)(AX*1), Y0")
		g.exponential("Y0", "Y1", "Y2", "Y3", "Y4")
		g.in("VMOVUPS Y0, (DI)(AX*1)")
	})

	g.roundings()
	g.quantise()
	g.rotate()
	g.function("scaleAVX2", "is primitives.scale.", "dst *float32, x *float32, weight *float32, n int, factor float32", "")
	g.load("dst", "DI", "x", "SI", "weight", "DX", "n", "CX")
	g.in("VBROADCASTSS factor+32(FP), Y1")
	g.each(func() {
		g.in("VMULPS (SI)(AX*1), Y1, Y0")
		g.in("VMULPS (DX)(AX*1), Y0, Y0")
		g.in("VMOVUPS Y0, (DI)(AX*1)")
	})

	g.reductions()
	g.wholeRows()
	g.halves()
}

// gated emits x/(1+e^t) * up, where exponent sets t, in Y0, from x, in Y5; Y15 holds the signs.
func (g *generator) gated(name, doc string, exponent func()) {
	g.function(name, doc, "dst *float32, gate *float32, up *float32, n int", "")
	g.load("dst", "DI", "gate", "SI", "up", "DX", "n", "CX")
	g.in("VPCMPEQD Y15, Y15, Y15")
	g.in("VPSLLD $31, Y15, Y15")
	g.each(func() {
		g.in("VMOVUPS (SI)(AX*1), Y5")
		exponent()
		g.exponential("Y0", "Y1", "Y2", "Y3", "Y4")
		g.in("VADDPS %s, Y0, Y0", g.exp("one"))
		g.in("VDIVPS Y0, Y5, Y0")
		g.in("VMULPS (DX)(AX*1), Y0, Y0")
		g.in("VMOVUPS Y0, (DI)(AX*1)")
	})
}

func (g *generator) rotate() {
	g.function("rotateAVX2", "is primitives.rotate.", "x0 *float32, x1 *float32, cos *float32, sin *float32, n int", "")
	g.load("x0", "DI", "x1", "SI", "cos", "DX", "sin", "BX", "n", "CX")
	g.each(func() {
		g.in("VMOVUPS (DI)(AX*1), Y0")
		g.in("VMOVUPS (SI)(AX*1), Y1")
		g.in("VMOVUPS (DX)(AX*1), Y2")
		g.in("VMOVUPS (BX)(AX*1), Y3")
		g.in("VMULPS Y2, Y0, Y4")
		g.in("VMULPS Y3, Y1, Y5")
		g.in("VSUBPS Y5, Y4, Y4")
		g.in("VMULPS Y2, Y1, Y1")
		g.in("VMULPS Y3, Y0, Y0")
		g.in("VADDPS Y0, Y1, Y1")
		g.in("VMOVUPS Y4, (DI)(AX*1)")
		g.in("VMOVUPS Y1, (SI)(AX*1)")
	})
}

// roundings emits what rounds a row to bfloat16 for an Input.
func (g *generator) roundings() {
	constants := []string{"Y8", "Y9", "Y10", "Y11", "Y12", "Y13", "Y14", "Y15"}
	words := []uint32{1, 0x7fff, 0x7fffffff, 0x7f800000, 0x00400000, 0x00800000, 0x80000000, 0xffff0000}
	start := func(name string) {
		g.function(name+"AVX2", "is primitives."+name+".", "dst *float32, x *float32, n int, stride int", "")
		g.load("dst", "DI", "x", "SI", "n", "CX", "stride", "R8")
		for i, word := range words {
			g.in("VBROADCASTSS %s, %s", g.constant(fmt.Sprintf("word%08x", word), word), constants[i])
		}
	}
	round := func() { // Y0 becomes Y1, in the upper halves
		g.in("VMOVUPS (SI)(AX*1), Y0")
		g.in("VPSRLD $16, Y0, Y1")
		g.in("VPAND Y8, Y1, Y1")
		g.in("VPADDD Y0, Y1, Y1")
		g.in("VPADDD Y9, Y1, Y1")
		g.in("VPAND Y10, Y0, Y2")
		g.in("VPCMPGTD Y11, Y2, Y3") // no numbers
		g.in("VPOR Y12, Y0, Y4")
		g.in("VPBLENDVB Y3, Y4, Y1, Y1")
		g.in("VPCMPGTD Y2, Y13, Y3") // below the normal ones
		g.in("VPAND Y14, Y0, Y4")
		g.in("VPBLENDVB Y3, Y4, Y1, Y1")
	}
	start("roundPairs")
	g.each(func() {
		round()
		g.in("VPSRLD $16, Y1, Y1")
		g.in("VPACKUSDW Y1, Y1, Y1")
		g.in("VPERMQ $8, Y1, Y1")
		g.in("VMOVDQU X1, (DI)")
		g.in("ADDQ R8, DI")
	})
	start("roundFloats")
	g.each(func() {
		round()
		g.in("VPAND Y15, Y1, Y1")
		g.in("VMOVDQU X1, (DI)")
		g.in("VEXTRACTF128 $1, Y1, (DI)(R8*1)")
		g.in("LEAQ (DI)(R8*2), DI")
	})
}

// reductions emits the functions that return 16 virtual lanes.
func (g *generator) reductions() {
	g.function("squaresAVX2", "is primitives.squares.", "x *float32, n int", "[lanes]float32")
	g.load("x", "SI", "n", "CX")
	g.rows(16, "SHRQ $4, CX", "$64", func() {
		for i := range 2 {
			g.in("VMOVUPS %d(SI), Y%d", i*32, 2+i)
			g.in("VFMADD231PS Y%d, Y%d, Y%d", 2+i, 2+i, i)
		}
	}, func() {
		g.in("VXORPS Y0, Y0, Y0")
		g.in("VXORPS Y1, Y1, Y1")
	})

	g.function("rowMaxAVX2", "is primitives.rowMax.", "s *float32, stride int, count int, scale float32", "[lanes]float32")
	g.load("s", "SI", "stride", "R8", "count", "CX")
	g.in("VBROADCASTSS scale+24(FP), Y4")
	g.rows(32, "TESTQ CX, CX", "R8", func() {
		for i := range 2 {
			g.in("VMULPS %d(SI), Y4, Y%d", i*32, 2+i)
			g.in("VMOVUPS Y%d, %d(SI)", 2+i, i*32)
			g.in("VMAXPS Y%d, Y%d, Y%d", i, 2+i, i)
		}
	}, func() {
		g.in("VBROADCASTSS %s, Y0", g.constant("minusInfinity", 0xff800000))
		g.in("VMOVAPS Y0, Y1")
	})

	g.function("rowExpSumAVX2", "is primitives.rowExpSum.", "s *float32, stride int, count int, top float32", "[lanes]float32")
	g.load("s", "SI", "stride", "R8", "count", "CX")
	g.in("VBROADCASTSS top+24(FP), Y15")
	g.rows(32, "TESTQ CX, CX", "R8", func() {
		for i := range 2 {
			x := fmt.Sprintf("Y%d", 2+i*5)
			g.in("VMOVUPS %d(SI), %s", i*32, x)
			g.in("VSUBPS Y15, %s, %s", x, x)
			g.exponential(x, fmt.Sprintf("Y%d", 3+i*5), fmt.Sprintf("Y%d", 4+i*5), fmt.Sprintf("Y%d", 5+i*5), fmt.Sprintf("Y%d", 6+i*5))
			g.in("VMOVUPS %s, %d(SI)", x, i*32)
			g.in("VADDPS %s, Y%d, Y%d", x, i, i)
		}
	}, func() {
		g.in("VXORPS Y0, Y0, Y0")
		g.in("VXORPS Y1, Y1, Y1")
	})
}

// halves emits what rounds numbers for a cache of float16, what is beyond its range to its ends: side by side, and each in a row
// of 16 of its own.
func (g *generator) halves() {
	for _, apart := range []bool{false, true} {
		name := map[bool]string{false: "halves", true: "halvesApart"}[apart]
		g.function(name+"AVX2", "is primitives."+name+".", "dst *uint16, x *float32, n int", "")
		g.load("dst", "DI", "x", "SI", "n", "CX")
		g.in("VBROADCASTSS %s, Y1", g.constant("largestHalf", math.Float32bits(65504)))
		g.in("VBROADCASTSS %s, Y2", g.constant("leastHalf", math.Float32bits(-65504)))
		g.each(func() {
			g.in("VMOVUPS (SI)(AX*1), Y0")
			g.in("VMINPS Y0, Y1, Y0") // of what is no number that
			g.in("VMAXPS Y0, Y2, Y0")
			g.in("VCVTPS2PH $0, Y0, X0")
			if !apart {
				g.in("VMOVDQU X0, (DI)")
				g.in("ADDQ $16, DI")
				return
			}
			for i := range 8 {
				g.in("VPEXTRW $%d, X0, %d(DI)", i, i*32)
			}
			g.in("ADDQ $256, DI")
		})
	}
}

// wholeRows emits the reductions that leave a row as it is.
func (g *generator) wholeRows() {
	zero := func() {
		g.in("VXORPS Y0, Y0, Y0")
		g.in("VXORPS Y1, Y1, Y1")
	}
	g.function("largestAVX2", "is primitives.largest.", "x *float32, n int", "[lanes]float32")
	g.load("x", "SI", "n", "CX")
	g.rows(16, "SHRQ $4, CX", "$64", func() {
		for i := range 2 {
			g.in("VMOVUPS %d(SI), Y%d", i*32, 2+i)
			g.in("VMAXPS Y%d, Y%d, Y%d", i, 2+i, i)
		}
	}, func() {
		g.in("VBROADCASTSS %s, Y0", g.constant("minusInfinity", 0xff800000))
		g.in("VMOVAPS Y0, Y1")
	})

	g.function("expSumAVX2", "is primitives.expSum.", "x *float32, n int, top float32", "[lanes]float32")
	g.load("x", "SI", "n", "CX")
	g.in("VBROADCASTSS top+16(FP), Y15")
	g.rows(24, "SHRQ $4, CX", "$64", func() {
		for i := range 2 {
			x := fmt.Sprintf("Y%d", 2+i*5)
			g.in("VMOVUPS %d(SI), %s", i*32, x)
			g.in("VSUBPS Y15, %s, %s", x, x)
			g.exponential(x, fmt.Sprintf("Y%d", 3+i*5), fmt.Sprintf("Y%d", 4+i*5), fmt.Sprintf("Y%d", 5+i*5), fmt.Sprintf("Y%d", 6+i*5))
			g.in("VADDPS %s, Y%d, Y%d", x, i, i)
		}
	}, zero)
}

// rows emits a loop over CX rows of 16 floats at SI whose 16 lanes of result
// are in Y0 and Y1, and returns them at result(FP).
func (g *generator) rows(result int, count, step string, body, start func()) {
	loop, done := g.label("loop"), g.label("done")
	start()
	g.in(count)
	g.in("JZ %s", done)
	g.at(loop)
	body()
	g.in("ADDQ %s, SI", step)
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.at(done)
	g.in("VMOVUPS Y0, ret_0+%d(FP)", result)
	g.in("VMOVUPS Y1, ret_8+%d(FP)", result+32)
	g.ret()
}

// peak and stream emit the benchmarks' upper bounds.
func (g *generator) peak(v isa) {
	n := v.regs - 2
	lanes := v.bytes / 4
	g.function("peak"+v.suffix, "is primitives.peak.", "iterations int", "(flops int)")
	g.load("iterations", "CX")
	g.in("MOVQ CX, AX")
	g.in("IMULQ $%d, AX", 2*n*lanes)
	g.in("MOVQ AX, flops+8(FP)")
	g.zero(tile{v, 1, v.regs / v.parts})
	loop, done := g.label("loop"), g.label("done")
	g.in("TESTQ CX, CX")
	g.in("JZ %s", done)
	g.at(loop)
	for i := range n {
		g.in("VFMADD231PS %s, %s, %s", v.r(n), v.r(n+1), v.r(i))
	}
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.at(done)
	g.ret()
}

func (g *generator) stream() {
	g.function("streamAVX2", "is primitives.stream. n is a positive multiple of 1024.", "data *byte, n int", "(sum uint64)")
	g.load("data", "SI", "n", "CX")
	g.in("SHRQ $2, CX")
	g.in("LEAQ (SI)(CX*1), DI")
	g.in("LEAQ (DI)(CX*1), R8")
	g.in("LEAQ (R8)(CX*1), R9")
	loop := g.label("loop")
	g.zero(tile{avx2, 1, 4})
	g.at(loop)
	for i, base := range []string{"SI", "DI", "R8", "R9"} {
		for o := 0; o < 128; o += 32 {
			g.in("VPADDQ %d(%s), Y%d, Y%d", o, base, i*2+o/32%2, i*2+o/32%2)
		}
		g.in("PREFETCHT0 %d(%s)", prefetchBytes, base)
		g.in("PREFETCHT0 %d(%s)", prefetchBytes+64, base)
		g.in("ADDQ $128, %s", base)
	}
	g.in("SUBQ $128, CX")
	g.in("JNZ %s", loop)
	for i := 1; i < 8; i++ {
		g.in("VPADDQ Y%d, Y0, Y0", i)
	}
	g.in("VMOVQ X0, AX")
	g.in("MOVQ AX, sum+16(FP)")
	g.ret()
}

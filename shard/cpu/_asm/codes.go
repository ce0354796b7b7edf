package main

import (
	"fmt"
	"math"
	"strings"
)

// code describes a kind of codes as package codes and the layout of coded matrices have it: planes of bits from the lowest
// up, and how an integer becomes a level.
type code struct {
	name   string
	planes []int
	levels *[16]float32 // nil: the integer itself, or
	float8 bool
}

var codeKinds = []code{
	{name: "Bits2", planes: []int{2}},
	{name: "Bits3", planes: []int{2, 1}},
	{name: "Bits4", planes: []int{4}},
	{name: "Bits5", planes: []int{4, 1}},
	{name: "Bits6", planes: []int{4, 2}},
	{name: "Bits8", planes: []int{8}},
	{name: "NonLinear4", planes: []int{4},
		levels: &[16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}},
	{name: "FP4", planes: []int{4}, levels: &[16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}},
	{name: "E4M3", planes: []int{8}, float8: true},
}

// unit is the columns of a block.
func (c code) unit() int { return max(32/c.planes[len(c.planes)-1], 8) }

// or is the instruction for it.
func (v isa) or(src, b, dst string) string {
	if v.suffix == "AVX512" {
		return fmt.Sprintf("VPORD %s, %s, %s", src, b, dst)
	}
	return fmt.Sprintf("VPOR %s, %s, %s", src, b, dst)
}

// numbers declares floats and returns where they are.
func (g *generator) numbers(name string, values []float32) string {
	symbol := name + "<>"
	if !g.data[symbol] {
		g.data[symbol] = true
		var b strings.Builder
		for i, v := range values {
			fmt.Fprintf(&b, "DATA %s+%d(SB)/4, $0x%08x\n", symbol, i*4, math.Float32bits(v))
		}
		fmt.Fprintf(&b, "GLOBL %s(SB), RODATA|NOPTR, $%d\n", symbol, 4*len(values))
		g.order = append(g.order, b.String())
	}
	return symbol + "(SB)"
}

// shift emits a logical shift by n bits, to the left if it is negative, and returns where the result is.
func (g *generator) shift(n int, src, dst string) string {
	switch {
	case n > 0:
		g.in("VPSRLD $%d, %s, %s", n, src, dst)
	case n < 0:
		g.in("VPSLLD $%d, %s, %s", -n, src, dst)
	default:
		return src
	}
	return dst
}

// codes emits a codesFunc for every kind, and those of any groups.
func (g *generator) codes(v isa) {
	for _, c := range codeKinds {
		g.widenCodes(v, c, "codes", min(c.unit(), 16))
		if c.unit() == 8 && c.levels == nil {
			g.widenCodes(v, c, "mixed", 1)
		}
	}
}

// widenCodes emits a function that loads scale and offset anew every run columns. The planes' words of a block are loaded when
// they are needed.
func (g *generator) widenCodes(v isa, c code, name string, run int) {
	g.function(name+c.name+v.suffix, "is a codesFunc.",
		"dst *float32, w *byte, scales *float32, offsets *float32, index *int32, base int, k int", "")
	g.load("dst", "DI", "w", "SI", "scales", "R9", "offsets", "R10", "index", "R8", "base", "AX", "k", "CX")
	g.in("SUBQ AX, R9")
	g.in("SUBQ AX, R10")
	w := g.levels(v, c)
	loop, bytes := g.label("block"), 0
	for _, bits := range c.planes {
		bytes += c.unit() * bits * 2
	}
	g.at(loop)
	for o := 0; o < bytes; o += 64 {
		g.in("PREFETCHT0 %d(SI)", prefetchBytes+o)
	}
	for column := range c.unit() {
		if column%run == 0 {
			g.in("MOVLQSX %d(R8), AX", column*4)
			for part := range v.parts {
				g.in("VMOVUPS %d(R9)(AX*1), %s", part*v.bytes, v.r(2*v.parts+part))
				g.in("VMOVUPS %d(R10)(AX*1), %s", part*v.bytes, v.r(3*v.parts+part))
			}
		}
		w(column)
		for part := range v.parts {
			value := v.r(part)
			g.in("VFMADD213PS %s, %s, %s", v.r(3*v.parts+part), v.r(2*v.parts+part), value)
			g.in("VMOVUPS %s, %d(DI)", value, column*64+part*v.bytes)
		}
	}
	g.in("ADDQ $%d, R8", c.unit()*4)
	g.in("ADDQ $%d, SI", bytes)
	g.in("ADDQ $%d, DI", c.unit()*64)
	g.in("SUBQ $%d, CX", c.unit())
	g.in("JNZ %s", loop)
	g.ret()
}

// levels loads the constants of a kind and returns what emits the levels of a column into the first registers.
func (g *generator) levels(v isa, c code) func(column int) {
	n := v.parts
	word := func(plane, part int) string { return v.r((4+plane)*n + part) } // behind values, other planes, scales and offsets
	spare := func(i int) string { return v.r(4*n + len(c.planes)*n + i) }
	constant := func(i int, name string, bits uint32) string {
		g.in("VBROADCASTSS %s, %s", g.constant(name, bits), spare(i))
		return spare(i)
	}
	code := func(column, part int) { g.code(v, c, column, part, word) }
	switch {
	case c.float8:
		mask, factor := constant(0, "maskE4M3", 0x87f00000), constant(1, "factorE4M3", math.Float32bits(0x1p120))
		step, nan := constant(2, "stepE4M3", 0x00200000), spare(3)
		return func(column int) {
			for part := range n {
				value := v.r(part)
				g.word(v, c, column, 0, part, word)
				g.in("VMOVAPS %s, %s", g.shift(column%4*8-24, word(0, part), value), value)
				g.in("VPSRAD $4, %s, %s", value, value)
				g.in("%s", v.and(mask, value, value))
				g.in("VPSLLD $1, %s, %s", value, nan) // without the sign
				g.in("VPADDD %s, %s, %s", step, nan, nan)
				g.in("VPSLLD $3, %s, %s", nan, nan) // the highest bit is that of a carry, which a NaN alone has
				g.in("VPSRAD $31, %s, %s", nan, nan)
				g.in("VMULPS %s, %s, %s", factor, value, value)
				g.in("%s", v.or(nan, value, value))
			}
		}
	case c.levels != nil && v.suffix == "AVX512":
		g.in("VMOVUPS %s, %s", g.numbers("levels"+c.name, c.levels[:]), spare(0))
		return func(column int) {
			code(column, 0)
			g.in("VPERMPS %s, %s, %s", spare(0), v.r(0), v.r(0))
		}
	case c.levels != nil:
		g.in("VMOVUPS %s, %s", g.numbers("low"+c.name, c.levels[:8]), spare(0))
		g.in("VMOVUPS %s, %s", g.numbers("high"+c.name, c.levels[8:]), spare(1))
		return func(column int) {
			for part := range n {
				value, low, high := v.r(part), spare(2), spare(3)
				code(column, part)
				g.in("VPERMPS %s, %s, %s", spare(0), value, low)
				g.in("VPERMPS %s, %s, %s", spare(1), value, high)
				g.in("VPSLLD $28, %s, %s", value, value)
				g.in("VBLENDVPS %s, %s, %s, %s", value, high, low, value)
			}
		}
	}
	return func(column int) {
		for part := range n {
			code(column, part)
			g.in("VCVTDQ2PS %s, %s", v.r(part), v.r(part))
		}
	}
}

// word loads the word of a column of a plane where it is the first to need it.
func (g *generator) word(v isa, c code, column, plane, part int, word func(plane, part int) string) {
	offset := 0
	for _, bits := range c.planes[:plane] {
		offset += c.unit() * bits * 2
	}
	if each := 32 / c.planes[plane]; column%each == 0 {
		g.in("VMOVUPS %d(SI), %s", offset+column/each*64+part*v.bytes, word(plane, part))
	}
}

// code emits the integer of a column into the first registers.
func (g *generator) code(v isa, c code, column, part int, word func(plane, part int) string) {
	value, other := v.r(part), v.r(v.parts+part)
	up := 0
	for plane, bits := range c.planes {
		g.word(v, c, column, plane, part, word)
		to := value
		if plane > 0 {
			to = other
		}
		mask := g.constant(fmt.Sprintf("mask%dat%d", bits, up), (1<<bits-1)<<up)
		from := g.shift(column%(32/bits)*bits-up, word(plane, part), to)
		if v.suffix == "AVX512" {
			g.in("VPANDD.BCST %s, %s, %s", mask, from, to)
		} else {
			g.in("VPAND %s, %s, %s", mask, from, to)
		}
		if plane > 0 {
			g.in("%s", v.or(other, value, value))
		}
		up += bits
	}
}

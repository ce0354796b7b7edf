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
	if v.regs == 32 {
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

// codes emits the functions of every kind.
func (g *generator) codes(v isa) {
	for _, c := range codeKinds {
		g.widenCodes(v, c, "codes", min(c.unit(), 16))
		mixed := c.unit() == 8 && c.levels == nil
		if mixed {
			g.widenCodes(v, c, "mixed", 1)
		}
		for panels := 1; panels <= v.regs/16; panels++ {
			g.gemvCodes(v, c, "gemv", min(c.unit(), 16), panels)
			if mixed {
				g.gemvCodes(v, c, "gemvMixed", 1, panels)
			}
		}
	}
}

// bytes are those of a block.
func (c code) bytes() (n int) {
	for _, bits := range c.planes {
		n += c.unit() * bits * 2
	}
	return n
}

// reader is the register plan of a function that reads codes of one or two panels. The planes' words of a block are loaded when
// they are needed, scales and offsets every run columns.
type reader struct {
	*generator
	v         isa
	c         code
	panels    int
	next      int // register that is not taken yet
	value     []string
	scale     []string
	offset    []string
	words     [][]string // by plane
	constants []string
	spare     []string
}

// Where codes, scales and offsets of the panels are.
var codeBase, scaleBase, offsetBase = []string{"SI", "R12"}, []string{"R9", "R11"}, []string{"R10", "R13"}

// take takes registers.
func (r *reader) take(n int) (registers []string) {
	for range n {
		registers = append(registers, r.v.r(r.next))
		r.next++
	}
	return registers
}

// newReader takes the registers and loads the constants of a kind. Of the panels' registers, those of a panel's parts stand
// beside each other.
func (g *generator) newReader(v isa, c code, panels, taken int) *reader {
	r := &reader{generator: g, v: v, c: c, panels: panels, next: taken}
	n := panels * v.parts
	r.value, r.scale, r.offset = r.take(n), r.take(n), r.take(n)
	for range c.planes {
		r.words = append(r.words, r.take(n))
	}
	constant := func(name string, bits uint32) {
		r.constants = append(r.constants, r.take(1)...)
		g.in("VBROADCASTSS %s, %s", g.constant(name, bits), r.constants[len(r.constants)-1])
	}
	numbers := func(name string, values []float32) {
		r.constants = append(r.constants, r.take(1)...)
		g.in("VMOVUPS %s, %s", g.numbers(name+c.name, values), r.constants[len(r.constants)-1])
	}
	switch {
	case c.float8:
		constant("maskE4M3", 0x87f00000)
		constant("factorE4M3", math.Float32bits(0x1p120))
	case c.levels != nil && v.suffix == "AVX512":
		numbers("levels", c.levels[:])
	case c.levels != nil:
		numbers("low", c.levels[:8])
		numbers("high", c.levels[8:])
		r.spare = r.take(2)
	case len(c.planes) > 1:
		r.spare = r.take(1)
	}
	return r
}

// column emits the levels of a column of the block of one panel into its values, and before them scales and offsets if they may
// change.
func (r *reader) column(column, panel, run int) {
	for part := range r.v.parts {
		i := panel*r.v.parts + part
		if column%run == 0 {
			r.in("VMOVUPS %d(%s)(AX*1), %s", part*r.v.bytes, scaleBase[panel], r.scale[i])
			r.in("VMOVUPS %d(%s)(AX*1), %s", part*r.v.bytes, offsetBase[panel], r.offset[i])
		}
		at := 0
		for plane, bits := range r.c.planes {
			if each := 32 / bits; column%each == 0 {
				r.in("VMOVUPS %d(%s), %s", at+column/each*64+part*r.v.bytes, codeBase[panel], r.words[plane][i])
			}
			at += r.c.unit() * bits * 2
		}
		r.level(column, i)
	}
}

// level emits the level of one register of values.
func (r *reader) level(column, i int) {
	value := r.value[i]
	switch {
	case r.c.float8: // sign, exponent and fraction as float32 has them, but for its bias; what is none is so by its scale
		r.in("VMOVAPS %s, %s", r.shift(column%4*8-24, r.words[0][i], value), value)
		r.in("VPSRAD $4, %s, %s", value, value)
		r.in("%s", r.v.and(r.constants[0], value, value))
		r.in("VMULPS %s, %s, %s", r.constants[1], value, value)
	case r.c.levels != nil && r.v.suffix == "AVX512":
		from := r.shift(column%8*4, r.words[0][i], value) // the lowest four bits count
		r.in("VPERMPS %s, %s, %s", r.constants[0], from, value)
	case r.c.levels != nil:
		from := r.shift(column%8*4, r.words[0][i], value)
		r.in("VPERMPS %s, %s, %s", r.constants[0], from, r.spare[0])
		r.in("VPERMPS %s, %s, %s", r.constants[1], from, r.spare[1])
		r.in("VPSLLD $28, %s, %s", from, value)
		r.in("VBLENDVPS %s, %s, %s, %s", value, r.spare[1], r.spare[0], value)
	default:
		up := 0
		for plane, bits := range r.c.planes {
			to := value
			if plane > 0 {
				to = r.spare[0]
			}
			from := r.shift(column%(32/bits)*bits-up, r.words[plane][i], to)
			mask := r.constant(fmt.Sprintf("mask%dat%d", bits, up), (1<<bits-1)<<up)
			if r.v.suffix == "AVX512" {
				r.in("VPANDD.BCST %s, %s, %s", mask, from, to)
			} else {
				r.in("VPAND %s, %s, %s", mask, from, to)
			}
			if plane > 0 {
				r.in("%s", r.v.or(to, value, value))
			}
			up += bits
		}
		r.in("VCVTDQ2PS %s, %s", value, value)
	}
}

// block emits the loop over the blocks of CX columns: body behind the levels of each column, and next behind a block.
func (r *reader) block(run int, before, body func(column int), next func()) {
	loop := r.label("block")
	r.at(loop)
	for o := 0; o < r.c.bytes(); o += 64 {
		for panel := range r.panels {
			r.in("PREFETCHT0 %d(%s)", prefetchBytes+o, codeBase[panel])
		}
	}
	for column := range r.c.unit() {
		if column%run == 0 {
			r.in("MOVLQSX %d(R8), AX", column*4)
		}
		before(column)
		for panel := range r.panels {
			r.column(column, panel, run)
		}
		body(column)
	}
	r.in("ADDQ $%d, R8", r.c.unit()*4)
	for panel := range r.panels {
		r.in("ADDQ $%d, %s", r.c.bytes(), codeBase[panel])
	}
	next()
	r.in("SUBQ $%d, CX", r.c.unit())
	r.in("JNZ %s", loop)
}

// prefetchNext asks for lines behind the CX columns at SI: scales are widened a few at a time, and the next ones soon.
func (g *generator) prefetchNext(columnBytes, lines int) {
	g.in("MOVQ CX, AX")
	g.in("IMULQ $%d, AX", columnBytes)
	for i := range lines {
		g.in("PREFETCHT0 %d(SI)(AX*1)", i*64)
	}
}

// widenCodes emits a codesFunc.
func (g *generator) widenCodes(v isa, c code, name string, run int) {
	g.function(name+c.name+v.suffix, "is a codesFunc.",
		"dst *float32, w *byte, scales *float32, offsets *float32, index *int32, base int, k int", "")
	g.enter("%s[codes.%s]", name, c.name)
	g.load("dst", "DI", "w", "SI", "scales", "R9", "offsets", "R10", "index", "R8", "base", "AX", "k", "CX")
	g.in("SUBQ AX, R9")
	g.in("SUBQ AX, R10")
	if c.unit() == 8 {
		g.prefetchNext(c.bytes()/8, 4)
	}
	r := g.newReader(v, c, 1, 0)
	r.block(run, func(int) {}, func(column int) {
		for part, value := range r.value {
			g.in("VFMADD213PS %s, %s, %s", r.offset[part], r.scale[part], value)
			g.in("VMOVUPS %s, %d(DI)", value, column*64+part*v.bytes)
		}
	}, func() { g.in("ADDQ $%d, DI", c.unit()*64) })
	g.ret()
}

// gemvCodes emits a gemvCodesFunc.
func (g *generator) gemvCodes(v isa, c code, name string, run, panels int) {
	g.function(fmt.Sprintf("%s%d%s%s", name, panels, c.name, v.suffix), "is a gemvCodesFunc.",
		"out *float32, x *float32, w *byte, panelBytes int, scales *float32, offsets *float32, scaleStride int, index *int32, base int, "+
			"k int", "")
	place := "gemvCodes"
	if run == 1 {
		place = "gemvMixed"
	}
	g.enter("%s[codes.%s][%d]", place, c.name, panels)
	g.load("out", "DI", "x", "DX", "w", "SI", "panelBytes", "R12", "scales", "R9", "offsets", "R10", "scaleStride", "BX", "index", "R8",
		"base", "AX", "k", "CX")
	g.in("SUBQ AX, R9")
	g.in("SUBQ AX, R10")
	if panels > 1 {
		g.in("ADDQ SI, R12")
		g.in("MOVQ R9, R11")
		g.in("ADDQ BX, R11")
		g.in("MOVQ R10, R13")
		g.in("ADDQ BX, R13")
	}
	t := tile{v, 1, panels}
	x := v.r(t.free())
	g.sumsOf(t, false)
	r := g.newReader(v, c, panels, t.free()+1)
	r.block(run, func(column int) { g.in("VBROADCASTSS %d(DX), %s", column*4, x) }, func(column int) {
		for i, value := range r.value {
			g.in("VFMADD213PS %s, %s, %s", r.offset[i], r.scale[i], value)
			g.in("VFMADD231PS %s, %s, %s", value, x, t.acc(0, i/v.parts, i%v.parts))
		}
	}, func() { g.in("ADDQ $%d, DX", c.unit()*4) })
	g.sumsOf(t, true)
	g.ret()
}

// sumsOf moves the accumulators of one row from or to DI.
func (g *generator) sumsOf(t tile, store bool) {
	for p := range t.panels {
		for part := range t.v.parts {
			m := fmt.Sprintf("%d(DI)", p*64+part*t.v.bytes)
			if store {
				g.in("VMOVUPS %s, %s", t.acc(0, p, part), m)
			} else {
				g.in("VMOVUPS %s, %s", m, t.acc(0, p, part))
			}
		}
	}
}

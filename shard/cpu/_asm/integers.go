package main

import (
	"fmt"
	"strings"
)

// integerForm is a layout of blocks of 32 columns as package cpu has it: scales, and behind them planes of the codes' bits.
type integerForm struct {
	number string // in package cpu, as an index of its list
	code   code
	group  int
	scales string // as package cpu calls it
	bias   int
}

var integerForms = []integerForm{
	form(0, "Bits8", 32, "wideScale"), form(1, "Bits8", 32, "widePair"), form(2, "Bits8", 16, "wideScale"),
	form(3, "Bits8", 16, "widePair"), form(4, "Bits8", 32, "halfScale"), form(5, "Bits4", 32, "halfScale"),
	form(6, "Bits4", 32, "halfPair"), form(7, "Bits4", 32, "nestedPair"), form(8, "Bits5", 32, "nestedPair"),
	form(9, "Bits6", 16, "nestedOne"), form(10, "Bits2", 16, "nestedPair"), form(11, "Bits3", 16, "nestedOne"),
	form(12, "Bits5", 32, "halfScale"), form(13, "Bits5", 32, "halfPair"), form(14, "NonLinear4", 32, "halfScale"),
	form(15, "NonLinear4", 32, "nestedOne"), form(16, "FP4", 32, "wideScale"), form(17, "Bits2", 32, "widePair"),
	form(18, "Bits3", 32, "widePair"), form(19, "Bits4", 32, "widePair"),
}

// The first wideForms are what the others are widened to, blockForms those up to which tiles of all heights read what they are, and
// fewForms those up to which tiles of two rows do. Tiles of one row do of all.
const wideForms, blockForms, fewForms = 4, 7, 10

func form(number int, kind string, group int, scales string) integerForm {
	for _, c := range codeKinds {
		if c.name == kind {
			bias := 0
			if scales == "nestedOne" {
				if bias = -32; kind == "Bits6" {
					bias = -128
				}
			}
			return integerForm{fmt.Sprint(number), c, group, scales, bias}
		}
	}
	panic(kind)
}

// name is what functions are called by.
func (f integerForm) name() string {
	return fmt.Sprintf("%s%s%d", f.code.name, strings.ToUpper(f.scales[:1])+f.scales[1:], f.group)
}

func (f integerForm) groups() int { return 32 / f.group }
func (f integerForm) pair() bool  { return strings.HasSuffix(f.scales, "Pair") }

// header is the size of the scales.
func (f integerForm) header() int {
	return map[string]int{"halfScale": 32, "halfPair": 64, "nestedOne": 32 + 16*f.groups(), "nestedPair": 64 + 32*f.groups(),
		"wideScale": 64 * f.groups(), "widePair": 128 * f.groups()}[f.scales]
}

func (f integerForm) bits() (n int) {
	for _, bits := range f.code.planes {
		n += bits
	}
	return n
}

func (f integerForm) bytes() int { return f.header() + 64*f.bits() }

// shift says what the negative sum of activations is shifted by to take off what levels have too much; -1: nothing.
func (f integerForm) shift() int {
	switch {
	case f.pair():
		return -1
	case f.code.name == "NonLinear4":
		return 7
	case f.code.name == "FP4":
		return 4
	}
	return f.bits() - 1
}

// dotting is how 4 products of bytes are added up in 32 bits.
type dotting int

const (
	evexDot dotting = iota // VPDPBUSD of AVX512_VNNI
	vexDot                 // the same of AVX-VNNI
	madd                   // nibbles by VPMADDUBSW in 16 bits, whose sums over 32 columns do not overflow: 8 x 2 x 15 x 127
)

// integers are an instruction set with products of integers.
type integerISA struct {
	isa
	dotting dotting
	most    [3]int // rows of tiles of 1, 2 and 4 panels
}

var (
	vnni512     = integerISA{isa{"AVX512VNNI", "Z", 1, 64, 32}, evexDot, [3]int{6, 6, 3}}
	integers512 = integerISA{isa{"AVX512Integers", "Z", 1, 64, 32}, madd, [3]int{4, 4, 2}}
	vnni256     = integerISA{isa{"AVXVNNI", "Y", 2, 32, 16}, vexDot, [3]int{3, 1, 0}}
	integers256 = integerISA{isa{"AVX2Integers", "Y", 2, 32, 16}, madd, [3]int{2, 0, 0}}
)

// integerTiles emits the tiles of an instruction set.
func (g *generator) integerTiles(v integerISA) {
	for i, f := range integerForms {
		for at, most := range v.most {
			for rows := 1; rows <= most; rows++ {
				if i >= wideForms && rows > 1 && v.dotting != evexDot || i >= blockForms && rows > 2 || i >= fewForms && rows > 1 {
					continue // what is widened is nearly as fast
				}
				t := &integerTile{generator: g, tile: tile{v.isa, rows, 1 << at}, f: f, dotting: v.dotting}
				t.emit()
			}
		}
	}
}

// integerTile is a tileFunc over a form: sums of floats, behind them those of integers, of codes of more than 4 bits those of the
// low and of the high nibbles where dotting wants that, and registers for work.
type integerTile struct {
	*generator
	tile
	f       integerForm
	dotting dotting
}

// integer is the register of a sum of integers; high: of the high nibbles.
func (t *integerTile) integer(r, p, part, high int) string {
	n := t.free()
	return t.v.r(n + high*n + (r*t.panels+p)*t.v.parts + part)
}

// halves are how many sums of integers there are.
func (t *integerTile) halves() int {
	if t.dotting == madd && (t.f.bits() > 4 || t.f.code.levels != nil) {
		return 2
	}
	return 1
}

// work is a register for work.
func (t *integerTile) work(i int) string { return t.v.r(t.free()*(1+t.halves()) + i) }

// x is where a word of a row's activations lies.
func x(r, word int) string { return fmt.Sprintf("%d(SI)", r*64+word*4) }

func (t *integerTile) emit() {
	g, f := t.generator, t.f
	g.function(fmt.Sprintf("tile%dx%d%s%s", t.tile.rows, t.panels, f.name(), t.v.suffix), "is a tileFunc.",
		tileParameters, "")
	g.enter("integerTile[%s][%d][%d]", f.number, t.panels/2, t.tile.rows)
	g.tileArguments(t.tile)
	ahead := g.aheadOf(t.panels)
	loop := g.label("block")
	g.in("SHRQ $5, CX")
	g.at(loop)
	for group := range f.groups() {
		t.clear(group)
		for word := group * f.group / 4; word < (group+1)*f.group/4; word++ {
			t.products(word)
		}
		t.scale(group)
	}
	lines := (f.bytes() + 63) / 64
	for p := range t.panels {
		for o := range lines {
			if t.tile.rows == 1 {
				g.in("PREFETCHT0 %d(%s)", prefetchBytes+o*64, panelBase[p])
			} else {
				g.in("PREFETCHT1 %d%s", o*64, ahead[p])
			}
		}
		g.in("ADDQ $%d, %s", f.bytes(), panelBase[p])
	}
	g.in("ADDQ $%d, R10", f.bytes())
	g.in("ADDQ $%d, SI", t.tile.rows*64)
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.rowSums(t.tile, true)
	g.ret()
}

// sumWord is the word of the negative sums of activations of a group, and zWord that of d times the sum.
func (f integerForm) sumWord(group int) int { return map[int]int{32: 9, 16: 11 + group}[f.group] }
func (f integerForm) zWord(group int) int   { return map[int]int{32: 10, 16: 13 + group}[f.group] }

// clear begins the sums of integers.
func (t *integerTile) clear(group int) {
	for r := range t.tile.rows {
		for p := range t.panels {
			for part := range t.v.parts {
				sum := t.integer(r, p, part, 0)
				if shift := t.f.shift(); t.dotting == evexDot && shift >= 0 {
					t.in("VPSLLD.BCST $%d, %s, %s", shift, x(r, t.f.sumWord(group)), sum)
					continue
				}
				for high := range t.halves() {
					t.clearRegister(t.v, t.integer(r, p, part, high))
				}
				if shift := t.f.shift(); t.dotting == vexDot && shift >= 0 {
					t.in("VPBROADCASTD %s, %s", x(r, t.f.sumWord(group)), sum)
					t.in("VPSLLD $%d, %s, %s", shift, sum, sum)
				}
			}
		}
	}
}

// masked ands with repeated bytes.
func (g *generator) masked(v isa, mask int, src, dst string) {
	name := g.constant(fmt.Sprintf("bytes%02x", mask), uint32(mask)*0x01010101)
	if v.regs == 32 {
		g.in("VPANDD.BCST %s, %s, %s", name, src, dst)
	} else {
		g.in("VPAND %s, %s, %s", name, src, dst)
	}
}

// levels emits the load of a word of levels, with the base that they have, of a panel into a register; other is for work.
func (g *generator) levels(v isa, f integerForm, word, p, part int, to, other string) {
	at, up := f.header()+part*v.bytes, 0
	for i, bits := range f.code.planes {
		fields := 8 / bits
		down, dst := word%fields*bits-up, to
		if i > 0 {
			dst = other
		}
		g.in("VMOVDQU%s %d(%s), %s", wideSuffix(v), at+word/fields*64, panelBase[p], dst)
		if bits < 8 {
			g.shift(down, dst, dst)
			g.masked(v, (1<<bits-1)<<up, dst, dst)
		}
		if i > 0 {
			g.in("%s", v.or(other, to, to))
		}
		at, up = at+64*bits, up+bits
	}
	if f.code.levels != nil {
		base := float32(int(1) << f.shift())
		var bytes [16]byte
		for i, level := range f.code.levels {
			bytes[i] = byte(level + base)
		}
		g.in("VBROADCAST%s %s, %s", map[int]string{16: "I128", 32: "I32X4"}[v.regs], g.bytes16("bytes"+f.code.name, bytes), other)
		g.in("VPSHUFB %s, %s, %s", to, other, to)
	}
}

// wideSuffix tells moves of whole registers apart.
func wideSuffix(v isa) string {
	if v.regs == 32 {
		return "32"
	}
	return ""
}

// bytes16 declares 16 bytes.
func (g *generator) bytes16(name string, values [16]byte) string {
	symbol := name + "<>"
	if !g.data[symbol] {
		g.data[symbol] = true
		var b strings.Builder
		for i := 0; i < 16; i += 4 {
			fmt.Fprintf(&b, "DATA %s+%d(SB)/4, $0x%02x%02x%02x%02x\n", symbol, i, values[i+3], values[i+2], values[i+1], values[i])
		}
		fmt.Fprintf(&b, "GLOBL %s(SB), RODATA|NOPTR, $16\n", symbol)
		g.order = append(g.order, b.String())
	}
	return symbol + "(SB)"
}

// products emits those of a word of levels.
func (t *integerTile) products(word int) {
	v := t.v
	if t.dotting == evexDot {
		for p := range t.panels {
			t.levels(v, t.f, word, p, 0, t.work(p), t.work(t.panels))
		}
		for r := range t.tile.rows {
			if t.panels == 1 {
				t.in("VPDPBUSD.BCST %s, %s, %s", x(r, word), t.work(0), t.integer(r, 0, 0, 0))
				continue
			}
			b := t.work(t.panels + r%2)
			t.in("VPBROADCASTD %s, %s", x(r, word), b)
			for p := range t.panels {
				t.in("VPDPBUSD %s, %s, %s", b, t.work(p), t.integer(r, p, 0, 0))
			}
		}
		return
	}
	for p := range t.panels {
		for part := range v.parts {
			t.levels(v, t.f, word, p, part, t.work(0), t.work(1))
			if t.dotting == vexDot {
				for r := range t.tile.rows {
					t.in("VPBROADCASTD %s, %s", x(r, word), t.work(1))
					t.vexDot(t.work(1), t.work(0), t.integer(r, p, part, 0))
				}
				continue
			}
			t.nibbles(word, p, part)
		}
	}
}

// nibbles emits the products of a word of levels by halves, which are in the first register for work.
func (t *integerTile) nibbles(word, p, part int) {
	for high := range t.halves() {
		nibbles := t.work(0)
		if t.halves() > 1 {
			nibbles = t.work(1)
			t.masked(t.v, 15, t.shift(4*high, t.work(0), nibbles), nibbles)
		}
		for r := range t.tile.rows {
			t.in("VPBROADCASTD %s, %s", x(r, word), t.work(2))
			t.in("VPMADDUBSW %s, %s, %s", t.work(2), nibbles, t.work(2))
			sum := t.integer(r, p, part, high)
			t.in("VPADDW %s, %s, %s", t.work(2), sum, sum)
		}
	}
}

// vexDot emits VPDPBUSD of AVX-VNNI, which Go's assembler does not know: VEX.256.66.0F38.W0 50 (Intel's manual, volume 2). The
// tests that interpret this file read the comment.
func (g *generator) vexDot(x, w, sum string) {
	number := func(register string) (n int) {
		fmt.Sscanf(register[1:], "%d", &n)
		return n
	}
	a, b, c := number(x), number(w), number(sum)
	for _, code := range []int{0xc4, ^c>>3&1<<7 | 1<<6 | ^a>>3&1<<5 | 2, ^b&15<<3 | 1<<2 | 1, 0x50, 3<<6 | c&7<<3 | a&7} {
		fmt.Fprintf(&g.asm, "BYTE $0x%02x; ", code)
	}
	fmt.Fprintf(&g.asm, "// VPDPBUSD %s, %s, %s\n", x, w, sum)
}

// scale adds the sums of integers of a group, times their scales.
func (t *integerTile) scale(group int) {
	v := t.v
	d, m, dx, s := t.work(0), t.work(1), t.work(2), t.work(3)
	for p := range t.panels {
		for part := range v.parts {
			t.groupScale(v, t.f, panelBase[p], group, part, d, m, s)
			for r := range t.tile.rows {
				sum, total := t.integer(r, p, part, 0), t.acc(r, p, part)
				if t.dotting == madd {
					t.joinHalves(r, p, part, group, s)
				}
				t.in("VBROADCASTSS %s, %s", x(r, 8), dx)
				t.in("VMULPS %s, %s, %s", d, dx, s)
				t.in("VCVTDQ2PS %s, %s", sum, sum)
				t.in("VFMADD231PS %s, %s, %s", s, sum, total)
				if t.f.pair() {
					t.in("VBROADCASTSS %s, %s", x(r, t.f.zWord(group)), dx)
					t.in("VFMADD231PS %s, %s, %s", dx, m, total)
				}
			}
		}
	}
}

// joinHalves makes 32 bits of sums of nibbles.
func (t *integerTile) joinHalves(r, p, part, group int, work string) {
	sum := t.integer(r, p, part, 0)
	factors := func(factor int) string {
		if t.v.regs == 32 {
			t.in("VPBROADCASTD %s, %s", t.constant(fmt.Sprintf("words%d", factor), uint32(factor)*0x10001), work)
			return work
		}
		return t.constant(fmt.Sprintf("words%d", factor), uint32(factor)*0x10001)
	}
	t.in("VPMADDWD %s, %s, %s", factors(1), sum, sum)
	if t.halves() > 1 {
		high := t.integer(r, p, part, 1)
		t.in("VPMADDWD %s, %s, %s", factors(16), high, high)
		t.in("VPADDD %s, %s, %s", high, sum, sum)
	}
	if shift := t.f.shift(); shift >= 0 {
		t.in("VPBROADCASTD %s, %s", x(r, t.f.sumWord(group)), work)
		t.in("VPSLLD $%d, %s, %s", shift, work, work)
		t.in("VPADDD %s, %s, %s", work, sum, sum)
	}
}

// groupScale loads the scale of a group into d and its offset, if there are any, into m; s is for work.
func (g *generator) groupScale(v isa, f integerForm, base string, group, part int, d, m, s string) {
	nested := func(half, code int, to string) {
		g.in("VCVTPH2PS %d(%s), %s", half+part*v.bytes/2, base, to)
		g.in("VPMOVZXBD %d(%s), %s", code+16*group+part*v.bytes/4, base, s)
		if f.bias != 0 {
			name := g.constant(fmt.Sprintf("less%d", -f.bias), uint32(-f.bias))
			if v.regs == 32 {
				g.in("VPSUBD.BCST %s, %s, %s", name, s, s)
			} else {
				g.in("VPSUBD %s, %s, %s", name, s, s)
			}
		}
		g.in("VCVTDQ2PS %s, %s", s, s)
		g.in("VMULPS %s, %s, %s", s, to, to)
	}
	switch f.scales {
	case "halfScale", "halfPair":
		g.in("VCVTPH2PS %d(%s), %s", part*v.bytes/2, base, d)
		if f.pair() {
			g.in("VCVTPH2PS %d(%s), %s", 32+part*v.bytes/2, base, m)
		}
	case "nestedOne":
		nested(0, 32, d)
	case "nestedPair":
		nested(0, 64, d)
		nested(32, 64+16*f.groups(), m)
	default:
		g.in("VMOVUPS %d(%s), %s", group*64+part*v.bytes, base, d)
		if f.pair() {
			g.in("VMOVUPS %d(%s), %s", (f.groups()+group)*64+part*v.bytes, base, m)
		}
	}
}

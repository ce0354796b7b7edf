package main

import (
	"cmp"
	"fmt"
)

// tile is the register plan of a block of rows x panels accumulators. Either
// the weights of a column stay in registers while x is broadcast row by row,
// or, where registers are short, the other way round.
type tile struct {
	v            isa
	rows, panels int
}

func (t tile) acc(r, p, part int) string {
	return t.v.r((r*t.panels+p)*t.v.parts + part)
}

func (t tile) free() int { return t.rows * t.panels * t.v.parts }

// loader emits the load of one register of weights of column i of a step.
type loader func(i, p, part int, dst string)

// column emits the multiply-adds of one column. w sets a register to weights,
// x(r) is a memory operand.
func (g *generator) column(t tile, w func(p, part int, dst string), x func(r int) string) {
	v := t.v
	if n := t.free() + t.panels*v.parts; n < v.regs {
		for p := range t.panels {
			for part := range v.parts {
				w(p, part, v.r(t.free()+p*v.parts+part))
			}
		}
		for r := range t.rows {
			// Rows take turns over the registers that are left.
			b := v.r(n + r%min(v.regs-n, 4))
			g.in("VBROADCASTSS %s, %s", x(r), b)
			for p := range t.panels {
				for part := range v.parts {
					g.in("VFMADD231PS %s, %s, %s", v.r(t.free()+p*v.parts+part), b, t.acc(r, p, part))
				}
			}
		}
		return
	}
	for r := range t.rows {
		g.in("VBROADCASTSS %s, %s", x(r), v.r(t.free()+r))
	}
	last := v.r(t.free() + t.rows)
	for p := range t.panels {
		for part := range v.parts {
			w(p, part, last)
			for r := range t.rows {
				g.in("VFMADD231PS %s, %s, %s", last, v.r(t.free()+r), t.acc(r, p, part))
			}
		}
	}
}

// pair emits the products of a pair of columns, by VDPBF16PS.
func (g *generator) pair(t tile, i int, x func(r int) string) {
	w := func(p int) string { return t.v.r(t.free() + p) }
	for p := range t.panels {
		g.in("VMOVUPS %d(%s), %s", i*64, panelBase[p], w(p))
	}
	first := t.free() + t.panels
	for r := range t.rows {
		b := first + r%min(t.v.regs-first, 4)
		g.in("VBROADCASTSS %s, %s", x(r), t.v.r(b))
		for p := range t.panels {
			g.dot(b, t.free()+p, r*t.panels+p)
		}
	}
}

// dot emits VDPBF16PS on 512-bit registers, which Go's assembler does not know: EVEX.512.F3.0F38.W0 52 (Intel's manual, volume
// 2). The tests that interpret this file read the comment.
func (g *generator) dot(x, w, sum int) {
	inverted := func(register, bit int) int { return ^register >> bit & 1 }
	bytes := []int{0x62,
		inverted(sum, 3)<<7 | inverted(x, 4)<<6 | inverted(x, 3)<<5 | inverted(sum, 4)<<4 | 2,
		^w&15<<3 | 1<<2 | 2,
		2<<5 | inverted(w, 4)<<3,
		0x52,
		3<<6 | sum&7<<3 | x&7}
	for _, b := range bytes {
		fmt.Fprintf(&g.asm, "BYTE $0x%02x; ", b)
	}
	fmt.Fprintf(&g.asm, "// VDPBF16PS Z%d, Z%d, Z%d\n", x, w, sum)
}

// storage is how a tile reads weights: the bytes of a column of one panel, and
// the unit of columns that load handles. The columns of a unit are summed from
// the last one to the first where that is so, and then a chain knows no
// numbers below the normal ones (flush).
type storage struct {
	name        string
	columnBytes int
	unit        int
	load        func(g *generator, v isa) loader
	flush       bool
	dot         bool // a column is a pair, which one instruction multiplies
}

var panelBase = []string{"DX", "R11", "R13", "R9"}

var storages = []storage{
	{name: "F32", columnBytes: 64, unit: 1, load: func(g *generator, v isa) loader {
		return func(i, p, part int, dst string) {
			g.in("VMOVUPS %d(%s), %s", i*64+part*v.bytes, panelBase[p], dst)
		}
	}},
	{name: "F16", columnBytes: 32, unit: 1, load: func(g *generator, v isa) loader {
		return func(i, p, part int, dst string) {
			g.in("VCVTPH2PS %d(%s), %s", i*32+part*v.bytes/2, panelBase[p], dst)
		}
	}},
	{name: "BF16", columnBytes: 32, unit: 2, load: func(g *generator, v isa) loader {
		mask := g.constant("maskHigh", 0xffff0000)
		return func(i, p, part int, dst string) {
			g.in("VMOVUPS %d(%s), %s", i/2*64+part*v.bytes, panelBase[p], dst)
			switch {
			case i%2 == 0:
				g.in("VPSLLD $16, %s, %s", dst, dst)
			case v.suffix == "AVX512": // clears the low half without a mask
				g.in("VPSRLD $16, %s, %s", dst, dst)
				g.in("VPSLLD $16, %s, %s", dst, dst)
			default:
				g.in("VPAND %s, %s, %s", mask, dst, dst)
			}
		}
	}},
}

// rounded are how a tile reads BF16 for activations that are rounded to it, without and with VDPBF16PS.
var rounded, dotted = storage{name: "BF16Dot", columnBytes: 32, unit: 2, load: storages[2].load, flush: true},
	storage{name: "BF16Dot", columnBytes: 64, unit: 1, load: storages[0].load, flush: true, dot: true}

// columns emits the loop over CX columns: x in SI, weights in DX and, for the
// second panel, R11. Each step of 4 columns also emits ahead. It clobbers CX,
// BX, SI, DX, R11.
func (g *generator) columns(t tile, s storage, ahead func()) {
	loop, rest, one, done := g.label("loop"), g.label("rest"), g.label("one"), g.label("done")
	load := s.load(g, t.v)
	step := func(i int) {
		x := func(r int) string { return fmt.Sprintf("%d(SI)", r*16+i*4) }
		if s.dot {
			g.pair(t, i, x)
			return
		}
		g.column(t, func(p, part int, dst string) { load(i, p, part, dst) }, x)
	}
	steps := func(n int) {
		for i := range n {
			if s.flush { // the last one of a unit first
				i ^= s.unit - 1
			}
			step(i)
		}
	}
	advance := func(n, x int) {
		g.in("ADDQ $%d, SI", x)
		for p := range t.panels {
			g.in("ADDQ $%d, %s", n*s.columnBytes, panelBase[p])
		}
	}
	g.in("MOVQ CX, BX")
	g.in("ANDQ $3, BX")
	g.in("SHRQ $2, CX")
	g.in("JZ %s", rest)
	g.at(loop)
	steps(4)
	ahead()
	advance(4, t.rows*16)
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.at(rest)
	g.in("SUBQ $%d, BX", s.unit)
	g.in("JL %s", done)
	g.at(one)
	steps(s.unit)
	advance(s.unit, 4*s.unit)
	g.in("SUBQ $%d, BX", s.unit)
	g.in("JGE %s", one)
	g.at(done)
	if s.unit == 2 && !s.flush { // a last odd column
		end := g.label("end")
		g.in("CMPQ BX, $-2")
		g.in("JE %s", end)
		step(0)
		g.at(end)
	}
}

// sums moves the accumulators from or to memory at the given registers.
func (g *generator) sums(t tile, store bool, bases ...string) {
	for p := range t.panels {
		for r := range t.rows {
			for part := range t.v.parts {
				m := fmt.Sprintf("%d(%s)", r*64+part*t.v.bytes, bases[p])
				if store {
					g.in("VMOVUPS %s, %s", t.acc(r, p, part), m)
				} else {
					g.in("VMOVUPS %s, %s", m, t.acc(r, p, part))
				}
			}
		}
	}
}

func (g *generator) zero(t tile) {
	for i := range t.free() {
		g.clearRegister(t.v, t.v.r(i))
	}
}

func (g *generator) clearRegister(v isa, register string) {
	if v.regs == 32 {
		g.in("VPXORD %s, %s, %s", register, register, register)
	} else {
		g.in("VXORPS %s, %s, %s", register, register, register)
	}
}

// tiles emits the tiles over numbers of one and two panels.
func (g *generator) tiles(v isa) {
	most := []int{6, 3}
	if v.regs == 32 {
		most = []int{12, 12}
	}
	for i, most := range most {
		for rows := 2; rows <= most; rows++ {
			for _, s := range storages {
				g.numbersTile(tile{v, rows, i + 1}, s)
			}
		}
	}
	g.dotTiles(v, rounded)
}

// dotTiles emits the tiles over BF16 for activations that are rounded to it, also of one row and of four panels.
func (g *generator) dotTiles(v isa, s storage) {
	for panels := 1; panels <= 4; panels *= 2 {
		most := 12
		switch {
		case v.regs == 16:
			most = map[int]int{1: 6, 2: 3, 4: 1}[panels]
		case panels == 4:
			most = 6
		}
		for rows := 1; rows <= most; rows++ {
			g.numbersTile(tile{v, rows, panels}, s)
		}
	}
}

// numbersTile emits a tileFunc over numbers. What is flushed has an even count of columns, the last one of an odd count being 0.
func (g *generator) numbersTile(t tile, s storage) {
	g.tileStart(t, s.name)
	if s.flush {
		g.in("INCQ CX")
		g.in("ANDQ $-2, CX")
	}
	if s.dot {
		g.in("SHRQ $1, CX")
	} else if s.flush {
		g.in("LDMXCSR %s", g.constant("flush", 0x9fc0)) // all exceptions masked, FTZ and DAZ
	}
	streams, step := t.panels, 4*s.columnBytes
	if s.columnBytes > 32 && !s.dot { // half as much: what was widened took no more
		streams, step = 1, step/2
	}
	ahead := g.aheadOf(streams)
	g.columns(t, s, func() {
		for p := range t.panels {
			for o := 0; o < step; o += 64 {
				if t.rows == 1 { // what it reads itself is what it waits for
					g.in("PREFETCHT0 %d(%s)", prefetchBytes+o, panelBase[p])
				} else if p < len(ahead) {
					g.in("PREFETCHT1 %d%s", o, ahead[p])
				}
			}
		}
		g.in("ADDQ $%d, R10", step)
	})
	g.rowSums(t, true)
	if s.flush && !s.dot {
		g.in("LDMXCSR %s", g.constant("noFlush", 0x1f80))
	}
	g.ret()
}

// aheadOf returns where the panels lie that a tile prefetches, as R10 moves on. It takes R12 and AX too.
func (g *generator) aheadOf(panels int) []string {
	g.in("MOVQ ahead+56(FP), R10")
	if panels > 1 {
		g.in("MOVQ aheadStride+64(FP), R12")
		g.in("LEAQ (R12)(R12*2), AX")
	}
	return []string{"(R10)", "(R10)(R12*1)", "(R10)(R12*2)", "(R10)(AX*1)"}[:panels]
}

// tileParameters are those of a tileFunc.
const tileParameters = "c *float32, x *float32, w *byte, k int, cStride int, wStride int, fresh int, ahead *byte, aheadStride int"

// tileStart begins a tileFunc over a format and loads its accumulators.
func (g *generator) tileStart(t tile, format string) {
	g.function(fmt.Sprintf("tile%dx%d%s", t.rows, t.panels, plainName(format)+t.v.suffix), "is a tileFunc.",
		tileParameters, "")
	g.enter("tile[%s][%d][%d]", format, t.panels/2, t.rows)
	g.tileArguments(t)
}

// tileArguments loads those of a tileFunc, and its accumulators or zeros.
func (g *generator) tileArguments(t tile) {
	fresh, begun := g.label("fresh"), g.label("begun")
	g.in("MOVQ fresh+48(FP), AX")
	g.in("TESTQ AX, AX")
	g.in("JNZ %s", fresh)
	g.rowSums(t, false)
	g.in("JMP %s", begun)
	g.at(fresh)
	g.zero(t)
	g.at(begun)
	g.in("MOVQ x+8(FP), SI")
	g.in("MOVQ w+16(FP), DX")
	g.in("MOVQ k+24(FP), CX")
	g.in("MOVQ wStride+40(FP), R11")
	if t.panels > 2 {
		g.in("LEAQ (DX)(R11*2), R13")
		g.in("LEAQ (R13)(R11*1), R9")
	}
	g.in("ADDQ DX, R11")
}

// rowSums moves the accumulators of a tileFunc from or to its rows.
func (g *generator) rowSums(t tile, store bool) {
	g.in("MOVQ c+0(FP), DI")
	g.in("MOVQ cStride+32(FP), R8")
	for r := range t.rows {
		for p := range t.panels {
			for part := range t.v.parts {
				m := fmt.Sprintf("%d(DI)", p*64+part*t.v.bytes)
				if store {
					g.in("VMOVUPS %s, %s", t.acc(r, p, part), m)
				} else {
					g.in("VMOVUPS %s, %s", m, t.acc(r, p, part))
				}
			}
		}
		if r+1 < t.rows {
			g.in("ADDQ R8, DI")
		}
	}
}

// cacheStorages are how a cache's numbers are read, by what CacheType adds to names.
var cacheStorages = []storage{
	{name: "", columnBytes: 64, unit: 1, load: storages[0].load},
	{name: "F16", columnBytes: 32, unit: 1, load: storages[1].load},
	{name: "BF16", columnBytes: 32, unit: 1, load: func(g *generator, v isa) loader {
		return func(i, p, part int, dst string) {
			g.in("VPMOVZXWD %d(%s), %s", i*32+part*v.bytes/2, panelBase[p], dst)
			g.in("VPSLLD $16, %s, %s", dst, dst)
		}
	}},
}

// attention emits the two products over a list of cache blocks.
func (g *generator) attention(v isa) {
	for _, s := range cacheStorages {
		g.attentionOver(v, s)
	}
}

func (g *generator) attentionOver(v isa, s storage) {
	most, both := 6, 3 // rows of a tile over one block or panel, and over two
	if v.regs == 32 {
		most, both = 12, 12
	}
	for rows := 1; rows <= most; rows++ {
		g.scores(v, s, rows, rows <= both)
		g.values(v, s, rows, 1)
		if rows <= both {
			g.values(v, s, rows, 2)
		}
	}
}

// fetchedRows is the most rows of scores that fetch the next keys, and the values, ahead: decode's. The rows of a prompt find them in
// a cache.
const fetchedRows = 8

// scores emits a scoresFunc, which takes two blocks at a time if both: a row's chain in one waits for none in the other.
func (g *generator) scores(v isa, s storage, rows int, both bool) {
	g.function(fmt.Sprintf("scores%d%s", rows, s.name+v.suffix), "is a scoresFunc. count is at least 1.",
		"dst *float32, q *float32, keys *byte, blocks *int32, count int, stride int, k int, beside int", "")
	g.enter("scores[Cache%s][%d]", cmp.Or(s.name, "F32"), rows)
	g.load("dst", "DI", "q", "SI", "keys", "R13", "blocks", "R8", "count", "R9", "stride", "R10", "k", "AX", "beside", "R12")
	blocks := func(n int) {
		t := tile{v, rows, n}
		for i := range n {
			g.keys(i, panelBase[i])
		}
		ahead := []string{"R14", "R15"}
		fetched := n == 2 && rows <= fetchedRows
		if fetched {
			last := g.label("last")
			for i, base := range ahead {
				g.in("MOVQ %s, %s", panelBase[i], base)
			}
			g.in("CMPQ R9, $2")
			g.in("JL %s", last)
			for i, base := range ahead {
				g.keys(2+i, base)
			}
			g.at(last)
		}
		g.in("MOVQ q+8(FP), SI")
		g.in("MOVQ AX, CX")
		g.zero(t)
		g.columns(t, s, func() {
			if !fetched {
				return
			}
			for i, base := range ahead {
				for o := 0; o < 4*s.columnBytes; o += 64 {
					g.in("PREFETCHT0 %d(%s)", o, base)
					g.in("PREFETCHT1 %d(%s)(R12*1)", o, panelBase[i])
				}
				g.in("ADDQ $%d, %s", 4*s.columnBytes, base)
			}
		})
		g.in("LEAQ %d(DI), BX", rows*64)
		g.sums(t, true, "DI", "BX")
		g.in("ADDQ $%d, DI", n*rows*64)
		g.in("ADDQ $%d, R8", n*4)
	}
	loop, one, done := g.label("block"), g.label("one"), g.label("done")
	if both {
		g.in("SUBQ $2, R9")
		g.in("JL %s", one)
		g.at(loop)
		blocks(2)
		g.in("SUBQ $2, R9")
		g.in("JGE %s", loop)
		g.at(one)
		g.in("ADDQ $2, R9")
		g.in("JZ %s", done)
		blocks(1)
		g.at(done)
		g.ret()
		return
	}
	g.at(loop)
	blocks(1)
	g.in("DECQ R9")
	g.in("JNZ %s", loop)
	g.ret()
}

// keys sets base to the keys of the block that is i behind the present one of a scoresFunc.
func (g *generator) keys(i int, base string) {
	g.in("MOVLQSX %d(R8), %s", i*4, base)
	g.in("IMULQ R10, %s", base)
	g.in("ADDQ R13, %s", base)
}

// values emits a valuesFunc over panels of 16 dimensions.
func (g *generator) values(v isa, s storage, rows, panels int) {
	t := tile{v, rows, panels}
	loop := g.label("block")
	g.function(fmt.Sprintf("values%dx%d%s", rows, panels, s.name+v.suffix), "is a valuesFunc. count is at least 1.",
		"c *float32, p *float32, values *byte, blocks *int32, count int, stride int", "")
	g.enter("values[Cache%s][%d][%d]", cmp.Or(s.name, "F32"), panels-1, rows)
	g.load("c", "DI", "p", "SI", "values", "R13", "blocks", "R8", "count", "R9", "stride", "R10")
	g.in("LEAQ %d(DI), BX", rows*64)
	g.sums(t, false, "DI", "BX")
	g.at(loop)
	g.in("MOVLQSX (R8), DX")
	g.in("IMULQ R10, DX")
	g.in("ADDQ R13, DX")
	g.in("LEAQ %d(DX), R11", 16*s.columnBytes)
	for i := range 16 {
		load := s.load(g, v)
		g.column(t, func(p, part int, dst string) { load(i, p, part, dst) },
			func(r int) string { return fmt.Sprintf("%d(SI)", r*64+i*4) })
	}
	g.in("ADDQ $%d, SI", rows*64)
	g.in("ADDQ $4, R8")
	g.in("DECQ R9")
	g.in("JNZ %s", loop)
	g.sums(t, true, "DI", "BX")
	g.ret()
}

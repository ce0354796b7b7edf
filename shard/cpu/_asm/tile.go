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

// storage is how a tile reads weights: the bytes of a column of one panel, and
// the unit of columns that load handles.
type storage struct {
	name        string
	columnBytes int
	unit        int
	load        func(g *generator, v isa) loader
}

var panelBase = []string{"DX", "R11"}

var storages = []storage{
	{"F32", 64, 1, func(g *generator, v isa) loader {
		return func(i, p, part int, dst string) {
			g.in("VMOVUPS %d(%s), %s", i*64+part*v.bytes, panelBase[p], dst)
		}
	}},
	{"F16", 32, 1, func(g *generator, v isa) loader {
		return func(i, p, part int, dst string) {
			g.in("VCVTPH2PS %d(%s), %s", i*32+part*v.bytes/2, panelBase[p], dst)
		}
	}},
	{"BF16", 32, 2, func(g *generator, v isa) loader {
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

// columns emits the loop over CX columns: x in SI, weights in DX and, for the
// second panel, R11. Each step of 4 columns also emits ahead. It clobbers CX,
// BX, SI, DX, R11.
func (g *generator) columns(t tile, s storage, ahead func()) {
	loop, rest, one, done := g.label("loop"), g.label("rest"), g.label("one"), g.label("done")
	load := s.load(g, t.v)
	step := func(i int) {
		g.column(t, func(p, part int, dst string) { load(i, p, part, dst) },
			func(r int) string { return fmt.Sprintf("%d(SI)", r*16+i*4) })
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
	for i := range 4 {
		step(i)
	}
	ahead()
	advance(4, t.rows*16)
	g.in("DECQ CX")
	g.in("JNZ %s", loop)
	g.at(rest)
	g.in("SUBQ $%d, BX", s.unit)
	g.in("JL %s", done)
	g.at(one)
	for i := range s.unit {
		step(i)
	}
	advance(s.unit, 4*s.unit)
	g.in("SUBQ $%d, BX", s.unit)
	g.in("JGE %s", one)
	g.at(done)
	if s.unit == 2 { // a last odd column
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
		if t.v.suffix == "AVX512" {
			g.in("VPXORD %s, %s, %s", t.v.r(i), t.v.r(i), t.v.r(i))
		} else {
			g.in("VXORPS %s, %s, %s", t.v.r(i), t.v.r(i), t.v.r(i))
		}
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
}

// numbersTile emits a tileFunc over numbers.
func (g *generator) numbersTile(t tile, s storage) {
	g.tileStart(t, s.name)
	g.in("MOVQ ahead+48(FP), R10")
	bases, step := []string{"R10", "R12"}[:t.panels], 4*s.columnBytes
	if s.columnBytes > 32 { // half as much: what was widened took no more
		bases, step = bases[:1], step/2
	}
	if len(bases) > 1 {
		g.in("MOVQ R10, R12")
		g.in("ADDQ wStride+40(FP), R12")
	}
	g.columns(t, s, func() {
		for _, base := range bases {
			for o := 0; o < step; o += 64 {
				g.in("PREFETCHT0 %d(%s)", o, base)
			}
			g.in("ADDQ $%d, %s", step, base)
		}
	})
	g.sums(t, true, "DI", "R8")
	g.ret()
}

// tileStart begins a tileFunc over a format and loads its accumulators.
func (g *generator) tileStart(t tile, format string) {
	g.function(fmt.Sprintf("tile%dx%d%s", t.rows, t.panels, plainName(format)+t.v.suffix), "is a tileFunc.",
		"c *float32, x *float32, w *byte, k int, cStride int, wStride int, ahead *byte", "")
	g.enter("tile[%s][%d][%d]", format, t.panels-1, t.rows)
	g.load("c", "DI", "x", "SI", "w", "DX", "k", "CX", "cStride", "R8", "wStride", "R11")
	g.in("ADDQ DI, R8")
	g.in("ADDQ DX, R11")
	g.sums(t, false, "DI", "R8")
}

// cacheStorages are how a cache's numbers are read, by what CacheType adds to names.
var cacheStorages = []storage{
	{"", 64, 1, storages[0].load},
	{"F16", 32, 1, storages[1].load},
	{"BF16", 32, 1, func(g *generator, v isa) loader {
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
	most := 6
	if v.regs == 32 {
		most = 12
	}
	for rows := 1; rows <= most; rows++ {
		t := tile{v, rows, 1}
		loop := g.label("block")
		g.function(fmt.Sprintf("scores%d%s", rows, s.name+v.suffix), "is a scoresFunc. count is at least 1.",
			"dst *float32, q *float32, keys *byte, blocks *int32, count int, stride int, k int", "")
		g.enter("scores[Cache%s][%d]", cmp.Or(s.name, "F32"), rows)
		g.load("dst", "DI", "q", "R12", "keys", "R13", "blocks", "R8", "count", "R9", "stride", "R10", "k", "AX")
		g.at(loop)
		g.in("MOVLQSX (R8), DX")
		g.in("IMULQ R10, DX")
		g.in("ADDQ R13, DX")
		g.in("MOVQ R12, SI")
		g.in("MOVQ AX, CX")
		g.zero(t)
		g.columns(t, s, func() {})
		g.sums(t, true, "DI")
		g.in("ADDQ $%d, DI", rows*64)
		g.in("ADDQ $4, R8")
		g.in("DECQ R9")
		g.in("JNZ %s", loop)
		g.ret()

		loop = g.label("block")
		g.function(fmt.Sprintf("values%d%s", rows, s.name+v.suffix), "is a valuesFunc. count is at least 1.",
			"c *float32, p *float32, values *byte, blocks *int32, count int, stride int", "")
		g.enter("values[Cache%s][%d]", cmp.Or(s.name, "F32"), rows)
		g.load("c", "DI", "p", "SI", "values", "R13", "blocks", "R8", "count", "R9", "stride", "R10")
		g.sums(t, false, "DI")
		g.at(loop)
		g.in("MOVLQSX (R8), DX")
		g.in("IMULQ R10, DX")
		g.in("ADDQ R13, DX")
		for i := range 16 {
			load := s.load(g, v)
			g.column(t, func(p, part int, dst string) { load(i, p, part, dst) },
				func(r int) string { return fmt.Sprintf("%d(SI)", r*64+i*4) })
		}
		g.in("ADDQ $%d, SI", rows*64)
		g.in("ADDQ $4, R8")
		g.in("DECQ R9")
		g.in("JNZ %s", loop)
		g.sums(t, true, "DI")
		g.ret()
	}
}

package cpu

import "unsafe"

const (
	// blockRows bounds the rows of one pass, so that their slice of x (blockK
	// columns) and the accumulators of blockPanels stay in the second-level
	// cache.
	blockRows   = 128
	blockPanels = 16
	// directK is the columns of a panel that a tile over packed weights takes at
	// a time, half of them where there are several: few enough that their slice
	// of x stays in the second-level cache.
	directK = 2048
	// codedK is the least columns of codes that are widened at a time: fewer would widen many scales in vain.
	codedK = 256
)

// Rows are N rows in memory, each Stride floats behind the one before.
type Rows struct {
	Data      []float32
	Stride, N int
}

// MatMul is Multiply for rows of floats, which it lays out first.
func (k *Kernels) MatMul(dst, x Rows, w *Matrix, panel0, panel1 int, s *Scratch) {
	if x.N < 1 {
		return
	}
	k.Begin(&s.own, x.N, w, Grow(&s.packed, k.InputFloats(x.N, w)))
	for r := range x.N {
		k.Fill(&s.own, r, x.Data[r*x.Stride:][:w.Columns])
	}
	k.Multiply(dst, &s.own, w, panel0, panel1, s)
}

// Multiply sets dst[r][n] to the sum over k of x[r][k] * w[n][k] for every row r
// of x, which was filled for a matrix that is Alike, and every output n of the
// panels [panel0, panel1). It writes no output n >= w.Rows, and nothing between
// the rows of dst. Workers share a product by taking disjoint panel ranges.
func (k *Kernels) Multiply(dst Rows, x *Input, w *Matrix, panel0, panel1 int, s *Scratch) {
	if x.rows == 1 && w.coded != nil {
		k.gemvCoded(dst.Data, x.data[:w.Columns], w, panel0, panel1, s)
		return
	}
	if x.rows == 1 && x.kind == floats {
		k.gemvPanels(dst.Data, x.data, w, panel0, panel1, s)
		return
	}
	for tiles := x.tiles; len(tiles) > 0; {
		p := pass{Kernels: k, w: w, x: x, tiles: passOf(tiles), scratch: s}
		tiles = tiles[len(p.tiles):]
		p.prepare()
		for panel := panel0; panel < panel1; panel += blockPanels {
			p.block(dst, panel, min(panel+blockPanels, panel1))
		}
	}
}

// passOf returns the first tiles, of blockRows rows at most.
func passOf(tiles []rowSpan) []rowSpan {
	for i, tile := range tiles {
		if tile.row+tile.rows-tiles[0].row > blockRows {
			return tiles[:i]
		}
	}
	return tiles
}

// gemvPanels is Multiply for one row, straight from the packed weights. A row
// of floats alone is laid out as it was, but for chunks that are filled up.
func (k *Kernels) gemvPanels(dst, x []float32, w *Matrix, panel0, panel1 int, s *Scratch) {
	chunk := w.Columns / w.Chunks
	panelBytes := w.panelBytes()
	sums := Grow(&s.sums, 4*maxPanels*lanes)
	for panel := panel0; panel < panel1; {
		count := min(maxPanels, panel1-panel)
		for k.gemv[w.Format][count] == nil {
			count--
		}
		kernel, n := k.gemv[w.Format][count], lanes*count
		data := unsafe.Pointer(&w.Data[panel*panelBytes])
		depth := 0
		for c := range w.Chunks {
			at := (*byte)(unsafe.Add(data, w.columnBytes(c*chunk)))
			clear(sums[depth*n:][:n])
			kernel(&sums[depth*n], &x[c*round4(chunk)], at, panelBytes, chunk)
			depth = k.combine(sums, n, depth+1, c)
		}
		out := panel * lanes
		copy(dst[out:min(out+n, w.Rows)], sums[:n])
		panel += count
	}
}

// combine adds the sums of n floats each that chunk c completes in the binary
// tree: sums is a stack of depth entries, and every trailing one bit of c is a
// finished left brother of the top. It returns the new depth.
func (k *Kernels) combine(sums []float32, n, depth, c int) int {
	for ; c&1 == 1; c >>= 1 {
		left, right := &sums[(depth-2)*n], &sums[(depth-1)*n]
		k.add(left, left, right, n)
		depth--
	}
	return depth
}

// pass is the product of up to blockRows rows.
type pass struct {
	*Kernels
	w       *Matrix
	x       *Input
	tiles   []rowSpan
	row0    int
	rows    int
	most    int // rows of the tallest tile
	table   *[3][maxTileRows + 1]tileFunc
	direct  bool // tiles read the packed weights
	step    int  // most panels that a tile takes
	blockK  int  // columns of a panel that are taken at a time
	scratch *Scratch
}

// prepare decides how the tiles read the weights: as they are packed or, once for all of them, widened. Codes are, blocks of more
// rows than one small tile has, and integers where there is no tile for their form.
func (p *pass) prepare() {
	last := p.tiles[len(p.tiles)-1]
	p.row0 = p.tiles[0].row
	p.rows = last.row + last.rows - p.row0
	least := p.tiles[0].rows
	for _, tile := range p.tiles {
		least, p.most = min(least, tile.rows), max(p.most, tile.rows)
	}
	has := func(panels int) bool { return p.table[panels/2][least] != nil && p.table[panels/2][p.most] != nil }
	f := p.w.Format
	switch {
	case f == Integers:
		form := p.w.integers.form
		if p.table, p.direct = &p.integerTile[form], true; !has(1) {
			p.table, p.direct = &p.integerTile[integerForms[form].wide()], false
		}
	case f != Coded:
		p.table = &p.tile[f]
		p.direct = has(1) && (len(p.tiles) == 1 || f.BlockColumns() == 1)
	}
	if !p.direct && f != Integers {
		p.table = &p.tile[F32]
	}
	switch {
	case p.direct:
		p.blockK = directK / min(len(p.tiles), 2)
	case f == Coded || f == Integers:
		p.blockK = max(p.wideK, codedK)
	default:
		p.blockK = p.wideK
	}
	for p.step = 4; !has(p.step); p.step /= 2 {
	}
	if !p.direct { // as much as the scratch memory has
		p.step = min(p.step, 2)
	}
}

// block computes the panels [panel0, panel1), at most blockPanels. One chunk is summed where it belongs, if its panels are whole.
func (p *pass) block(dst Rows, panel0, panel1 int) {
	n := (panel1 - panel0) * lanes
	if p.w.Chunks == 1 && panel1*lanes <= p.w.Rows {
		p.chunk(dst.Data[p.row0*dst.Stride+panel0*lanes:], dst.Stride, 0, panel0, panel1)
		return
	}
	sums, depth := Grow(&p.scratch.sums, 4*blockPanels*p.rows*lanes), 0
	for c := range p.w.Chunks {
		top := sums[depth*n*p.rows:][:n*p.rows]
		p.chunk(top, n, c, panel0, panel1)
		depth = p.combine(sums, n*p.rows, depth+1, c)
	}
	n = min(n, p.w.Rows-panel0*lanes)
	for r := range p.rows {
		copy(dst.Data[(p.row0+r)*dst.Stride+panel0*lanes:][:n], sums[r*(panel1-panel0)*lanes:])
	}
}

// chunk sums a chunk into the rows of sums, stride floats apart. The columns are
// the outer loop: the slice of x that all panels need next stays in the
// second-level cache, the widened weights in the first.
func (p *pass) chunk(sums []float32, stride, c, panel0, panel1 int) {
	chunk := p.w.Columns / p.w.Chunks
	at, next := slice{chunk: c}, slice{}
	for k0 := 0; k0 < chunk; k0 += p.blockK {
		at.column, at.count = k0, min(p.blockK, chunk-k0)
		for at.panel = panel0; at.panel < panel1; at.panel += at.panels {
			at.panels = p.panels(panel1 - at.panel)
			next = at
			p.advance(&next, panel0, panel1, chunk)
			p.multiply(sums[(at.panel-panel0)*lanes:], stride, &at, &next)
		}
	}
}

// panels returns how many of those that are left a tile takes.
func (p *pass) panels(left int) int {
	if left == 3 {
		return min(2, p.step)
	}
	return min(left, p.step)
}

// slice is count columns, from a column of a chunk, of some panels.
type slice struct {
	panel, panels        int
	chunk, column, count int
}

// advance moves a slice to the one that is read behind it, of no panels at the end.
func (p *pass) advance(s *slice, panel0, panel1, chunk int) {
	if s.panel += s.panels; s.panel >= panel1 {
		s.panel, s.column = panel0, s.column+s.count
	}
	if s.column >= chunk {
		s.column, s.chunk = 0, s.chunk+1
	}
	if s.chunk == p.w.Chunks {
		s.chunk, s.panel = 0, panel1
	}
	s.panels = min(p.step, p.w.Panels()-s.panel)
}

// data returns where a slice starts, and the bytes from panel to panel.
func (p *pass) data(s *slice) (start unsafe.Pointer, panelBytes int) {
	panelBytes = p.w.panelBytes()
	column := s.chunk*(p.w.Columns/p.w.Chunks) + s.column
	return unsafe.Pointer(&p.w.Data[s.panel*panelBytes+p.w.columnBytes(column)]), panelBytes
}

// ahead says what a tile fetches of the next slice, which has a panel of its number: that one, so that memory is read for longer
// than one tile takes; or, where there are fewer tiles than panels, all from its own on.
func (p *pass) ahead(tile int, next *slice) (at *byte, stride int) {
	start, panelBytes := p.data(next)
	if len(p.tiles) < next.panels {
		stride = panelBytes
	}
	return (*byte)(unsafe.Add(start, tile*panelBytes)), stride
}

// multiply adds a slice to all rows, the first one of a chunk to nothing.
func (p *pass) multiply(sums []float32, sumStride int, s, next *slice) {
	data, stride := p.data(s)
	weights := (*byte)(data)
	if !p.direct {
		weights, stride = p.widened(s)
	}
	fresh := 0
	if s.column == 0 {
		fresh = 1
	}
	for i, tile := range p.tiles {
		ahead, aheadStride := weights, 0 // nothing to fetch: these are in the cache
		if i < next.panels {
			ahead, aheadStride = p.ahead(i, next)
		}
		to, x := &sums[(tile.row-p.row0)*sumStride], p.x.at(tile, s.chunk, s.column)
		p.table[s.panels/2][tile.rows](to, x, weights, s.count, sumStride*4, stride, fresh, ahead, aheadStride)
	}
}

// widened returns the weights of a slice as [panel][blockK][16] floats, or blocks of integers, and the bytes from panel to panel.
func (p *pass) widened(s *slice) (weights *byte, stride int) {
	data, panelBytes := p.data(s)
	wide := Grow(&p.scratch.weights, 2*p.blockK*lanes)
	stride = p.blockK * lanes * 4
	for i := range s.panels {
		to, from := wide[i*p.blockK*lanes:], unsafe.Add(data, i*panelBytes)
		switch {
		case p.w.coded != nil:
			panel := unsafe.Pointer(&p.w.Data[(s.panel+i)*panelBytes])
			p.widen(to, panel, p.w.coded, s.chunk*(p.w.Columns/p.w.Chunks)+s.column, s.count, 0, p.scratch)
		case p.w.integers != nil:
			p.widenIntegers[p.w.integers.form]((*byte)(unsafe.Pointer(&to[0])), (*byte)(from), s.count)
		default:
			p.dequant[p.w.Format](&to[0], (*byte)(from), s.count)
		}
	}
	return (*byte)(unsafe.Pointer(&wide[0])), stride
}

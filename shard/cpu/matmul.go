package cpu

import "unsafe"

const (
	// blockRows bounds the rows of one pass, so that their slice of x (blockK
	// columns) and the accumulators of blockPanels stay in the second-level
	// cache.
	blockRows   = 128
	blockPanels = 16
	// directK is the columns of a panel that a direct tile takes at a time, half
	// of them where there are several: few enough that their slice of x stays in
	// the second-level cache.
	directK      = 2048
	directGroups = 8
	// codedK is the least columns of codes that are widened at a time: fewer would widen many scales in vain.
	codedK = 256
	// aheadBytes is what a tile prefetches for every 4 columns.
	aheadBytes = 128
)

// Rows are N rows in memory, each Stride floats behind the one before.
type Rows struct {
	Data      []float32
	Stride, N int
}

// MatMul sets dst[r][n] to the sum over k of x[r][k] * w[n][k] for every row r
// and every output n of the panels [panel0, panel1). It writes no output
// n >= w.Rows, and nothing between the rows of dst. Workers share a product by
// taking disjoint panel ranges. x and dst do not overlap.
func (k *Kernels) MatMul(dst, x Rows, w *Matrix, panel0, panel1 int, s *Scratch) {
	rows := x.N
	if rows == 1 && w.coded != nil {
		k.gemvCoded(dst.Data, x.Data[:w.Columns], w, panel0, panel1, s)
		return
	}
	if rows == 1 {
		k.gemvPanels(dst.Data, x.Data[:w.Columns], w, panel0, panel1, s)
		return
	}
	if rows < 1 {
		return
	}
	passes := (rows + blockRows - 1) / blockRows
	columns := w.Chunks * round4(w.Columns/w.Chunks)
	input := packedInput{&x.Data[0], x.Stride, rows, w.Columns, w.Chunks}
	held := s.holding && s.input == input
	s.input = input
	packed := grow(&s.packed, rows*columns)
	for i := range passes {
		row0, row1 := rows*i/passes, rows*(i+1)/passes
		p := pass{Kernels: k, w: w, rows: row1 - row0, columns: columns, scratch: s, packed: packed[row0*columns : row1*columns]}
		p.groups = (p.rows + p.tileRows - 1) / p.tileRows
		p.wideK = k.blockK
		if w.coded != nil {
			p.wideK = max(k.blockK, codedK)
		}
		if !held {
			p.pack(x.Data[row0*x.Stride:], x.Stride)
		}
		for panel := panel0; panel < panel1; panel += blockPanels {
			p.block(panel, min(panel+blockPanels, panel1))
			p.store(dst.Data[row0*dst.Stride:], dst.Stride, panel, min(panel+blockPanels, panel1))
		}
	}
}

// gemvPanels is MatMul for one row, straight from the packed weights.
func (k *Kernels) gemvPanels(dst, x []float32, w *Matrix, panel0, panel1 int, s *Scratch) {
	chunk := w.Columns / w.Chunks
	panelBytes := w.panelBytes()
	sums := grow(&s.sums, 4*maxPanels*lanes)
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
			kernel(&sums[depth*n], &x[c*chunk], at, panelBytes, chunk)
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
	rows    int
	groups  int // tiles that the rows are cut into, as equal as can be
	columns int // of the packed x: every chunk is rounded up to 4
	wideK   int // columns of a panel that are widened at a time
	scratch *Scratch
	packed  []float32
	sums    []float32 // [depth][panel][row][16], the stack of combine
}

// group returns the rows of tile i.
func (p *pass) group(i int) (row, rows int) {
	row = p.rows * i / p.groups
	return row, p.rows*(i+1)/p.groups - row
}

// pack lays x out for the tiles: [group][chunk][column/4][row][4].
func (p *pass) pack(x []float32, stride int) {
	chunk := p.w.Columns / p.w.Chunks
	for i := range p.groups {
		row, rows := p.group(i)
		for c := range p.w.Chunks {
			out := p.packed[row*p.columns+c*round4(chunk)*rows:]
			packRows(out, x[row*stride+c*chunk:], stride, rows, chunk)
		}
	}
}

// block computes the sums of the panels [panel0, panel1), at most blockPanels.
// The columns are the outer loop: the slice of x that all panels need next
// stays in the second-level cache, the widened weights in the first.
func (p *pass) block(panel0, panel1 int) {
	n := (panel1 - panel0) * p.rows * lanes
	chunk := p.w.Columns / p.w.Chunks
	p.sums = grow(&p.scratch.sums, 4*blockPanels*p.rows*lanes)
	step, blockK, direct, most := 1, p.wideK, p.isDirect(), (p.rows+p.groups-1)/p.groups
	if direct {
		blockK = directK / min(p.groups, 2)
	}
	if direct && p.direct[p.w.Format][1][most] != nil || !direct && p.wide(2, most) != nil {
		step = 2
	}
	depth := 0
	for c := range p.w.Chunks {
		sums := p.sums[depth*n:][:n]
		clear(sums)
		for k0 := 0; k0 < chunk; k0 += blockK {
			count := min(blockK, chunk-k0)
			for panel := panel0; panel < panel1; panel += step {
				at := slice{panel: panel, panels: min(step, panel1-panel), chunk: c, column: k0, count: count}
				sums := sums[(panel-panel0)*p.rows*lanes:]
				if direct {
					p.directTiles(sums, at)
					continue
				}
				next := slice{panel: panel + step, column: k0}
				if next.panel >= panel1 {
					next = slice{panel: panel0, column: k0 + blockK}
				}
				next.panels, next.chunk = min(step, panel1-next.panel), c
				next.count = max(0, min(blockK, chunk-next.column))
				p.tiles(sums, at, next)
			}
		}
		depth = p.combine(p.sums, n, depth+1, c)
	}
}

// slice is count columns, from a column of a chunk, of one or two panels.
type slice struct {
	panel, panels        int
	chunk, column, count int
}

// data returns where a slice starts, and the bytes from panel to panel.
func (p *pass) data(s slice) (start unsafe.Pointer, panelBytes int) {
	panelBytes = p.w.panelBytes()
	column := s.chunk*(p.w.Columns/p.w.Chunks) + s.column
	return unsafe.Pointer(&p.w.Data[s.panel*panelBytes+p.w.columnBytes(column)]), panelBytes
}

// x returns the packed columns of a slice for the rows of a tile.
func (p *pass) x(s slice, row, rows int) *float32 {
	offset := s.chunk*round4(p.w.Columns/p.w.Chunks) + s.column
	return &p.packed[row*p.columns+offset*rows]
}

// isDirect reports whether the tiles read the packed weights: where one tile
// has all rows, so that each weight is widened once anyway, and for a few tiles
// of a 16-bit format, where widening is cheaper than a trip through the cache.
func (p *pass) isDirect() bool {
	f := p.w.Format
	if f == Coded {
		return false
	}
	if p.groups > 1 && (p.groups > directGroups || f != F16 && f != BF16) {
		return false
	}
	least, most := p.rows/p.groups, (p.rows+p.groups-1)/p.groups
	return p.direct[f][0][least] != nil && p.direct[f][0][most] != nil
}

// directTiles adds a slice to all rows straight from the packed weights.
func (p *pass) directTiles(sums []float32, s slice) {
	data, stride := p.data(s)
	for i := range p.groups {
		row, rows := p.group(i)
		kernel := p.direct[p.w.Format][s.panels-1][rows]
		kernel(&sums[row*lanes], p.x(s, row, rows), (*byte)(data), s.count, p.rows*lanes*4, stride, nil)
	}
}

// wide returns the tile over widened weights of one or two panels; a few rows that one tile has take a direct one. nil: there
// is none of two panels.
func (p *pass) wide(panels, rows int) tileFunc {
	if kernel := p.tile[panels-1][rows]; kernel != nil {
		return kernel
	}
	return p.direct[F32][panels-1][rows]
}

// tiles adds a slice to all rows, and meanwhile fetches the next slice.
func (p *pass) tiles(sums []float32, s, next slice) {
	data, stride := p.data(s)
	weights := (*byte)(data)
	if p.w.coded != nil {
		wide := grow(&p.scratch.weights, 2*p.wideK*lanes)
		column := s.chunk*(p.w.Columns/p.w.Chunks) + s.column
		for i := range s.panels {
			panel := unsafe.Pointer(&p.w.Data[(s.panel+i)*stride])
			p.widen(wide[i*p.wideK*lanes:], panel, p.w.coded, column, s.count, 0, p.scratch)
		}
		weights, stride = (*byte)(unsafe.Pointer(&wide[0])), p.wideK*lanes*4
	} else if kernel := p.dequant[p.w.Format]; kernel != nil {
		wide := grow(&p.scratch.weights, 2*p.wideK*lanes)
		for i := range s.panels {
			kernel(&wide[i*p.wideK*lanes], (*byte)(unsafe.Add(data, i*stride)), s.count)
		}
		weights, stride = (*byte)(unsafe.Pointer(&wide[0])), p.wideK*lanes*4
	}
	reach := s.count / 4 * aheadBytes // what one tile prefetches
	size := p.w.columnBytes(next.count &^ 31)
	panel, offset := 0, 0
	for i := range p.groups {
		ahead := weights // nothing to fetch: these are in the cache
		if panel < next.panels && offset < size {
			start, panelBytes := p.data(next)
			ahead = (*byte)(unsafe.Add(start, panel*panelBytes+offset))
			if offset += reach; offset >= size {
				panel, offset = panel+1, 0
			}
		}
		row, rows := p.group(i)
		p.wide(s.panels, rows)(&sums[row*lanes], p.x(s, row, rows), weights, s.count, p.rows*lanes*4, stride, ahead)
	}
}

// store copies the finished sums of the panels [panel0, panel1) to dst.
func (p *pass) store(dst []float32, stride, panel0, panel1 int) {
	for r := range p.rows {
		for panel := panel0; panel < panel1; panel++ {
			sums := p.sums[((panel-panel0)*p.rows+r)*lanes:][:lanes]
			out := dst[r*stride+panel*lanes:]
			if n := p.w.Rows - panel*lanes; n < lanes {
				copy(out[:n], sums)
			} else {
				*(*[lanes]float32)(out) = *(*[lanes]float32)(sums)
			}
		}
	}
}

package cpu

import "unsafe"

const (
	// blockRows bounds the rows of one pass, so that their slice of x (blockK
	// columns) and the accumulators of blockPanels stay in the second-level
	// cache.
	blockRows   = 128
	blockPanels = 16
)

// MatMul sets dst[r*dstStride+n] to the sum over k of x[r*xStride+k] * w[n][k]
// for every r < rows and every output n of the panels [panel0, panel1). It
// writes no output n >= w.Rows, and nothing between the rows of dst. Workers
// share a product by taking disjoint panel ranges. x and dst do not overlap.
func (k *Kernels) MatMul(dst []float32, dstStride int, x []float32, xStride, rows int, w *Matrix, panel0, panel1 int, s *Scratch) {
	if rows == 1 {
		k.gemvPanels(dst, x[:w.Columns], w, panel0, panel1, s)
		return
	}
	if rows < 1 {
		return
	}
	passes := (rows + blockRows - 1) / blockRows
	for i := range passes {
		row0, row1 := rows*i/passes, rows*(i+1)/passes
		p := pass{Kernels: k, w: w, rows: row1 - row0, scratch: s}
		p.pack(x[row0*xStride:], xStride)
		for panel := panel0; panel < panel1; panel += blockPanels {
			p.block(panel, min(panel+blockPanels, panel1))
			p.store(dst[row0*dstStride:], dstStride, panel, min(panel+blockPanels, panel1))
		}
	}
}

// gemvPanels is MatMul for one row, straight from the packed weights.
func (k *Kernels) gemvPanels(dst, x []float32, w *Matrix, panel0, panel1 int, s *Scratch) {
	const widest = 4
	chunk := w.Columns / w.Chunks
	panelBytes := w.Format.panelBytes(w.Columns)
	sums := grow(&s.sums, 5*widest*lanes)
	for panel := panel0; panel < panel1; {
		size := 2
		for k.gemv[w.Format][size] == nil || panel+1<<size > panel1 {
			size--
		}
		kernel, n := k.gemv[w.Format][size], lanes<<size
		data := unsafe.SliceData(w.Data[panel*panelBytes:])
		depth := 0
		for c := range w.Chunks {
			at := (*byte)(unsafe.Add(unsafe.Pointer(data), w.columnBytes(c*chunk)))
			kernel(&sums[depth*n], &x[c*chunk], at, panelBytes, chunk)
			depth = k.combine(sums, n, depth+1, c)
		}
		out := panel * lanes
		copy(dst[out:min(out+n, w.Rows)], sums[:n])
		panel += 1 << size
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
	columns int // of the packed x: every chunk is rounded up to 8
	scratch *Scratch
	packed  []float32
	sums    []float32 // [depth][panel][row][16], the stack of combine
}

// group returns the rows of tile i.
func (p *pass) group(i int) (row, rows int) {
	row = p.rows * i / p.groups
	return row, p.rows*(i+1)/p.groups - row
}

// pack lays x out for the tiles: [group][chunk][column/8][row][8].
func (p *pass) pack(x []float32, stride int) {
	p.groups = (p.rows + p.tileRows - 1) / p.tileRows
	chunk := p.w.Columns / p.w.Chunks
	p.columns = p.w.Chunks * round8(chunk)
	p.packed = grow(&p.scratch.packed, p.rows*p.columns)
	for i := range p.groups {
		row, rows := p.group(i)
		for c := range p.w.Chunks {
			out := p.packed[row*p.columns+c*round8(chunk)*rows:]
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
	step := 1
	if p.rows <= p.wideRows {
		step = 2
	}
	depth := 0
	for c := range p.w.Chunks {
		sums := p.sums[depth*n:][:n]
		clear(sums)
		for k0 := 0; k0 < chunk; k0 += p.blockK {
			count := min(p.blockK, chunk-k0)
			for panel := panel0; panel < panel1; panel += step {
				wide := min(step, panel1-panel)
				p.tiles(sums[(panel-panel0)*p.rows*lanes:], panel, wide, c, k0, count)
			}
		}
		depth = p.combine(p.sums, n, depth+1, c)
	}
}

// tiles adds count columns from column k0 of chunk c to all rows of one or two
// panels.
func (p *pass) tiles(sums []float32, panel, wide, c, k0, count int) {
	w := p.w
	chunk := w.Columns / w.Chunks
	panelBytes := w.Format.panelBytes(w.Columns)
	data := unsafe.Pointer(&w.Data[panel*panelBytes+w.columnBytes(c*chunk+k0)])
	weights, stride := (*float32)(data), panelBytes
	if kernel := p.dequant[w.Format]; kernel != nil {
		stride = p.blockK * lanes * 4
		weights = &grow(&p.scratch.weights, 2*p.blockK*lanes)[0]
		for i := range wide {
			kernel(at(weights, i*p.blockK*lanes), (*byte)(unsafe.Add(data, i*panelBytes)), count)
		}
	}
	offset := c*round8(chunk) + k0
	for i := range p.groups {
		row, rows := p.group(i)
		x := &p.packed[row*p.columns+offset*rows]
		p.tile[wide-1][rows](&sums[row*lanes], x, weights, count, p.rows*lanes*4, stride)
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

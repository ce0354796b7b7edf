package cpu

// Input is rows of activations, laid out for the tiles of products with matrices of one kind. Workers share it: each fills some
// of its rows, and when all are filled, all multiply with them.
type Input struct {
	kind            inputKind
	rows            int
	columns, chunks int
	words           int // of a row
	tiles           []rowSpan
	tileOf          []int32 // [row]: which of tiles it is in
	// data has tile after tile, of each [chunk] and in that what kind says. A tile's rows before it took words each.
	data []float32
}

// rowSpan is rows [row, row+rows).
type rowSpan struct{ row, rows int }

// inputKind is how activations are kept.
type inputKind int

const (
	floats  inputKind = iota // [column/4][row][4], the last columns of a chunk filled up
	rounded                  // the same, rounded to bfloat16 and filled up with zeros
	pairs                    // rounded pairs of columns, the even one in the low half: [pair/4][row][4], filled up with zeros
	octets                   // blocks of 32 columns, [block][row][blockWords]
)

// width returns the words of 4 bytes that a row takes of so many columns.
func (kind inputKind) width(columns int) int {
	switch kind {
	case pairs:
		return round4((columns + 1) / 2)
	case octets:
		return columns / integerColumns * blockWords
	}
	return round4(columns)
}

// Part returns one of so many parts of the rows, in whole tiles: what Multiply computes of it are these rows of the product. It shares
// the input's memory.
func (in *Input) Part(part, parts int) Input {
	out := *in
	out.tiles = in.tiles[len(in.tiles)*part/parts : len(in.tiles)*(part+1)/parts]
	return out
}

// InputFloats returns what Begin takes for so many rows, a multiple of 16.
func (k *Kernels) InputFloats(rows int, w *Matrix) int {
	return (rows*w.Chunks*k.inputKind(w).width(w.Columns/w.Chunks) + lanes - 1) &^ (lanes - 1)
}

// Begin makes in ready for so many rows that are to be multiplied with w, and with all matrices that are Alike. It keeps data, of
// InputFloats.
func (k *Kernels) Begin(in *Input, rows int, w *Matrix, data []float32) {
	in.kind, in.rows, in.columns, in.chunks = k.inputKind(w), rows, w.Columns, w.Chunks
	in.words = in.chunks * in.kind.width(in.columns/in.chunks)
	in.data = data
	in.tiles, in.tileOf = in.tiles[:0], in.tileOf[:0]
	passes, tallest := (rows+blockRows-1)/blockRows, k.tileRows
	if in.kind == octets {
		tallest = k.integerRows
	}
	for p := range passes {
		from, to := rows*p/passes, rows*(p+1)/passes
		count := to - from
		tiles := (count + tallest - 1) / tallest
		for i := range tiles {
			row := from + count*i/tiles
			in.tiles = append(in.tiles, rowSpan{row, from + count*(i+1)/tiles - row})
			for range in.tiles[len(in.tiles)-1].rows {
				in.tileOf = append(in.tileOf, int32(len(in.tiles)-1))
			}
		}
	}
}

// Alike reports whether an Input for one of the matrices is one for the other.
func (k *Kernels) Alike(a, b *Matrix) bool {
	return k.inputKind(a) == k.inputKind(b) && a.Columns == b.Columns && a.Chunks == b.Chunks
}

// inputKind is what tiles over a matrix take.
func (k *Kernels) inputKind(m *Matrix) inputKind {
	switch {
	case m.Format == Integers:
		return octets
	case m.Format != BF16Dot:
		return floats
	case k.pairs:
		return pairs
	}
	return rounded
}

// Fill sets a row to the columns of x. Several workers may fill different rows at once.
func (k *Kernels) Fill(in *Input, row int, x []float32) {
	tile := in.tiles[in.tileOf[row]]
	chunk := in.columns / in.chunks
	width := in.kind.width(chunk)
	for c := range in.chunks {
		to := in.data[tile.row*in.words+c*width*tile.rows:][:width*tile.rows]
		k.fill(in.kind, to, x[c*chunk:][:chunk], row-tile.row, tile.rows)
	}
}

// fill lays a chunk of a row out.
func (k *Kernels) fill(kind inputKind, dst, x []float32, row, rows int) {
	round, each := k.roundFloats, 4
	switch kind {
	case floats:
		packRow(dst, x, row, rows)
		return
	case octets:
		k.quantise(&dst[row*blockWords], &x[0], len(x)/integerColumns, rows*blockWords*4)
		return
	case pairs:
		round, each = k.roundPairs, 8
	}
	n := len(x) &^ 7
	if n > 0 {
		round(&dst[row*4], &x[0], n, rows*16)
	}
	if n == len(x) {
		return
	}
	var last [8]float32
	copy(last[:], x[n:])
	var words [8]float32
	round(&words[0], &last[0], 8, 16)
	for i := 0; i < 8/each && n+i*each < len(x); i++ {
		copy(dst[((n/each+i)*rows+row)*4:][:4], words[i*4:])
	}
}

// at returns where a tile's columns from one of a chunk on begin.
func (in *Input) at(tile rowSpan, chunk, column int) *float32 {
	return &in.data[tile.row*in.words+(chunk*in.kind.width(in.columns/in.chunks)+in.kind.width(column))*tile.rows]
}

// packRow lays a row out for a tile: [column/4][row][4], so that one pointer with constant offsets reaches all rows, however far
// apart they were. The columns past those of x are left as they are.
func packRow(dst, x []float32, row, rows int) {
	to := dst[row*4:]
	for len(x) >= 4 {
		*(*[4]float32)(to) = *(*[4]float32)(x)
		if x = x[4:]; len(x) == 0 {
			return
		}
		to = to[rows*4:]
	}
	copy(to, x)
}

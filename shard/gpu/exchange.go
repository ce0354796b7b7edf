package gpu

// exchange sums a row-parallel product over the ranks through the group's memory, and leaves the sum, [row][hidden], in products. Each
// rank folds its chunks first, and the sum over ranks continues their tree.
func (b *Backend) exchange(m *matrix, rows int) error {
	hidden := b.config.Hidden
	partial := b.group.Partial()[:rows*hidden]
	if m.data == 0 { // no input is this rank's
		clear(partial)
	} else {
		if err := b.launch("fold", [3]int{rows, 1, 1}, rowThreads, 0, b.folded, b.products, uint64(rows*m.outputs()), int32(m.outputs()),
			int32(m.chunks), int32(hidden)); err != nil {
			return err
		}
		if err := b.device.Download(bytesOf(partial), b.folded); err != nil {
			return err
		}
	}
	parts, err := b.group.Exchange()
	if err != nil {
		return err
	}
	sum := make([]float32, rows*hidden)
	sumParts(sum, parts)
	return b.device.Upload(b.products, bytesOf(sum))
}

// sumParts adds the ranks' parts as a binary tree in rank order: the left half of a tree is the largest power of two below its size.
func sumParts(sum []float32, parts [][]float32) {
	if len(parts) == 1 {
		copy(sum, parts[0])
		return
	}
	left := 1
	for left*2 < len(parts) {
		left *= 2
	}
	right := make([]float32, len(sum))
	sumParts(sum, parts[:left])
	sumParts(right, parts[left:])
	for i, v := range right {
		sum[i] += v
	}
}

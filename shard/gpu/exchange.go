package gpu

// fold adds the parts of a row-parallel product of rows, to [row][hidden]: the sum over ranks continues their tree.
func (b *Backend) fold(to, sums Address, m *matrix, rows, parts int) error {
	return b.launch("fold", [3]int{rows, 1, 1}, rowThreads, 0, to, sums, uint64(rows*m.outputs()), int32(m.outputs()), int32(parts),
		int32(b.config.Hidden))
}

// exchange sums so many floats over the ranks, through the group's memory.
func (b *Backend) exchange(at Address, size int) error {
	if err := b.device.Download(bytesOf(b.group.Partial()[:size]), at); err != nil {
		return err
	}
	parts, err := b.group.Exchange()
	if err != nil {
		return err
	}
	sum := make([]float32, size)
	sumParts(sum, parts)
	return b.device.Upload(at, bytesOf(sum))
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

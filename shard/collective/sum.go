package collective

// Sum sets dst to the sum of the ranks' parts, each from offset on, as a binary tree in rank order: the left half of a tree is the
// largest power of two below its size, so the sums of two, four and eight ranks continue the tree of a kernel's chunks. add sets dst
// to a + b, where dst may be a.
func Sum(dst []float32, parts [][]float32, offset int, add func(dst, a, b []float32)) {
	part := func(rank int) []float32 { return parts[rank][offset:][:len(dst)] }
	switch len(parts) {
	case 1:
		copy(dst, part(0))
	case 2:
		add(dst, part(0), part(1))
	case 3:
		add(dst, part(0), part(1))
		add(dst, dst, part(2))
	default:
		left := 2
		for left*2 < len(parts) {
			left *= 2
		}
		Sum(dst, parts[:left], offset, add)
		right := make([]float32, len(dst))
		Sum(right, parts[left:], offset, add)
		add(dst, dst, right)
	}
}

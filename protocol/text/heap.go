package text

// mergeHeap merges long words in n log n time. It keeps its memory from word to word of one Encode.
type mergeHeap struct {
	candidates []candidate
	links      []link
}

// candidate is a pair that may be merged. It is stale, and skipped, once its pair has changed.
type candidate struct {
	pair
	left int32 // index of the left symbol
}

// link chains the symbols that are left; next of the last one is -1, as is previous of the first.
type link struct{ previous, next int32 }

func (c candidate) before(other candidate) bool {
	return c.rank < other.rank || c.rank == other.rank && c.left < other.left
}

// merge does what mergeShort does.
func (h *mergeHeap) merge(m *model, symbols []symbol) []symbol {
	h.candidates, h.links = h.candidates[:0], h.links[:0]
	for i := range symbols {
		h.links = append(h.links, link{int32(i) - 1, int32(i) + 1})
	}
	h.links[len(symbols)-1].next = -1
	for i := range len(symbols) - 1 {
		h.offer(m, symbols, int32(i))
	}
	for len(h.candidates) > 0 {
		c := h.pop()
		left := &h.links[c.left]
		if symbols[c.left].id < 0 || left.next < 0 {
			continue
		}
		right := left.next
		if m.merges.lookup(symbols[c.left].id, symbols[right].id) != c.pair {
			continue
		}
		symbols[c.left].id, symbols[c.left].end = c.id, symbols[right].end
		symbols[right].id = -1
		left.next = h.links[right].next
		if left.next >= 0 {
			h.links[left.next].previous = c.left
			h.offer(m, symbols, c.left)
		}
		if left.previous >= 0 {
			h.offer(m, symbols, left.previous)
		}
	}
	kept := symbols[:0]
	for i := int32(0); i >= 0; i = h.links[i].next {
		kept = append(kept, symbols[i])
	}
	return kept
}

// offer adds the pair that begins at symbol left, if it merges.
func (h *mergeHeap) offer(m *model, symbols []symbol, left int32) {
	merge := m.merges.lookup(symbols[left].id, symbols[h.links[left].next].id)
	if merge.rank == noRank {
		return
	}
	h.candidates = append(h.candidates, candidate{merge, left})
	for i := len(h.candidates) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.candidates[i].before(h.candidates[parent]) {
			break
		}
		h.candidates[i], h.candidates[parent] = h.candidates[parent], h.candidates[i]
		i = parent
	}
}

func (h *mergeHeap) pop() candidate {
	top := h.candidates[0]
	last := len(h.candidates) - 1
	h.candidates[0] = h.candidates[last]
	h.candidates = h.candidates[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && h.candidates[child+1].before(h.candidates[child]) {
			child++
		}
		if !h.candidates[child].before(h.candidates[i]) {
			return top
		}
		h.candidates[i], h.candidates[child] = h.candidates[child], h.candidates[i]
		i = child
	}
}

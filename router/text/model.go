package text

import (
	"math/bits"
	"unicode/utf8"
)

// shortWord is the longest word, in symbols, that is merged by scanning for the best pair; longer ones use a heap so
// that the time stays near linear.
const shortWord = 48

// noRank is the rank of a pair that does not merge.
const noRank = ^uint32(0)

// model is byte-level BPE. Ids that do not exist are negative.
type model struct {
	byteIDs      [256]int32 // the token of each byte
	merges       mergeTable
	ignoreMerges bool             // a word that is a token needs no merges
	words        map[string]int32 // tokens by their bytes; only with ignoreMerges
	longestWord  int              // of words, in bytes
	unknown      int32            // the token of bytes that the vocabulary lacks
	fuseUnknown  bool             // adjacent unknown bytes make one token
}

// symbol is a part of a word that merging has not joined further.
type symbol struct {
	id         int32
	start, end int // bytes in the word
}

// encodeWord appends the ids of one word that the pre-tokenizer made.
func (e *encoder) encodeWord(word string, aligned []alignment) {
	m := &e.tokenizer.model
	if m.ignoreMerges && len(word) <= m.longestWord {
		if id, ok := m.words[word]; ok {
			e.add(id, aligned, span{0, len(word)})
			return
		}
	}
	if len(word) == 1 {
		if id := m.byteIDs[word[0]]; id >= 0 {
			e.add(id, aligned, span{0, 1})
			return
		}
	}
	var stack [shortWord]symbol
	symbols := stack[:0]
	if len(word) > shortWord {
		symbols = make([]symbol, 0, len(word))
	}
	symbols = m.appendSymbols(symbols, word)
	drops := len(symbols) < len(word) && m.unknown < 0
	if len(symbols) <= shortWord {
		symbols = m.mergeShort(symbols)
	} else {
		symbols = e.heap.merge(m, symbols)
	}
	if drops && e.wants {
		m.closeGaps(word, symbols)
	}
	for _, s := range symbols {
		e.add(s.id, aligned, span{s.start, s.end})
	}
}

// appendSymbols appends the symbol of each byte of word. Bytes that the vocabulary lacks become the unknown token, or
// are dropped where there is none.
func (m *model) appendSymbols(dst []symbol, word string) []symbol {
	inUnknown := false
	for i := range len(word) {
		id := m.byteIDs[word[i]]
		switch {
		case id >= 0:
			inUnknown = false
			dst = append(dst, symbol{id, i, i + 1})
		case m.unknown >= 0 && inUnknown && m.fuseUnknown:
			dst[len(dst)-1].end = i + 1
		case m.unknown >= 0:
			inUnknown = true
			dst = append(dst, symbol{m.unknown, i, i + 1})
		}
	}
	return dst
}

// closeGaps moves symbols to where the reference takes them to be after dropping bytes that the vocabulary lacks: it
// adds up their lengths in coded form, as if nothing were missing.
func (m *model) closeGaps(word string, symbols []symbol) {
	var origins []int // for each byte of the coded word, the byte of word
	for i := range len(word) {
		for range utf8.RuneLen(byteToRune[word[i]]) {
			origins = append(origins, i)
		}
	}
	at := 0
	for i, s := range symbols {
		length := 0
		for _, b := range []byte(word[s.start:s.end]) {
			if m.byteIDs[b] >= 0 {
				length += utf8.RuneLen(byteToRune[b])
			}
		}
		symbols[i].start, symbols[i].end = origins[at], origins[at+length-1]+1
		at += length
	}
}

// mergeShort merges the leftmost pair of the lowest rank until no pair merges, in place.
func (m *model) mergeShort(symbols []symbol) []symbol {
	n := len(symbols)
	if n < 2 {
		return symbols
	}
	var ranks [shortWord]uint32 // of the pair that begins at each symbol
	var merged [shortWord]int32
	for i := range n - 1 {
		ranks[i], merged[i] = m.merges.lookup(symbols[i].id, symbols[i+1].id)
	}
	for n > 1 {
		best, bestRank := 0, noRank
		for i, rank := range ranks[:n-1] {
			if rank < bestRank {
				best, bestRank = i, rank
			}
		}
		if bestRank == noRank {
			break
		}
		symbols[best].id, symbols[best].end = merged[best], symbols[best+1].end
		copy(symbols[best+1:n-1], symbols[best+2:n])
		copy(ranks[best+1:n-1], ranks[best+2:n])
		copy(merged[best+1:n-1], merged[best+2:n])
		n--
		if best+1 < n {
			ranks[best], merged[best] = m.merges.lookup(symbols[best].id, symbols[best+1].id)
		}
		if best > 0 {
			ranks[best-1], merged[best-1] = m.merges.lookup(symbols[best-1].id, symbols[best].id)
		}
	}
	return symbols[:n]
}

// mergeTable maps pairs of ids to the rank of their merge and the id that it makes. It is an open hash table, because
// the lookup is where encoding spends its time and one entry is one cache line touched.
type mergeTable struct {
	entries []mergeEntry // a power of two of them
	shift   uint
}

type mergeEntry struct {
	key  uint64 // pairKey, or emptyKey
	rank uint32
	id   int32
}

const emptyKey = ^uint64(0)

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// newMergeTable makes a table for up to count merges.
func newMergeTable(count int) mergeTable {
	width := bits.Len(uint(count + count/2 + 1))
	entries := make([]mergeEntry, 1<<width)
	for i := range entries {
		entries[i].key = emptyKey
	}
	return mergeTable{entries: entries, shift: uint(64 - width)}
}

func (t *mergeTable) slot(key uint64) uint64 { return (key ^ key>>29) * 0x9e3779b97f4a7c15 >> t.shift }

// set adds a merge; a later one of the same pair replaces an earlier one.
func (t *mergeTable) set(left, right int32, rank uint32, id int32) {
	key := pairKey(left, right)
	i := t.slot(key)
	for t.entries[i].key != emptyKey && t.entries[i].key != key {
		i = (i + 1) & uint64(len(t.entries)-1)
	}
	t.entries[i] = mergeEntry{key, rank, id}
}

func (t *mergeTable) lookup(left, right int32) (rank uint32, id int32) {
	key := pairKey(left, right)
	for i := t.slot(key); ; i = (i + 1) & uint64(len(t.entries)-1) {
		switch entry := &t.entries[i]; entry.key {
		case key:
			return entry.rank, entry.id
		case emptyKey:
			return noRank, -1
		}
	}
}

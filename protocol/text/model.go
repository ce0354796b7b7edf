package text

import (
	"math/bits"
	"sync/atomic"
	"unicode/utf8"
)

// shortWord is the longest word, in symbols, that is merged by scanning for the best pair; longer ones use a heap so
// that the time stays near linear.
const shortWord = 48

// noRank is the rank of a pair that does not merge.
const noRank = ^uint32(0)

// model is BPE over the bytes of a word, or over its characters. Ids that do not exist are negative.
type model struct {
	byteIDs      [256]int32 // the token of each byte, over characters only where a lacking one falls back to bytes
	fallsBack    bool
	characters   map[rune]int32 // tokens of one character; nil for a model over bytes
	merges       mergeTable
	ignoreMerges bool             // a word that is a token needs no merges
	words        map[string]int32 // tokens by the text that they are made of
	longestWord  int              // of words, in bytes
	unknown      int32            // the token of bytes or characters that the vocabulary lacks
	fuseUnknown  bool             // adjacent unknown ones make one token
	// bare is the id of a character that no token holds, in a model that merges by scores; ids behind it are those of
	// characters that tokens hold but that are none themselves. 0 in other models.
	bare int32
	// reached remembers for each id whether merging the token's bytes makes the token; see the constants below.
	reached []atomic.Uint32
}

// The values of model.reached.
const (
	reachedUnknown = iota
	reachedYes
	reachedNo
)

// symbol is a part of a word that merging has not joined further.
type symbol struct {
	id         int32
	start, end int32 // bytes in the word
}

// encodeWord appends the ids of one word that the pre-tokenizer made.
func (e *encoder) encodeWord(word string, aligned []alignment) {
	m := &e.tokenizer.model
	whole := int32(-1) // the token that word is
	if len(word) <= m.longestWord {
		if id, ok := m.words[word]; ok {
			if m.ignoreMerges || m.reached[id].Load() == reachedYes {
				e.add(id, aligned, span{0, len(word)})
				return
			}
			whole = id
		}
	}
	var symbols []symbol
	drops := false
	switch {
	case m.bare > 0:
		symbols = m.appendPieces(e.symbols[:0], word)
	case m.characters != nil:
		symbols = m.appendCharacters(e.symbols[:0], word)
	default:
		symbols = m.appendSymbols(e.symbols[:0], word)
		drops = len(symbols) < len(word) && m.unknown < 0
	}
	e.symbols = symbols
	if len(symbols) <= shortWord {
		symbols = m.mergeShort(symbols, &e.pairs)
	} else {
		symbols = e.heap.merge(m, symbols)
	}
	if whole >= 0 && m.reached[whole].Load() == reachedUnknown {
		reached := uint32(reachedNo)
		if len(symbols) == 1 && symbols[0] == (symbol{whole, 0, int32(len(word))}) {
			reached = reachedYes
		}
		m.reached[whole].Store(reached)
	}
	if m.bare > 0 {
		e.spelled = m.appendSpelled(e.spelled[:0], word, symbols)
		symbols = e.spelled
	}
	if drops && e.wants {
		m.closeGaps(word, symbols)
	}
	for _, s := range symbols {
		e.add(s.id, aligned, span{int(s.start), int(s.end)})
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
			dst = append(dst, symbol{id, int32(i), int32(i) + 1})
		case m.unknown >= 0 && inUnknown && m.fuseUnknown:
			dst[len(dst)-1].end = int32(i) + 1
		case m.unknown >= 0:
			inUnknown = true
			dst = append(dst, symbol{m.unknown, int32(i), int32(i) + 1})
		}
	}
	return dst
}

// closeGaps moves symbols to where the reference takes them to be after dropping bytes that the vocabulary lacks: it
// adds up their lengths in coded form, as if nothing were missing.
func (m *model) closeGaps(word string, symbols []symbol) {
	var origins []int32 // for each byte of the coded word, the byte of word
	for i := range len(word) {
		for range utf8.RuneLen(byteToRune[word[i]]) {
			origins = append(origins, int32(i))
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

// pair is what merging a symbol with the next one would do.
type pair struct {
	rank uint32 // noRank if they do not merge
	id   int32
}

// mergeShort merges the leftmost pair of the lowest rank until no pair merges, in place. It overwrites pairs.
func (m *model) mergeShort(symbols []symbol, pairs *[shortWord]pair) []symbol {
	n := len(symbols)
	for i := range n - 1 {
		pairs[i] = m.merges.lookup(symbols[i].id, symbols[i+1].id)
	}
	for n > 1 {
		best, bestRank := 0, noRank
		for i := range pairs[:n-1] {
			if rank := pairs[i].rank; rank < bestRank {
				best, bestRank = i, rank
			}
		}
		if bestRank == noRank {
			break
		}
		symbols[best].id, symbols[best].end = pairs[best].id, symbols[best+1].end
		copy(symbols[best+1:n-1], symbols[best+2:n])
		copy(pairs[best+1:n-1], pairs[best+2:n])
		n--
		if best+1 < n {
			pairs[best] = m.merges.lookup(symbols[best].id, symbols[best+1].id)
		}
		if best > 0 {
			pairs[best-1] = m.merges.lookup(symbols[best-1].id, symbols[best].id)
		}
	}
	return symbols[:n]
}

// mergeTable maps pairs of ids to the rank of their merge and the id that it makes. It is an open hash table, because
// the lookup is where encoding spends its time and one entry is one cache line touched.
type mergeTable struct {
	entries []mergeEntry // a power of two of them
	shift   uint
	count   int // entries in use
}

type mergeEntry struct {
	key uint64 // pairKey, or emptyKey
	pair
}

const emptyKey = ^uint64(0)

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// newMergeTable makes a table with room for so many merges, about as many as there are tokens; it grows.
func newMergeTable(merges int) mergeTable {
	var t mergeTable
	t.resize(uint(max(10, bits.Len(uint(merges+merges/2)))))
	return t
}

// resize gives the table 2^width entries.
func (t *mergeTable) resize(width uint) {
	old := t.entries
	t.entries, t.shift = make([]mergeEntry, 1<<width), 64-width
	for i := range t.entries {
		t.entries[i].key = emptyKey
	}
	for _, entry := range old {
		if entry.key != emptyKey {
			t.entries[t.find(entry.key)] = entry
		}
	}
}

func (t *mergeTable) slot(key uint64) uint64 { return (key ^ key>>29) * 0x9e3779b97f4a7c15 >> t.shift }

// find returns the index of the entry of key, or of the empty one where it belongs.
func (t *mergeTable) find(key uint64) uint64 {
	i := t.slot(key)
	for t.entries[i].key != emptyKey && t.entries[i].key != key {
		i = (i + 1) & uint64(len(t.entries)-1)
	}
	return i
}

// set adds a merge; a later one of the same pair replaces an earlier one.
func (t *mergeTable) set(left, right int32, rank uint32, id int32) {
	if t.count*3 >= len(t.entries)*2 {
		t.resize(64 - t.shift + 1)
	}
	key := pairKey(left, right)
	entry := &t.entries[t.find(key)]
	if entry.key == emptyKey {
		t.count++
	}
	*entry = mergeEntry{key, pair{rank, id}}
}

func (t *mergeTable) lookup(left, right int32) pair {
	key := pairKey(left, right)
	for i := t.slot(key); ; i = (i + 1) & uint64(len(t.entries)-1) {
		switch entry := &t.entries[i]; entry.key {
		case key:
			return entry.pair
		case emptyKey:
			return pair{noRank, -1}
		}
	}
}

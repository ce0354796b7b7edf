package masks

import (
	"slices"
	"unicode/utf8"

	"lockstep/protocol/guide"
)

// notPlain is what a trie says of tokens that have other than plain characters (see guide.PlainASCII).
const notPlain = guide.Always

// trie is one of tokens' bytes. Node 0 is the root; a node stands behind the one above it and before its siblings.
type trie struct {
	char  []byte
	next  []int32 // the node behind all that are below this one
	first []int32 // of ids; those of a node end where those of the node behind it begin
	ids   []int32
	chars []guide.Chars // what tokens have below a node that ends a character
	plain []uint8       // most plain characters of what tokens have below a node that ends a character; notPlain: some have others

	kids     []int32 // the nodes right below each
	kidChar  []byte  // theirs, in order
	kidsFrom []int32 // where those of each node begin
}

// newTrie makes the trie of ids in the order of their bytes.
func newTrie(order []int32, bytes []string) *trie {
	t := &trie{}
	var path []int32 // of nodes that are not closed
	add := func(char byte) {
		path = append(path, int32(len(t.char)))
		t.char, t.next, t.first = append(t.char, char), append(t.next, 0), append(t.first, int32(len(t.ids)))
		t.plain, t.chars = append(t.plain, 0), append(t.chars, 0)
	}
	shut := func(depth int) {
		for len(path) > depth {
			t.next[path[len(path)-1]] = int32(len(t.char))
			path = path[:len(path)-1]
		}
	}
	add(0)
	said := ""
	var behind suffixes
	for _, id := range order {
		text := bytes[id]
		same := 0
		for same < min(len(said), len(text)) && said[same] == text[same] {
			same++
		}
		shut(same + 1)
		for i := same; i < len(text); i++ {
			add(text[i])
		}
		t.ids = append(t.ids, id)
		behind.find(text)
		for i, n := range path[:len(path)-1] {
			t.plain[n] = max(t.plain[n], behind.plain[i])
			t.chars[n] |= behind.chars[i]
		}
		said = text
	}
	shut(0)
	t.first = append(t.first, int32(len(t.ids)))
	t.listKids()
	return t
}

func (t *trie) listKids() {
	for n := range t.char {
		t.kidsFrom = append(t.kidsFrom, int32(len(t.kids)))
		for kid := int32(n) + 1; kid < t.next[n]; kid = t.next[kid] {
			t.kids, t.kidChar = append(t.kids, kid), append(t.kidChar, t.char[kid])
		}
	}
	t.kidsFrom = append(t.kidsFrom, int32(len(t.kids)))
}

// kid is the node right below one by a byte; 0: there is none.
func (t *trie) kid(n int32, char byte) int32 {
	from, to := t.kidsFrom[n], t.kidsFrom[n+1]
	at, found := slices.BinarySearch(t.kidChar[from:to], char)
	if !found {
		return 0
	}
	return t.kids[from:to][at]
}

// tokens are those that end at a node.
func (t *trie) tokens(n int32) []int32 { return t.ids[t.first[n]:t.first[n+1]] }

// suffixes tells of each place of a text what follows up to its end, where the last character may be cut.
type suffixes struct {
	chars []guide.Chars
	plain []uint8 // how many plain characters; notPlain: there are others
}

func (s *suffixes) find(text string) {
	s.chars = slices.Grow(s.chars[:0], len(text)+1)[:len(text)+1]
	s.plain = slices.Grow(s.plain[:0], len(text)+1)[:len(text)+1]
	s.chars[len(text)], s.plain[len(text)] = 0, 0
	for i := len(text) - 1; i >= 0; i-- {
		kind, size := guide.CharAt(text[i:])
		s.chars[i] = kind | s.chars[i+size]
		s.plain[i] = notPlain
		if kind != guide.NoChars && (text[i] >= utf8.RuneSelf || guide.PlainASCII(text[i])) {
			s.plain[i] = uint8(min(int(s.plain[i+size])+1, notPlain))
		}
	}
}

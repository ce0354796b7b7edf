// Package masks tells which tokens a guide allows: it runs an automaton over bytes (protocol/guide) against all tokens of a vocabulary at
// once. A token is allowed if and only if its bytes keep the text viable, and an end of sequence if and only if the text is complete;
// tokens without bytes, as special ones are, never.
//
// What a state allows is found by a walk through a trie of the vocabulary, and kept. Inside a text most of a vocabulary is allowed: there
// the walk is made once for the rule that the state is in, and only tokens that go beyond the rule are walked for each state.
package masks

import (
	"slices"
	"strings"
)

// Vocabulary is a trie of the bytes of tokens. It is immutable but for what its guides keep in common, and safe for concurrent use.
type Vocabulary struct {
	size    int
	ends    []int32 // end-of-sequence ids
	bytes   []string
	longest int

	// The trie, a node behind the one above it and before its siblings; node 0 is the root. Its children are from the node behind it to
	// next, each from the next of the one before.
	char  []byte
	next  []int32
	first []int32 // of ids; those of a node end where those of the node behind it begin
	ids   []int32

	common inner
}

// NewVocabulary returns that of a model with so many logits. bytes are those that a token adds to a text; none if it must not be said.
func NewVocabulary(size int, bytes func(id int32) string, ends []int32) *Vocabulary {
	v := &Vocabulary{size: size, bytes: make([]string, size), common: newInner()}
	order := make([]int32, 0, size)
	for id := range int32(size) {
		v.bytes[id] = bytes(id)
		if v.longest = max(v.longest, len(v.bytes[id])); v.bytes[id] != "" {
			order = append(order, id)
		}
	}
	for _, id := range ends {
		if id >= 0 && int(id) < size && !slices.Contains(v.ends, id) {
			v.ends = append(v.ends, id)
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int { return strings.Compare(v.bytes[a], v.bytes[b]) })
	v.build(order)
	return v
}

// build makes the trie of ids in the order of their bytes.
func (v *Vocabulary) build(order []int32) {
	var path []int32 // of nodes that are not closed
	add := func(char byte) {
		path = append(path, int32(len(v.char)))
		v.char, v.next, v.first = append(v.char, char), append(v.next, 0), append(v.first, int32(len(v.ids)))
	}
	shut := func(depth int) {
		for len(path) > depth {
			v.next[path[len(path)-1]] = int32(len(v.char))
			path = path[:len(path)-1]
		}
	}
	add(0)
	said := ""
	for _, id := range order {
		text := v.bytes[id]
		same := 0
		for same < min(len(said), len(text)) && said[same] == text[same] {
			same++
		}
		shut(same + 1)
		for i := same; i < len(text); i++ {
			add(text[i])
		}
		v.ids = append(v.ids, id)
		said = text
	}
	shut(0)
	v.first = append(v.first, int32(len(v.ids)))
}

// at are the tokens that end at a node.
func (v *Vocabulary) at(n int32) []int32 { return v.ids[v.first[n]:v.first[n+1]] }

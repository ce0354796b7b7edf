// Package masks tells which tokens a guide allows: it runs an automaton over bytes (protocol/guide) against all tokens of a vocabulary at
// once. A token is allowed if and only if its bytes keep the text viable, and an end of sequence if and only if the text is complete;
// tokens without bytes never. A special token's bytes begin with guide.Special, so none is said but where a guide names it.
//
// What a state allows is found by a walk through a trie of the vocabulary, and kept. Inside a text most of a vocabulary is allowed: tokens
// of plain characters are known beforehand, the others are walked once for the rule that the state is in, and only tokens that go beyond
// the rule for each state.
package masks

import (
	"slices"
	"strings"

	"lockstep/protocol/guide"
)

// Vocabulary is all tokens in the order of their bytes. It is immutable but for what its guides keep in common, and safe for concurrent
// use.
type Vocabulary struct {
	size    int
	ends    []int32 // end-of-sequence ids
	bytes   []string
	longest int // in bytes

	all  *trie
	rest *trie // of the tokens that have other than plain characters
	// plain are sets of the tokens that are not in rest: at each place of those of at most so many characters.
	plain [][]uint64

	common rules
}

// NewVocabulary returns that of a model with so many logits. bytes are those that a token adds to a text; none if it must not be said.
func NewVocabulary(size int, bytes func(id int32) string, ends []int32) *Vocabulary {
	v := &Vocabulary{size: size, bytes: make([]string, size), common: newRules()}
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
	v.all = newTrie(order, v.bytes)
	v.rest = newTrie(v.findPlain(order), v.bytes)
	v.prepare()
	return v
}

// findPlain finds the tokens of plain characters, and gives the others.
func (v *Vocabulary) findPlain(order []int32) (others []int32) {
	var lengths [notPlain][]int32
	var all suffixes
	longest := 0
	for _, id := range order {
		all.find(v.bytes[id])
		count := all.plain[0]
		if count == notPlain {
			others = append(others, id)
			continue
		}
		lengths[count] = append(lengths[count], id)
		longest = max(longest, int(count))
	}
	up := make([]uint64, (v.size+63)/64)
	for _, ids := range lengths[:longest+1] {
		if len(ids) > 0 || len(v.plain) == 0 {
			up = slices.Clone(up)
		}
		for _, id := range ids {
			up[id>>6] |= 1 << (id & 63)
		}
		v.plain = append(v.plain, up)
	}
	return others
}

// prepare finds out what every schema needs: what a plain string allows.
func (v *Vocabulary) prepare() {
	program, err := guide.Compile(guide.Source{Kind: guide.Schema, Text: `{"type":"string"}`})
	if err != nil {
		panic(err) // it does not depend on what anybody sends
	}
	g := New(v, program)
	if inside, err := g.machine.Next(g.machine.Start(), '"'); err == nil {
		_, _ = g.find(inside) // an error would come again where it is asked for
	}
}

// plainUpTo are the tokens of at most so many plain characters.
func (v *Vocabulary) plainUpTo(count int) []uint64 { return v.plain[min(count, len(v.plain)-1)] }

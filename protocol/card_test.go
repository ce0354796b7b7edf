package protocol_test

import (
	"encoding/json"
	"strings"
	"testing"

	"lockstep/protocol"
)

// Cards are of one kind when they give the same tokens to the same ids, whatever else they say.
func TestCardKind(t *testing.T) {
	card := func(change func(*protocol.ModelCard)) *protocol.ModelCard {
		c := &protocol.ModelCard{ModelID: "m", VocabularySize: 100, EOSTokenIDs: []int32{1, 2}, NumericsID: "n",
			Tokenizer: protocol.TokenizerSource{HuggingFace: json.RawMessage(`{"a":1}`)}}
		change(c)
		return c
	}
	nothing := func(*protocol.ModelCard) {}
	for name, test := range map[string]struct {
		change func(*protocol.ModelCard)
		equal  bool
	}{
		"nothing":            {nothing, true},
		"model id":           {func(c *protocol.ModelCard) { c.ModelID = "org/m" }, true},
		"template":           {func(c *protocol.ModelCard) { c.Chat.Template = "{{ x }}" }, true},
		"order of the ends":  {func(c *protocol.ModelCard) { c.EOSTokenIDs = []int32{2, 1, 2} }, true},
		"spaces in its JSON": {func(c *protocol.ModelCard) { c.Tokenizer.HuggingFace = json.RawMessage(`{"a": 1}`) }, true},
		"positions":          {func(c *protocol.ModelCard) { c.MaxPositions = 7 }, true},
		"numerics":           {func(c *protocol.ModelCard) { c.NumericsID = "o" }, false},
		"numerics' name":     {func(c *protocol.ModelCard) { c.Numerics = "f32.1" }, true}, // an older group's card has none
		"no numerics":        {func(c *protocol.ModelCard) { c.NumericsID = "" }, false},
		"tokenizer":          {func(c *protocol.ModelCard) { c.Tokenizer.HuggingFace = json.RawMessage(`{"a":2}`) }, false},
		"form of tokenizer": {func(c *protocol.ModelCard) { c.Tokenizer = protocol.TokenizerSource{GGUF: &protocol.GGUFTokenizer{}} },
			false},
		"ends":               {func(c *protocol.ModelCard) { c.EOSTokenIDs = []int32{1} }, false},
		"scores":             {func(c *protocol.ModelCard) { c.Reward = true }, false},
		"version of guides":  {func(c *protocol.ModelCard) { c.GuideVersion++ }, true}, // GuidedKind tells these apart
		"size of vocabulary": {func(c *protocol.ModelCard) { c.VocabularySize++ }, false},
	} {
		if got := card(nothing).Kind() == card(test.change).Kind(); got != test.equal {
			t.Errorf("another %s: got equal kinds %v, want %v", name, got, test.equal)
		}
	}
	unnamed := func(id string) *protocol.ModelCard {
		return card(func(c *protocol.ModelCard) { c.NumericsID, c.ModelID = "", id })
	}
	first, again, other := unnamed("m").Kind(), unnamed("m").Kind(), unnamed("o").Kind()
	if first != again || first == other {
		t.Error("cards without numerics are of one kind when they are equal in all")
	}
}

// Requests without an adapter run on groups whatever adapters these have; those with one, where its name and content are equal.
func TestCardKindsOfAdapters(t *testing.T) {
	card := func(numerics string, adapters ...protocol.Adapter) map[string]string {
		c := protocol.ModelCard{NumericsID: numerics, Adapters: adapters}
		kinds := c.Kinds()
		if len(kinds) != len(adapters)+1 || kinds[""] != c.Kind() {
			t.Fatalf("got kinds %v", kinds)
		}
		return kinds
	}
	a, other := protocol.Adapter{Name: "a", Digest: "1"}, protocol.Adapter{Name: "a", Digest: "2"}
	b := protocol.Adapter{Name: "b", Digest: "1"}
	plain, first, second := card("n"), card("n", a, b), card("n", b, other)
	switch {
	case plain[""] != first[""], first[""] != second[""]:
		t.Error("adapters change the kind of requests without one")
	case first["b"] != second["b"]:
		t.Error("an adapter's kind depends on the others, or on its place")
	case first["a"] == second["a"]:
		t.Error("an adapter's content does not part kinds")
	case first["a"] == first["b"], first["a"] == first[""]:
		t.Error("adapters share a kind")
	case card("o", a)["a"] == first["a"]:
		t.Error("another model's adapter is of the same kind")
	}
}

func TestCardValidate(t *testing.T) {
	name := func(names ...string) *protocol.ModelCard {
		c := &protocol.ModelCard{}
		for _, name := range names {
			c.Adapters = append(c.Adapters, protocol.Adapter{Name: name})
		}
		return c
	}
	long := strings.Repeat("x", protocol.MaxAdapterNameBytes)
	if err := name("a", "org/b-1.0_ü", long).Validate(); err != nil {
		t.Error(err)
	}
	for what, bad := range map[string]*protocol.ModelCard{"twice": name("a", "a"), "empty": name(""), "None": name("None"),
		"long": name(long + "x"), "control": name("a\nb"), "no UTF-8": name("\xff"),
		"too many": {Adapters: make([]protocol.Adapter, protocol.MaxAdapters+1)}} {
		if bad.Validate() == nil {
			t.Errorf("%s: not refused", what)
		}
	}
}

package protocol_test

import (
	"encoding/json"
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
		"no numerics":        {func(c *protocol.ModelCard) { c.NumericsID = "" }, false},
		"tokenizer":          {func(c *protocol.ModelCard) { c.Tokenizer.HuggingFace = json.RawMessage(`{"a":2}`) }, false},
		"form of tokenizer": {func(c *protocol.ModelCard) { c.Tokenizer = protocol.TokenizerSource{GGUF: &protocol.GGUFTokenizer{}} },
			false},
		"ends":               {func(c *protocol.ModelCard) { c.EOSTokenIDs = []int32{1} }, false},
		"scores":             {func(c *protocol.ModelCard) { c.Reward = true }, false},
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

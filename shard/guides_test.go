package shard

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/protocol/text"
)

// guideSources are of every kind: with one text and with endless ones, flat and recursive.
var guideSources = []guide.Source{
	{Kind: guide.Schema, Text: `{"type":"object","properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer","minimum":0},
		"tags":{"type":"array","items":{"enum":["red","green","blue"]},"maxItems":3}},"required":["name"]}`},
	{Kind: guide.Schema, Text: `{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"at":{"type":"number"},
		"left":{"$ref":"#/$defs/tree"},"right":{"$ref":"#/$defs/tree"}},"required":["at"]}}}`, WhiteSpace: guide.None},
	{Kind: guide.Schema, Text: `{"anyOf":[{"type":"boolean"},{"type":"string","format":"date"},{"type":"array","items":{"type":"null"}}]}`},
	{Kind: guide.Schema, Text: `{}`, Open: true},
	{Kind: guide.Regex, Text: `[A-Z][a-z]{1,8}( [a-z]{1,8}){0,6}\.`},
	{Kind: guide.Regex, Text: `(ha)*`},
	{Kind: guide.Regex, Text: `.{5,}`},
	{Kind: guide.Grammar, Text: "root ::= sum\nsum ::= product ((\"+\" | \"-\") product)*\n" +
		"product ::= [0-9]+ | \"(\" sum \")\"\n"},
	{Kind: guide.Choice, Text: `["yes","no","perhaps not","once upon a time there was"]`},
	{Kind: guide.Regex, Text: `[a-z]{4}`, Thought: guide.Thought{Start: "so", End: "thus", Inside: true, Budget: 6}},
	{Kind: guide.Anything, Thought: guide.Thought{Start: "so", End: "thus", Inside: true, Budget: 4}},
}

// checkGuided holds what requests with guides got to them: each token is one that may follow, and a text that has ended is whole.
func (g *testGroup) checkGuided(t *testing.T, requests []protocol.Request, results map[uint64]*result, total *tally) {
	t.Helper()
	tokenizer, err := text.New(g.leader.model.Files.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range requests {
		got := results[request.ID]
		if request.Guide == nil {
			continue
		}
		program, err := guide.Compile(*request.Guide)
		if err != nil {
			t.Fatal(err)
		}
		machine := guide.NewMachine(program)
		state, tokens := machine.Start(), got.tokens
		ended := slices.Contains(g.engine.shape.EOSTokenIDs, tokens[len(tokens)-1])
		if last := len(tokens) - 1; ended || got.finish == protocol.FinishGuide {
			tokens = tokens[:last]
		}
		said := ""
		for _, id := range tokens {
			said += tokenizer.Bytes(id)
		}
		for i := range len(said) {
			if state, err = machine.Next(state, said[i]); err != nil || state == guide.Dead {
				t.Fatalf("request %d: %q has left its guide %s at byte %d", request.ID, said, request.Guide.Text, i)
			}
		}
		if request.TopLogprobs > 0 && len(got.top) < 2*len(tokens) {
			t.Errorf("request %d: %d tokens have %d alternatives", request.ID, len(tokens), len(got.top)/2)
		}
		switch {
		case got.finish == protocol.FinishGuide:
			total.failed++
		case ended && !machine.Complete(state):
			t.Errorf("request %d: %q has ended and is not whole by %s", request.ID, said, request.Guide.Text)
		case ended:
			total.whole++
		default:
			total.cut++
		}
	}
}

// guidedRequests are one of each source, greedy and sampled.
func guidedRequests(tokens int) (requests []protocol.Request) {
	for i := range 2 * len(guideSources) {
		r := protocol.Request{ID: uint64(i), Prompt: []int32{5, 6, int32(7 + i)}, MaxNewTokens: tokens, TopLogprobs: i % 3,
			Guide: &guideSources[i/2]}
		if i%2 == 0 {
			r.Sampling = protocol.Sampling{Sample: true, Seed: uint64(i), Temperature: 1.5}
		}
		requests = append(requests, r)
	}
	return requests
}

// A guided request goes on to the same bits from behind each of its tokens.
func TestGuidedResume(t *testing.T) {
	g := startGroup(t, Config{Shards: 2, Limits: Limits{PrefillTokens: 64, MaxSequences: 64}}, os.DirFS("../launcher/demo/model"), 200)
	requests := guidedRequests(24)
	want := g.run(t, requests, len(requests), nil, nil)
	g.checkGuided(t, requests, want, new(tally))
	var parts []protocol.Request
	rests := map[uint64]*result{}
	for _, request := range requests {
		whole := want[request.ID]
		for cut := 1; cut < len(whole.tokens); cut++ {
			part := request
			part.ID, part.Generated = uint64(len(parts)), whole.tokens[:cut]
			parts = append(parts, part)
			rests[part.ID] = &result{tokens: whole.tokens[cut:], logprob: whole.logprob[cut:], top: whole.top, finish: whole.finish}
		}
	}
	for id, got := range g.run(t, parts, 40, nil, nil) {
		rest := rests[id] // of some tokens a guide leaves fewer alternatives than are asked for
		rest.top = rest.top[max(0, len(rest.top)-len(got.top)):]
		if difference := got.difference(rest); difference != "" {
			t.Errorf("%s behind %d tokens: %s", parts[id].Guide.Text, len(parts[id].Generated), difference)
		}
	}
}

// Right and wrong guesses of guided texts, also such as their guides forbid, change nothing.
func TestGuidedGuesses(t *testing.T) {
	demo, requests := os.DirFS("../launcher/demo/model"), guidedRequests(30)
	config := Config{Limits: Limits{PrefillTokens: 64, MaxSequences: 64}, Shards: 1}
	want := startGroup(t, config, demo, 200).run(t, requests, 5, nil, nil)
	config.Speculate = 5
	g := startGroup(t, config, demo, 200)
	random := rand.New(rand.NewPCG(5, 6))
	for _, together := range []int{1, 2} {
		g.engine.propose = oracle(want, random)
		compareResults(t, fmt.Sprint(together, " together"), g.run(t, requests, together, nil, nil), want)
	}
	if s := g.speculation; s.Accepted == 0 || s.Accepted == s.Drafted {
		t.Errorf("%d of %d guesses were right: the test proves little", s.Accepted, s.Drafted)
	}
}

// What a guide forces takes no steps of its own, and changes nothing.
func TestGuidedForced(t *testing.T) {
	demo := os.DirFS("../launcher/demo/model")
	g := startGroup(t, Config{Limits: Limits{PrefillTokens: 64, MaxSequences: 64}, Shards: 2}, demo, 200)
	const schema = `{"properties":{"identifier":{"type":"integer"},"temperature":{"enum":["celsius and kelvin"]}},` +
		`"required":["identifier","temperature"]}`
	requests := guidedRequests(30)
	for i := range 4 {
		requests = append(requests, protocol.Request{ID: uint64(1000 + i), Prompt: []int32{5, int32(6 + i)}, MaxNewTokens: 60,
			TopLogprobs: i % 2,
			Guide:       &guide.Source{Kind: guide.Schema, Text: schema, WhiteSpace: guide.None},
			Sampling:    protocol.Sampling{Sample: true, Seed: uint64(i), Temperature: 1.2}})
	}
	g.engine.forced = false
	before := g.steps
	want := g.run(t, requests, 1, nil, nil)
	unforced := g.steps - before
	g.engine.forced, before = true, g.steps
	for _, together := range []int{1, 3} {
		compareResults(t, fmt.Sprint(together, " together"), g.run(t, requests, together, nil, nil), want)
		if together == 1 && g.steps-before >= unforced {
			t.Errorf("%d steps, %d without", g.steps-before, unforced)
		}
	}
	if s := g.speculation; s.Accepted == 0 {
		t.Errorf("none of %d guesses was right", s.Drafted)
	}
}

// Of a model that has no token to end with a guided text ends where nothing can follow it, and else by its length.
func TestGuidedWithoutEnd(t *testing.T) {
	g := startGroup(t, Config{Shards: 1}, os.DirFS("../launcher/demo/model"), 100)
	g.leader.model.Config.EOSTokenIDs, g.engine.shape.EOSTokenIDs = nil, nil
	requests := []protocol.Request{
		{ID: 1, MaxNewTokens: 40, Guide: &guide.Source{Kind: guide.Choice, Text: `["yes, of course","no"]`}},
		{ID: 2, MaxNewTokens: 40, Guide: &guide.Source{Kind: guide.Regex, Text: `[a-z]*`}},
		{ID: 3, MaxNewTokens: 40, Guide: &guide.Source{Kind: guide.Regex, Text: `a{7}`}},
		{ID: 4, MaxNewTokens: 40, Guide: &guide.Source{Kind: guide.Regex, Text: ``}},
	}
	for i := range requests {
		requests[i].Prompt = []int32{9}
	}
	got := g.run(t, requests, 4, nil, nil)
	for id, finish := range map[uint64]protocol.Finish{1: protocol.FinishEOS, 2: protocol.FinishLength, 3: protocol.FinishEOS,
		4: protocol.FinishGuide} {
		if got[id].finish != finish {
			t.Errorf("request %d ended with %d behind %d tokens, want %d", id, got[id].finish, len(got[id].tokens), finish)
		}
	}
	g.checkGuided(t, requests, got, new(tally))
}

// A token that ends sequences is no text, even where the tokenizer has one for it: it is chosen where the text is whole, and only there.
func TestGuidedEndThatIsText(t *testing.T) {
	g := startGroup(t, Config{Shards: 1}, os.DirFS("../launcher/demo/model"), 100)
	tokenizer, err := text.New(g.leader.model.Files.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	end := int32(-1)
	for id := range int32(g.engine.shape.Vocabulary) {
		if tokenizer.Bytes(id) == "a" {
			end = id
		}
	}
	g.leader.model.Config.EOSTokenIDs, g.engine.shape.EOSTokenIDs = []int32{end}, []int32{end}
	var requests []protocol.Request
	for id, ignore := range []bool{false, true} { // that ends are ignored is no way out of a guide
		requests = append(requests, protocol.Request{ID: uint64(id), Prompt: []int32{9}, MaxNewTokens: 40,
			Guide:    &guide.Source{Kind: guide.Regex, Text: `[a-c]{9}`},
			Sampling: protocol.Sampling{LogitBias: []protocol.TokenBias{{ID: end, Bias: 50}}, IgnoreEOS: ignore}})
	}
	got := g.run(t, requests, 1, nil, nil)
	g.checkGuided(t, requests, got, new(tally))
	for id, result := range got {
		if result.finish != protocol.FinishEOS {
			t.Errorf("request %d ended with %d behind %v", id, result.finish, result.tokens)
		}
	}
}

// A request that forbids what its guide needs fails alone and at once, whatever its company.
func TestGuidedNothingAllowed(t *testing.T) {
	g := startGroup(t, Config{Backend: "sim", Shards: 2, Speculate: 3}, os.DirFS("../launcher/demo/model"), 100)
	tokenizer, err := text.New(g.leader.model.Files.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	var quotes []int32 // all that begins a text of JSON
	for id := range int32(g.engine.shape.Vocabulary) {
		if said := tokenizer.Bytes(id); said != "" && said[0] == '"' {
			quotes = append(quotes, id)
		}
	}
	source := &guide.Source{Kind: guide.Schema, Text: `{"type":"string"}`}
	banned := protocol.Request{ID: 1, Prompt: []int32{1}, MaxNewTokens: 9, Guide: source,
		Sampling: protocol.Sampling{BannedTokenIDs: quotes}}
	fine := protocol.Request{ID: 2, Prompt: []int32{1}, MaxNewTokens: 9, Guide: source}
	got := g.run(t, []protocol.Request{banned, fine}, 2, nil, nil)
	if r := got[1]; r.finish != protocol.FinishGuide || len(r.tokens) != 1 || r.tokens[0] != -1 {
		t.Errorf("it got %v and ended with %d, want -1 and %d", r.tokens, r.finish, protocol.FinishGuide)
	}
	if r := got[2]; r.finish != protocol.FinishLength || len(r.tokens) != 9 {
		t.Errorf("its neighbour got %v and ended with %d", r.tokens, r.finish)
	}
}

// Only special tokens have the mark of special tokens, also where a vocabulary has a token of each byte.
func TestGuideBytes(t *testing.T) {
	for _, c := range []struct {
		bytes   string
		special bool
		want    string
	}{{"<think>", true, "\xff<think>"}, {"<think>", false, "<think>"}, {"", true, ""}, {"\xff", false, ""}, {"a\xffb", false, ""},
		{"\xfe", false, "\xfe"}} {
		if got := guideBytes(c.bytes, c.special); got != c.want {
			t.Errorf("%q, special %t: got %q, want %q", c.bytes, c.special, got, c.want)
		}
	}
}

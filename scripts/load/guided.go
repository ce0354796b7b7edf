package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// guidedTest is what guides cost: as many guided sequences at once as unguided ones of the same lengths, in turn.
type guidedTest struct {
	model                   string
	streams, tokens, rounds int
}

// way is how tokens are chosen in a row of the table.
type way struct {
	name string
	parameters
}

func (g *guidedTest) run() error {
	arguments := []string{"--num-shard", "1", "--threads", "2", "--max-batch-total-tokens", "65536", "--log-level", "warn"}
	if g.model != "" {
		arguments = append(arguments, "--model-id", g.model)
	}
	s, err := start(arguments...)
	if err != nil {
		return err
	}
	defer s.Stop()
	fmt.Printf("%d sequences at once of %d tokens each, guided and not in turn; medians of %d rounds and the least and most ratio\n",
		g.streams, g.tokens, g.rounds)
	fmt.Println("| chosen | guide | tokens/s unguided | guided | ratio |")
	fmt.Println("|---|---|---:|---:|---:|")
	for _, w := range []way{
		{"greedy", parameters{}},
		{"temperature 0.8, top_p 0.9", parameters{DoSample: true, Temperature: 0.8, TopP: 0.9}},
	} {
		for _, guide := range []struct {
			name    string
			grammar func(stream int) *grammar
		}{
			{"one schema", func(int) *grammar { return endlessSchema(0) }},
			{"a schema for each", endlessSchema},
			{"one text", func(int) *grammar { return &grammar{"regex", `[^\n]*`} }},
		} {
			var plain, guided, ratios []float64
			for round := range g.rounds + 1 {
				before, err := g.rate(s, w, nil)
				if err != nil {
					return err
				}
				after, err := g.rate(s, w, guide.grammar)
				if err != nil {
					return err
				}
				if round > 0 { // the first is to warm up
					plain, guided, ratios = append(plain, before), append(guided, after), append(ratios, after/before)
				}
			}
			for _, values := range [][]float64{plain, guided, ratios} {
				slices.Sort(values)
			}
			middle := g.rounds / 2
			fmt.Printf("| %s | %s | %.0f | %.0f | %.3f (%.3f-%.3f) |\n", w.name, guide.name, plain[middle], guided[middle], ratios[middle],
				ratios[0], ratios[g.rounds-1])
		}
	}
	return nil
}

// endlessSchema is of documents that no stream gets to the end of, with numbers, texts and choices.
func endlessSchema(stream int) *grammar {
	return &grammar{"json", fmt.Sprintf(`{"type":"object","required":["list%d"],"properties":{"list%d":{"type":"array","minItems":4000,
"items":{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},"kind":{"enum":["person","place","thing"]},
"score":{"type":"number"},"tags":{"type":"array","items":{"type":"string","maxLength":20}}},
"required":["name","age","kind","score","tags"]}}}}`, stream, stream)}
}

// rate is how many tokens a second all streams have together, from when the last of them has its first token until the first of them ends:
// so long all are in the batch.
func (g *guidedTest) rate(s *server, w way, grammarOf func(stream int) *grammar) (float64, error) {
	answers, failures := make([]*answer, g.streams), make([]error, g.streams)
	var group sync.WaitGroup
	begin := time.Now()
	for i := range g.streams {
		p := w.parameters
		seed := uint64(i)
		if p.MaxNewTokens, p.IgnoreEOS = g.tokens, true; p.DoSample {
			p.Seed = &seed
		}
		if grammarOf != nil {
			p.Grammar = grammarOf(i)
		}
		group.Go(func() { answers[i], failures[i] = s.generate(fmt.Sprintf("Write a long list, number %d:", i), p, 0) })
	}
	group.Wait()
	first, last := time.Duration(0), time.Since(begin)
	for i, a := range answers {
		switch {
		case failures[i] != nil:
			return 0, failures[i]
		case len(a.ids) != g.tokens:
			return 0, fmt.Errorf("%d tokens, want %d: %s", len(a.ids), g.tokens, a.body)
		}
		first, last = max(first, a.first), min(last, a.ended())
	}
	tokens := 0
	for _, a := range answers {
		at := a.first
		for _, gap := range a.gaps {
			if at += gap; first < at && at <= last {
				tokens++
			}
		}
	}
	return float64(tokens) / (last - first).Seconds(), nil
}

// ended is when the last token was there.
func (a *answer) ended() time.Duration {
	end := a.first
	for _, gap := range a.gaps {
		end += gap
	}
	return end
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"lockstep/launcher/simulate"
)

// wordsmith makes prompts of so many tokens from words that are one token each for the model that is served.
type wordsmith struct {
	words []string
	extra int // tokens that the tokenizer adds to every prompt
}

const (
	// fewestWords keep random prompts apart: 16 of them, a block, agree once in 32^16 times.
	fewestWords = 32
	// stories are generated to find words in.
	stories     = 8
	storyTokens = 200
)

var plainWord = regexp.MustCompile(`\b[a-z]+\b`)

// newWordsmith lets the model generate texts, and keeps those of their words that its tokenizer makes one token of.
func newWordsmith(s *server) (*wordsmith, error) {
	found := map[string]bool{}
	for i := range stories {
		seed := uint64(i)
		a, err := s.generate("Once upon a time", parameters{MaxNewTokens: storyTokens, DoSample: true, Seed: &seed, IgnoreEOS: true}, 0)
		if err != nil {
			return nil, err
		}
		for _, word := range plainWord.FindAllString(a.text, -1) {
			found[word] = true
		}
	}
	var candidates []string
	for word := range found {
		candidates = append(candidates, word)
	}
	slices.Sort(candidates)
	tokens, err := s.tokens(" " + strings.Join(candidates, " "))
	if err != nil {
		return nil, err
	}
	w := &wordsmith{}
	for _, token := range tokens {
		if word, ok := strings.CutPrefix(token, " "); ok && found[word] {
			w.words = append(w.words, word)
			delete(found, word) // a second one is the begin of a longer word
		}
	}
	if len(w.words) < fewestWords {
		return nil, fmt.Errorf("%d words of one token are too few to make prompts of", len(w.words))
	}
	if tokens, err = s.tokens(w.text(len(w.words), simulate.Request{}, 0)); err != nil {
		return nil, err
	}
	w.extra = len(tokens) - len(w.words)
	return w, nil
}

// tokens are the texts of a prompt's tokens.
func (s *server) tokens(prompt string) ([]string, error) {
	body, err := json.Marshal(map[string]any{"inputs": prompt,
		"parameters": map[string]any{"max_new_tokens": 1, "ignore_eos": true, "details": true, "decoder_input_details": true}})
	if err != nil {
		return nil, err
	}
	response, err := s.Client.Post(s.URL+"/generate", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var reply struct {
		Details struct {
			Prefill []struct {
				Text string `json:"text"`
			} `json:"prefill"`
		} `json:"details"`
		Error string `json:"error"`
	}
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		return nil, err
	}
	if reply.Error != "" {
		return nil, fmt.Errorf("tokens of a prompt: %s", reply.Error)
	}
	var texts []string
	for _, token := range reply.Details.Prefill {
		texts = append(texts, token.Text)
	}
	return texts, nil
}

// prompt is a text of the request's number of tokens. Prompts share nothing, but pieces of equal hash have equal text.
func (w *wordsmith) prompt(request simulate.Request, index int) string {
	return w.text(max(1, request.PromptTokens-w.extra), request, index)
}

func (w *wordsmith) text(count int, request simulate.Request, index int) string {
	var text strings.Builder
	random := rand.New(rand.NewPCG(uint64(index), 1))
	for i := range count {
		if piece := i / simulate.HashTokens; i%simulate.HashTokens == 0 && piece < len(request.Hashes) {
			random = rand.New(rand.NewPCG(uint64(request.Hashes[piece]), 2))
		}
		text.WriteByte(' ')
		text.WriteString(w.words[random.IntN(len(w.words))])
	}
	return text.String()
}

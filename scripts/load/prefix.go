package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"lockstep/scripts/serving"
)

// prefixTest is many clients with one system prompt.
type prefixTest struct {
	model                             string
	clients, requests, tokens, rounds int
}

const systemTokens = 400

// seen is what the clients of one server saw.
type seen struct {
	first, gaps     []time.Duration
	tokens          int
	duration        time.Duration
	cached, prompts float64
	mismatches      float64
	drained         time.Duration
	texts           map[string]string
}

func (p *prefixTest) run() error {
	fmt.Printf("%d clients, %d requests each, %d tokens each behind a common prompt of %d tokens\n", p.clients, p.requests, p.tokens,
		systemTokens)
	fmt.Println("| prefix cache | tokens/s | TTFT p50 | p99 | gap p50 | p99 | max | prompt tokens cached | ledger mismatches | load 0 " +
		"after |")
	fmt.Println("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	var texts map[string]string
	for range p.rounds {
		for _, cached := range []bool{true, false} {
			s, err := p.serve(cached)
			if err != nil {
				return err
			}
			name := map[bool]string{true: "on", false: "off"}[cached]
			round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
			fmt.Printf("| %s | %.0f | %v | %v | %v | %v | %v | %.0f of %.0f | %.0f | %v |\n", name, float64(s.tokens)/s.duration.Seconds(),
				round(serving.Percentile(s.first, 50)), round(serving.Percentile(s.first, 99)), round(serving.Percentile(s.gaps, 50)),
				round(serving.Percentile(s.gaps, 99)),
				round(serving.Percentile(s.gaps, 100)), s.cached, s.prompts, s.mismatches, s.drained.Round(time.Millisecond))
			if texts == nil {
				texts = s.texts
			}
			for prompt, text := range texts {
				if s.texts[prompt] != text {
					return fmt.Errorf("the cache changed an answer: %q and %q", text, s.texts[prompt])
				}
			}
		}
	}
	fmt.Printf("all %d answers were the same each time\n", len(texts))
	return nil
}

// serve runs the clients against a server of its own.
func (p *prefixTest) serve(cached bool) (*seen, error) {
	arguments := []string{"--max-batch-total-tokens", "65536", "--log-level", "warn"}
	if p.model != "" {
		arguments = append(arguments, "--model-id", p.model)
	}
	if !cached {
		arguments = append(arguments, "--disable-prefix-cache")
	}
	s, err := start(arguments...)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	system, err := p.systemPrompt(s)
	if err != nil {
		return nil, err
	}
	result := &seen{texts: map[string]string{}}
	var mu sync.Mutex
	var group sync.WaitGroup
	var failure error
	begin := time.Now()
	for client := range p.clients {
		group.Go(func() {
			for number := range p.requests {
				prompt := fmt.Sprintf("%s Question %d of client %d: what", system, number, client)
				seed := uint64(1000*client + number)
				a, err := s.generate(prompt, parameters{MaxNewTokens: p.tokens, DoSample: true, Seed: &seed, IgnoreEOS: true}, 0)
				mu.Lock()
				if err == nil && len(a.ids) != p.tokens {
					err = fmt.Errorf("%d tokens, want %d: %s", len(a.ids), p.tokens, a.body)
				}
				if err != nil {
					failure = err
					mu.Unlock()
					return
				}
				result.first, result.gaps = append(result.first, a.first), append(result.gaps, a.gaps...)
				result.tokens += len(a.ids)
				result.texts[prompt] = a.text
				mu.Unlock()
			}
		})
	}
	group.Wait()
	result.duration = time.Since(begin)
	if failure != nil {
		return nil, failure
	}
	for name, value := range map[string]*float64{"lockstep_prefix_hit_tokens_total": &result.cached,
		"lockstep_prefix_prompt_tokens_total": &result.prompts,
		"lockstep_ledger_mismatches_total":    &result.mismatches} {
		if *value, err = s.Metric(name); err != nil {
			return nil, err
		}
	}
	result.drained, err = s.drained()
	return result, err
}

// systemPrompt makes a text of about systemTokens tokens, by asking the server how many tokens texts have.
func (p *prefixTest) systemPrompt(s *server) (string, error) {
	const sentence = " You are a patient teacher who explains things to children in short and clear words."
	text := strings.TrimSpace(sentence)
	for {
		before, err := s.Metric("tgi_request_input_length_sum")
		if err != nil {
			return "", err
		}
		if _, err := s.generate(text, parameters{MaxNewTokens: 1}, 0); err != nil {
			return "", err
		}
		after, err := s.Metric("tgi_request_input_length_sum")
		if err != nil {
			return "", err
		}
		if after-before >= systemTokens {
			return text, nil
		}
		text += sentence
	}
}

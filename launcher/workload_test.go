package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parameters of a generate request, as its JSON object has them.
type parameters map[string]any

// seeded are the parameters of one sequence whose seed is known.
func (p parameters) seeded(seed string) parameters {
	one := maps.Clone(p)
	delete(one, "best_of")
	if seed != "null" {
		one["seed"] = json.Number(seed)
	}
	return one
}

// job is a request of a workload.
type job struct {
	inputs     string
	parameters parameters
	want       sequence // unless it draws
}

// draws says that the server chooses the seeds, so that the answer differs each time.
func (j *job) draws() bool { return j.parameters["seed"] == nil }

// streamable says that TGI allows it as a stream.
func (j *job) streamable() bool {
	return j.parameters["best_of"] == nil && j.parameters["decoder_input_details"] == nil
}

func (j *job) sequences() int {
	if bestOf, ok := j.parameters["best_of"].(int); ok {
		return bestOf
	}
	return 1
}

// sequence is one generated sequence as a client sees it. Tokens are compared as the JSON that has their ids, texts and
// log-probabilities.
type sequence struct {
	tokens, prefill    []string
	text, finish, seed string
}

// difference says in what s is not as wanted, or "".
func (s *sequence) difference(want sequence) string {
	for _, list := range []struct {
		name      string
		got, want []string
	}{{"token", s.tokens, want.tokens}, {"prompt token", s.prefill, want.prefill}} {
		for i := range min(len(list.got), len(list.want)) {
			if list.got[i] != list.want[i] {
				return fmt.Sprintf("%s %d of %d: got %s, want %s", list.name, i, len(list.want), list.got[i], list.want[i])
			}
		}
		if len(list.got) != len(list.want) {
			return fmt.Sprintf("got %d %ss, want %d", len(list.got), list.name, len(list.want))
		}
	}
	if s.text != want.text || s.finish != want.finish || s.seed != want.seed {
		return fmt.Sprintf("got text %q, finish %s, seed %s, want %q, %s, %s", s.text, s.finish, s.seed, want.text, want.finish, want.seed)
	}
	return ""
}

// mean is the mean log-probability, by which best_of chooses.
func (s *sequence) mean() float64 {
	sum := 0.0
	for _, text := range s.tokens {
		var token struct{ Logprob float32 }
		json.Unmarshal([]byte(text), &token)
		sum += float64(token.Logprob)
	}
	return sum / float64(len(s.tokens))
}

// details are TGI's; the sequences of best_of have a text of their own.
type details struct {
	Text            string            `json:"generated_text"`
	Finish          string            `json:"finish_reason"`
	GeneratedTokens int               `json:"generated_tokens"`
	Seed            json.RawMessage   `json:"seed"`
	Prefill         []json.RawMessage `json:"prefill"`
	Tokens          []json.RawMessage `json:"tokens"`
	Others          []details         `json:"best_of_sequences"`
}

func (d *details) sequence() (sequence, error) {
	s := sequence{text: d.Text, finish: d.Finish, seed: string(d.Seed)}
	for _, token := range d.Tokens {
		s.tokens = append(s.tokens, string(token))
	}
	for _, token := range d.Prefill {
		s.prefill = append(s.prefill, string(token))
	}
	if len(s.tokens) == 0 || len(s.tokens) != d.GeneratedTokens {
		return s, fmt.Errorf("%d tokens, but generated_tokens is %d", len(s.tokens), d.GeneratedTokens)
	}
	return s, nil
}

// post sends a body as JSON.
func (s *server) post(ctx context.Context, path string, body any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	return http.DefaultClient.Do(request)
}

// readAnswer reads the JSON of a response and closes it. One that is not OK is an error.
func readAnswer(response *http.Response, answer any) error {
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %w", response.Status, data, err)
	}
	return json.Unmarshal(data, answer)
}

// ask sends a request to /generate or /generate_stream and returns its sequences, the best first. received, when not nil,
// is called for every event of a stream.
func (s *server) ask(ctx context.Context, inputs string, parameters parameters, stream bool,
	received func(context.Context) error) ([]sequence, error) {
	path := "/generate"
	if stream {
		path += "_stream"
	}
	response, err := s.post(ctx, path, map[string]any{"inputs": inputs, "parameters": parameters})
	if err != nil {
		return nil, err
	}
	if stream {
		defer response.Body.Close()
		return readStream(ctx, response.Body, received)
	}
	var answer struct {
		Text    string `json:"generated_text"`
		Details details
	}
	if err := readAnswer(response, &answer); err != nil {
		return nil, err
	}
	answer.Details.Text = answer.Text
	var sequences []sequence
	for _, d := range append([]details{answer.Details}, answer.Details.Others...) {
		one, err := d.sequence()
		if err != nil {
			return nil, err
		}
		sequences = append(sequences, one)
	}
	return sequences, nil
}

// readStream reads the events of a stream, of which only the last has the text.
func readStream(ctx context.Context, body io.Reader, received func(context.Context) error) ([]sequence, error) {
	var all details
	ended := false
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue // an empty line or a comment
		}
		var event struct {
			Token   json.RawMessage
			Text    *string `json:"generated_text"`
			Details *details
			Error   string
		}
		err := json.Unmarshal([]byte(data), &event)
		switch {
		case err != nil || event.Error != "" || event.Token == nil:
			return nil, fmt.Errorf("event %s: %w", data, err)
		case ended:
			return nil, fmt.Errorf("an event behind the last: %s", data)
		case event.Text != nil && event.Details != nil:
			ended = true
			all.Text, all.Finish, all.Seed, all.GeneratedTokens = *event.Text, event.Details.Finish, event.Details.Seed,
				event.Details.GeneratedTokens
		}
		all.Tokens = append(all.Tokens, event.Token)
		if received != nil {
			if err := received(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if !ended {
		return nil, fmt.Errorf("the stream broke off behind %d tokens", len(all.Tokens))
	}
	one, err := all.sequence()
	return []sequence{one}, err
}

// parked is how often the server's groups have parked a request, as the metrics say.
func (s *server) parked(t *testing.T) int {
	t.Helper()
	response, err := http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	total, found := 0, false
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "} "); ok && strings.HasPrefix(name, "lockstep_group_parked_total{") {
			count, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			total, found = total+int(count), true
		}
	}
	if !found {
		t.Error("the metrics have no lockstep_group_parked_total")
	}
	return total
}

var words = strings.Fields(`once upon a time there was little girl named Lily she had red ball and big dog who liked to play in the park One
	day they saw very old tree with 7 apples "What is that?" asked her mom. They were happy, but it rained so much; café naïve 雪 🙂 🏳️‍🌈`)

func randomText(random *rand.Rand, count int) string {
	var text strings.Builder
	for i := range count {
		if i > 0 {
			text.WriteString([]string{" ", " ", " ", " ", " ", "\n", "  "}[random.IntN(7)])
		}
		text.WriteString(words[random.IntN(len(words))])
	}
	return text.String()
}

// metamorphicWorkload makes requests that use every parameter; many prompts begin alike. The reference answers them, and
// what it generates is where stop strings are cut from, so that they are found: anywhere, also within a token.
func metamorphicWorkload(t *testing.T, count int, random *rand.Rand, r reference) []job {
	t.Helper()
	system := randomText(random, 20+random.IntN(40))
	jobs := make([]job, count)
	for i := range jobs {
		j := &jobs[i]
		if random.IntN(3) > 0 {
			j.inputs = system[:strings.LastIndex(system[:1+random.IntN(len(system))], " ")+1]
		}
		j.inputs += randomText(random, 1+random.IntN(30))
		j.parameters = randomParameters(random)
		if i%5 == 2 { // certainly long, which admission cannot know: this is what gets parked
			j.parameters["max_new_tokens"], j.parameters["min_new_tokens"] = 110, 100
			delete(j.parameters, "ignore_eos")
		}
		switch {
		case i%8 == 0:
			j.parameters["best_of"], j.parameters["do_sample"] = 2, true
		case i%8 == 1:
			j.parameters["do_sample"] = true
		default:
			j.parameters["seed"] = random.Uint64()
			j.want = r.sequence(t, j.inputs, j.parameters)
			if text := []rune(strings.TrimPrefix(j.want.text, j.inputs)); i%3 == 0 && len(text) > 0 {
				from := random.IntN(len(text))
				stop := string(text[from:min(len(text), from+1+random.IntN(6))])
				j.parameters["stop"] = []string{"\x00never", stop}
				j.want = r.sequence(t, j.inputs, j.parameters)
			}
		}
	}
	return jobs
}

// randomParameters switches each parameter on now and then.
func randomParameters(random *rand.Rand) parameters {
	length := 1 + random.IntN(40)
	if random.IntN(3) == 0 {
		length += 80
	}
	p := parameters{"details": true, "max_new_tokens": length, "do_sample": random.IntN(2) == 0}
	rarely := func(name string, value func() any) {
		if v := value(); random.IntN(5) == 0 {
			p[name] = v
		}
	}
	constant := func(value any) func() any { return func() any { return value } }
	id := func() int { return 3 + random.IntN(2045) }
	share := func() any { return 0.5 + random.Float32()/2.1 }
	rarely("temperature", func() any { return 0.5 + random.Float32() })
	rarely("top_k", func() any { return 1 + random.IntN(100) })
	rarely("top_p", share)
	rarely("typical_p", share)
	rarely("min_p", func() any { return 0.05 * random.Float32() })
	rarely("repetition_penalty", func() any { return 0.8 + random.Float32() })
	rarely("frequency_penalty", func() any { return 2*random.Float32() - 0.5 })
	rarely("presence_penalty", func() any { return 2*random.Float32() - 0.5 })
	rarely("logit_bias", func() any { return map[string]float32{strconv.Itoa(id()): 5, strconv.Itoa(id()): -100} })
	rarely("min_new_tokens", func() any { return random.IntN(length + 1) })
	rarely("ignore_eos", constant(true))
	rarely("exponential_decay_length_penalty", func() any { return []any{random.IntN(10), 1 + random.Float32()/5} })
	rarely("watermark", constant(true))
	rarely("truncate", func() any { return 1 + random.IntN(60) })
	rarely("decoder_input_details", constant(true))
	rarely("return_full_text", constant(true))
	rarely("disable_prompt_cache", constant(true))
	if random.IntN(10) == 0 {
		var allowed []int
		for range 50 {
			allowed = append(allowed, id())
		}
		slices.Sort(allowed)
		p["allowed_token_ids"] = allowed
	}
	return p
}

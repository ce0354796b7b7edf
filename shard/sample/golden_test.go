package sample_test

import (
	"bufio"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/outside"
	"lockstep/shard/sample"
)

func lines(t *testing.T, path string, each func(line []byte)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<24)
	for scanner.Scan() {
		each(scanner.Bytes())
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
}

// goldenCase is what the reference makes of logits.
type goldenCase struct {
	id      string
	logits  []float32
	context sample.Context
	p       protocol.Sampling
	probs   map[int32]float64
	argmax  []int32
	// sameSupport is false where rounding to float32 decides which tokens are left.
	sameSupport bool
}

func goldenCases(t *testing.T) (cases []goldenCase) {
	dir := outside.Reference(t, "testdata/sampling", "golden", "sampling")
	vectors := map[string][]float32{}
	lines(t, filepath.Join(dir, "vectors.jsonl"), func(line []byte) {
		var v struct {
			Name   string
			Logits []float32
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		vectors[v.Name] = v.Logits
	})
	lines(t, filepath.Join(dir, "cases.jsonl"), func(line []byte) {
		var c struct {
			ID, Vector  string
			Prompt      []int32 `json:"prompt_ids"`
			Generated   []int32 `json:"generated_ids"`
			Params      map[string]any
			Probs       map[int32]float64
			Argmax      []int32 `json:"argmax_ids"`
			SameSupport bool    `json:"f32_same_support"`
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		context := sample.Context{Tokens: append(c.Prompt, c.Generated...), Prompt: len(c.Prompt)}
		cases = append(cases, goldenCase{c.ID, vectors[c.Vector], context, parameters(t, c.Params), c.Probs, c.Argmax, c.SameSupport})
	})
	return cases
}

func parameters(t *testing.T, params map[string]any) protocol.Sampling {
	p := protocol.Sampling{Sample: true}
	for name, value := range params {
		number, _ := value.(float64)
		switch name {
		case "temperature":
			p.Temperature = float32(number)
		case "top_k":
			p.TopK = int(number)
		case "top_p":
			p.TopP = float32(number)
		case "typical_p":
			p.TypicalP = float32(number)
		case "repetition_penalty":
			p.RepetitionPenalty = float32(number)
		case "presence_penalty":
			p.PresencePenalty = float32(number)
		case "frequency_penalty":
			if params["frequency_mode"] == "openai" {
				p.FrequencyPenalty = float32(number)
			} else {
				p.RelativeFrequencyPenalty = float32(number)
			}
		case "frequency_mode":
		default:
			t.Fatalf("the cases have a new parameter %q", name)
		}
	}
	return p
}

func TestGoldenDistributions(t *testing.T) {
	var s sample.Sampler
	compared, skipped := 0, 0
	for _, c := range goldenCases(t) {
		if !c.sameSupport {
			skipped++
			continue
		}
		compared++
		got := s.Distribution(c.logits, c.context, &c.p)
		for _, probs := range []map[int32]float64{got, c.probs} { // where a probability becomes 0 is not compared
			maps.DeleteFunc(probs, func(_ int32, p float64) bool { return p < 1e-290 })
		}
		// Which of several equally likely tokens a top_p boundary cuts depends on the reference's sort: compare what is left by size.
		gotProbs, wantProbs := slices.Sorted(maps.Values(got)), slices.Sorted(maps.Values(c.probs))
		if len(gotProbs) != len(wantProbs) {
			t.Errorf("%s %+v: %d tokens left, want %d", c.id, c.p, len(gotProbs), len(wantProbs))
			continue
		}
		for i, want := range wantProbs {
			if math.Abs(gotProbs[i]-want) > 2e-5 {
				t.Errorf("%s %+v: the %dth smallest probability is %v, want %v", c.id, c.p, i, gotProbs[i], want)
				break
			}
		}
		for id, want := range c.probs {
			if got, ok := got[id]; want > wantProbs[0]+2e-5 && (!ok || math.Abs(got-want) > 2e-5) {
				t.Errorf("%s %+v: token %d has probability %v, want %v", c.id, c.p, id, got, want)
				break
			}
		}
	}
	t.Logf("%d cases compared, %d depend on rounding", compared, skipped)
	if compared < 25 {
		t.Errorf("only %d cases compared", compared)
	}
}

func TestGoldenGreedyChoices(t *testing.T) {
	var s sample.Sampler
	for _, c := range goldenCases(t) {
		all := s.Distribution(c.logits, c.context, &c.p)
		c.p.Sample = false
		got, _, _ := s.Choose(c.logits, c.context, &c.p, 0, nil)
		switch _, kept := all[got]; {
		case !kept && c.p.TypicalP > 0: // it can drop the best, which greedy takes nevertheless
		case slices.Contains(c.argmax, got):
		case math.Abs(all[got]-c.probs[c.argmax[0]]) < 2e-5: // top_p cuts equally likely ones, as the reference's sort has it
		default:
			t.Errorf("%s %+v: got %d, want one of %v", c.id, c.p, got, c.argmax)
		}
	}
}

// Samples follow the reference's distributions, for all mixes of parameters that the cases have.
func TestGoldenSamples(t *testing.T) {
	const stride = 151 // without a common divisor with the number of cases: the mixes meet many vectors
	var s sample.Sampler
	cases, done := goldenCases(t), map[[8]bool]bool{}
	for i := range cases {
		c := cases[i*stride%len(cases)]
		mix := [8]bool{c.p.Temperature > 0, c.p.TopK > 0, c.p.TopP > 0, c.p.TypicalP > 0, c.p.RepetitionPenalty > 0,
			c.p.FrequencyPenalty != 0, c.p.RelativeFrequencyPenalty != 0, c.p.PresencePenalty != 0}
		if done[mix] || len(c.probs) < 2 || !sameKeys(s.Distribution(c.logits, c.context, &c.p), c.probs) {
			continue // which of equally likely tokens a top_p boundary cuts depends on the reference's sort
		}
		done[mix] = true
		if z := chiSquare(&s, c.logits, c.context, c.p, c.probs); z > 5 {
			t.Errorf("%s %+v: the samples are %v standard deviations off", c.id, c.p, z)
		}
	}
	if t.Logf("%d mixes", len(done)); len(done) < 10 {
		t.Errorf("only %d mixes of parameters", len(done))
	}
}

func sameKeys(a, b map[int32]float64) bool {
	return slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
}

// chiSquare draws 20,000 samples with different seeds and returns how many standard deviations they are off the
// distribution. Tokens that are expected less than five times count as one.
func chiSquare(s *sample.Sampler, logits []float32, c sample.Context, p protocol.Sampling, want map[int32]float64) (z float64) {
	const draws = 20000
	counts := map[int32]int{}
	for seed := range uint64(draws) {
		p.Seed = seed
		token, _, _ := s.Choose(logits, c, &p, 0, nil)
		counts[token]++
	}
	chi, freedom, rareWant, rareGot := 0.0, -1.0, 1e-9, 0.0
	add := func(got, want float64) {
		chi += (got - want) * (got - want) / want
		freedom++
	}
	for id, probability := range want {
		if expected := probability * draws; expected < 5 {
			rareWant += expected
			rareGot += float64(counts[id])
		} else {
			add(float64(counts[id]), expected)
		}
		delete(counts, id)
	}
	for range counts {
		return math.Inf(1) // a token was chosen that may not be
	}
	if rareWant > 5 {
		add(rareGot, rareWant)
	}
	freedom = max(1, freedom)
	// Wilson and Hilferty's transformation to a normal variable.
	return (math.Cbrt(chi/freedom) - (1 - 2/(9*freedom))) / math.Sqrt(2/(9*freedom))
}

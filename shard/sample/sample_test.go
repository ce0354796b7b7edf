package sample_test

import (
	"bufio"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/shard/sample"
)

func sharedFolder(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("LOCKSTEP_SHARED")
	if dir == "" {
		dir = "../../../shared"
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("LOCKSTEP_REQUIRE_SHARED") == "1" {
			t.Fatal(err)
		}
		t.Skip("the reference data is not here")
	}
	return dir
}

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
}

// The reference's processed distributions, for all cases that use only the parameters of this package.
func TestGoldenDistributions(t *testing.T) {
	dir := filepath.Join(sharedFolder(t), "golden/sampling")
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
	var s sample.Sampler
	compared, skipped := 0, 0
	lines(t, filepath.Join(dir, "cases.jsonl"), func(line []byte) {
		var c struct {
			ID, Vector  string
			Prompt      []int32 `json:"prompt_ids"`
			Generated   []int32 `json:"generated_ids"`
			Params      map[string]any
			Probs       map[int32]float64
			SameSupport *bool `json:"f32_same_support"`
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		p := protocol.Sampling{Sample: true}
		for name, value := range c.Params {
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
			default:
				skipped++
				return
			}
		}
		if c.SameSupport != nil && !*c.SameSupport {
			skipped++
			return
		}
		compared++
		got := s.Distribution(vectors[c.Vector], append(c.Prompt, c.Generated...), p)
		maps.DeleteFunc(got, func(_ int32, p float64) bool { return p == 0 }) // the reference leaves zeros out
		// Which of several equally likely tokens a top_p boundary cuts depends on the reference's sort: compare what is left by size.
		gotProbs, wantProbs := slices.Sorted(maps.Values(got)), slices.Sorted(maps.Values(c.Probs))
		if len(gotProbs) != len(wantProbs) {
			t.Errorf("%s %v: %d tokens left, want %d", c.ID, c.Params, len(gotProbs), len(wantProbs))
			return
		}
		for i, want := range wantProbs {
			if math.Abs(gotProbs[i]-want) > 2e-5 {
				t.Errorf("%s %v: the %dth smallest probability is %v, want %v", c.ID, c.Params, i, gotProbs[i], want)
				return
			}
		}
		for id, want := range c.Probs {
			if _, ok := got[id]; !ok && want > wantProbs[0]+2e-5 {
				t.Errorf("%s %v: token %d of probability %v is missing", c.ID, c.Params, id, want)
				return
			}
		}
	})
	t.Logf("%d cases compared, %d use parameters of later work or depend on rounding", compared, skipped)
	if compared < 100 {
		t.Errorf("only %d cases compared", compared)
	}
}

// 20,000 positions of one seed follow the distribution.
func TestChoicesFollowTheDistribution(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	logits := make([]float32, 40)
	for i := range logits {
		logits[i] = float32(random.NormFloat64() * 2)
	}
	p := protocol.Sampling{Sample: true, Seed: 11, Temperature: 0.9, TopK: 12}
	var s sample.Sampler
	want := s.Distribution(logits, nil, p)
	const draws = 20000
	counts := map[int32]int{}
	for position := range draws {
		token, _ := s.Choose(logits, nil, p, position)
		counts[token]++
	}
	chi := 0.0
	for id, probability := range want {
		expected := probability * draws
		chi += (float64(counts[id]) - expected) * (float64(counts[id]) - expected) / expected
		delete(counts, id)
	}
	freedom := float64(len(want) - 1)
	if z := (chi - freedom) / math.Sqrt(2*freedom); z > 5 || len(counts) > 0 {
		t.Errorf("chi-square %v for %v degrees of freedom (z %v); %d filtered tokens chosen", chi, freedom, z, len(counts))
	}
}

func TestGreedyIgnoresSeedAndKeepsLogits(t *testing.T) {
	logits := []float32{1, 3, 3, 2}
	var s sample.Sampler
	for position := range 10 {
		token, logprob := s.Choose(logits, []int32{0}, protocol.Sampling{Seed: 5, RepetitionPenalty: 1.2}, position)
		if token != 1 || logits[0] != 1 || !(logprob < 0) {
			t.Fatalf("got token %d, log-probability %v, logits %v", token, logprob, logits)
		}
	}
}

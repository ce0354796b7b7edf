package host_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// real opens a real model that scripts/get-model brings, and the folder of its reference cases.
func real(t testing.TB, name string) (*model.Model, string) {
	t.Helper()
	dir := outside.Shared(t, "golden", "models", name)
	data, err := os.ReadFile(filepath.Join(dir, "model.json"))
	if err != nil {
		t.Fatal(err)
	}
	var info struct{ GGUF, SHA256 string }
	if err := json.Unmarshal(data, &info); err != nil {
		t.Fatal(err)
	}
	path := outside.Cached(t, "get-model", info.GGUF)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != info.SHA256 {
		t.Fatalf("%s has SHA-256 %s, want %s", path, got, info.SHA256)
	}
	source, err := model.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return source, dir
}

// SmolLM2's reference cases and perplexity on one to four shards, whose 9 query and 3 KV heads divide evenly on 1 and 3 only.
func TestGoldenSmolLM2(t *testing.T) {
	goldenOfReal(t, "real_smollm2_135m")
}

// Qwen2.5-Coder's in Q4_K_M, with 14 query and 2 KV heads.
func TestGoldenQwenCoder(t *testing.T) {
	outside.Slow(t)
	goldenOfReal(t, "real_qwen2.5_coder_0.5b")
}

func goldenOfReal(t *testing.T, name string) {
	source, dir := real(t, name)
	data, err := os.ReadFile(filepath.Join(dir, "golden.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	all := modeltest.Cases[backendtest.Golden](t, data)
	for _, ranks := range []int{1, 2, 3, 4} {
		if ranks > 2 && !outside.All() {
			continue
		}
		t.Run(fmt.Sprint(ranks), func(t *testing.T) {
			g := newGroup(t, source, ranks, 1, cpu.Best())
			for _, c := range all {
				if len(c.Prompt) <= backendtest.MaxRows {
					backendtest.Check(t, g, c, backendtest.Exact)
				}
			}
		})
	}
}

func TestPerplexitySmolLM2(t *testing.T) {
	outside.Slow(t)
	perplexityOfReal(t, "real_smollm2_135m")
}

func TestPerplexityQwenCoder(t *testing.T) {
	outside.Slow(t)
	perplexityOfReal(t, "real_qwen2.5_coder_0.5b")
}

func perplexityOfReal(t *testing.T, name string) {
	source, dir := real(t, name)
	data, err := os.ReadFile(filepath.Join(dir, "ppl.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		IDs    []int32 `json:"ids"`
		Scored int     `json:"n_scored"`
		NLL    float64 `json:"mean_nll"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	for _, by := range []struct {
		numerics, cache string
		tolerance       float64 // a perplexity of 0.1% and 0.5%
	}{{"f32", "f32", 0.001}, {"f32", "f16", 0.001}, {"f32", "bf16", 0.005}, {"q8", "f16", 0.005}} {
		if by.cache == "bf16" && !outside.All() {
			continue
		}
		g := newGroupOf(t, host.Options{Kernels: cpu.Best(), Numerics: by.numerics, Cache: by.cache}, source, 1, 2)
		s := g.Sequence(len(c.IDs))
		sum, scored := 0.0, 0
		for at := 0; at < len(c.IDs); at += backendtest.MaxRows {
			chunk := c.IDs[at:min(at+backendtest.MaxRows, len(c.IDs))]
			for i, logits := range s.Compute(chunk, model.LogitsAll) {
				if next := at + i + 1; next < len(c.IDs) {
					sum += float64(logits[c.IDs[next]]) - backendtest.LogSumExp(logits)
					scored++
				}
			}
		}
		got := -sum / float64(scored)
		t.Logf("%s, KV cache in %s: perplexity %.4f, the reference's %.4f (%+.3f%%)", by.numerics, by.cache, math.Exp(got), math.Exp(c.NLL),
			100*math.Expm1(got-c.NLL))
		if scored != c.Scored || math.Abs(got-c.NLL) > by.tolerance {
			t.Errorf("mean negative log-likelihood of %d tokens is %v, want %v of %d", scored, got, c.NLL, c.Scored)
		}
	}
}

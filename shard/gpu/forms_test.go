package gpu_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// expertForms are how experts can be quantised, by the number of an expert.
var expertForms = map[string]func(expert byte) backendtest.GPTQForm{
	"reordered": func(byte) backendtest.GPTQForm { return backendtest.GPTQForm{Bits: 4, Ordered: true} },
	"mixed": func(expert byte) backendtest.GPTQForm { // of five experts and more all of these are there
		return []backendtest.GPTQForm{{Bits: 4}, {Bits: 4, Ordered: true}, {}, {Bits: 8, Ordered: true}}[expert%4]
	},
}

// expertsOfForms is a model with random experts of so many columns, in other forms; dir has it in float32.
func expertsOfForms(t *testing.T, columns int, form func(expert byte) backendtest.GPTQForm) (source *model.Model, dir fstest.MapFS) {
	dir = modeltest.Files(t, "qwen3_moe")
	const before = 40
	random := rand.New(rand.NewPCG(7, 8))
	tensors := backendtest.FloatTensors(t, modeltest.OpenFS(t, dir).Files)
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		if tensor := tensors[name]; strings.Contains(name, ".experts.") {
			wide := backendtest.FloatTensor{Shape: slices.Clone(tensor.Shape)}
			wide.Shape[slices.Index(wide.Shape, before)] = columns
			for range columns * len(tensor.Values) / before {
				wide.Values = append(wide.Values, float32(random.NormFloat64()*0.1))
			}
			tensors[name] = wide
		}
	}
	dir["model.safetensors"] = &fstest.MapFile{Data: backendtest.Safetensors(t, tensors)}
	const key = `"moe_intermediate_size": %d`
	modeltest.Replace(dir, fmt.Sprintf(key, before), fmt.Sprintf(key, columns))
	return modeltest.OpenFS(t, backendtest.RandomGPTQ(t, dir, 16, func(name string) backendtest.GPTQForm {
		_, expert, of := strings.Cut(name, ".experts.")
		if !of {
			return backendtest.GPTQForm{}
		}
		return form(expert[0] - '0')
	}, random)), dir
}

// Experts whose columns are reordered, each in its own way, and those of several forms, have the host's logits; alone and beside others,
// and where the model divides on any number of ranks, they have the same bits. Of 64 columns plain weights have 8 chunks, and codes 2; 96
// do not divide.
func TestFormsOfExperts(t *testing.T) {
	for i, c := range []struct {
		columns int
		form    string
	}{{256, "reordered"}, {64, "mixed"}, {96, "mixed"}} {
		if i > 0 && !outside.All() {
			continue
		}
		source, _ := expertsOfForms(t, c.columns, expertForms[c.form])
		prompt := randomPrompt(source, 10)
		want := onHost(t, source, prompt, 0)
		for numerics, allowed := range numericsAllowed {
			var alone [][]float32
			for _, ranks := range []int{1, 2} {
				if (numerics == "bf16" || ranks > 1) && !outside.All() {
					continue
				}
				t.Run(fmt.Sprintf("%d %s/%s/%d", c.columns, c.form, numerics, ranks), func(t *testing.T) {
					logits := besideOthers(t, newGroup(t, source, ranks, numerics), prompt)
					checkDistance(t, logits, want, allowed)
					part, err := source.Part(0, ranks)
					if err != nil || part.Uneven != (ranks > 1 && c.columns == 96) {
						t.Fatalf("uneven: %v, %v", part.Uneven, err)
					}
					if ranks == 1 {
						alone = logits
					} else if row := backendtest.FirstDifference(logits, alone); row >= 0 && !part.Uneven {
						t.Errorf("other logits than on one rank behind token %d", row)
					}
				})
			}
		}
	}
}

// checkDistance compares logits with the host's.
func checkDistance(t *testing.T, got, want [][]float32, allowed backendtest.Tolerance) {
	t.Helper()
	outliers, worst := 0, 0.0
	for row := range want {
		d := backendtest.Distance(got[row:row+1], want[row:row+1])
		if worst = max(worst, d); !(d < allowed.Logit) {
			outliers++
		}
	}
	if t.Logf("logits are up to %.2g standard deviations off the host's", worst); float64(outliers) > allowed.Outliers*float64(len(want)) {
		t.Errorf("%d rows of %d are more than %v off", outliers, len(want), allowed.Logit)
	}
}

// besideOthers gives a prompt's logits. The same rows must have the same bits in pieces beside another prompt, and in decode steps, which
// are filled up with rows that are not there.
func besideOthers(t *testing.T, g *backendtest.Group, prompt []int32) [][]float32 {
	t.Helper()
	whole := g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
	if !outside.All() {
		return whole
	}
	other := append(prompt[5:len(prompt):len(prompt)], prompt[:6]...)
	backendtest.Pieces(t, g, [][]int32{prompt, other})
	const begun = 4
	var chunks []model.Chunk
	for range 3 {
		s := g.Sequence(begun)
		s.Compute(prompt[:begun], model.LogitsNone)
		chunks = append(chunks, s.Chunk(prompt[begun:begun+1], model.LogitsLast))
	}
	for i, row := range g.Step(chunks) {
		if backendtest.FirstDifference([][]float32{row}, whole[begun:begun+1]) >= 0 {
			t.Errorf("sequence %d: other logits in a decode step", i)
		}
	}
	return whole
}

// Adapters of reordered experts take their input in the order of its columns.
func TestAdaptersOfReorderedExperts(t *testing.T) {
	outside.Slow(t)
	source, dir := expertsOfForms(t, 96, expertForms["reordered"])
	adapter, err := model.OpenAdapterFS("random", backendtest.RandomAdapter(t, dir, 5, "", rand.New(rand.NewPCG(3, 4))))
	if err != nil {
		t.Fatal(err)
	}
	defer adapter.Close()
	prompt := randomPrompt(source, 12)
	for _, ranks := range []int{1, 2} {
		g := newGroup(t, source, ranks, "two-term", adapter)
		g.Adapter = 1
		got := g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
		if d := backendtest.Distance(got, onHost(t, source, prompt, 1, adapter)); !(d < backendtest.Exact.Logit) {
			t.Errorf("%d ranks: logits are %.2g standard deviations off the host's", ranks, d)
		}
	}
}

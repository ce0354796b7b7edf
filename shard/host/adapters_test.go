package host_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights"
)

// Every reference case of adapters, on every kernel path and, with the best one, on one to four shards.
func TestGoldenAdapters(t *testing.T) {
	for _, name := range []string{"gpt_oss", "llama_gqa_9q3kv", "qwen2_untied_sliding"} {
		source, _ := modeltest.Open(t, name)
		adapters, cases := backendtest.Adapters(t, filepath.Join("testdata", "lora", name))
		for _, kernels := range cpu.Available() {
			for ranks := 1; ranks <= 4 && (ranks == 1 || kernels == cpu.Best()); ranks++ {
				t.Run(fmt.Sprintf("%s/%s/%d", name, kernels.Name(), ranks), func(t *testing.T) {
					g := newGroup(t, source, ranks, 1, kernels, adapters...)
					for i := range cases {
						g.Adapter = i + 1
						worst := 0.0
						for _, c := range cases[i] {
							worst = max(worst, backendtest.Check(t, g, c, backendtest.Exact))
						}
						t.Logf("%s: largest error of a logit: %.1e standard deviations", adapters[i].Name, worst)
					}
				})
			}
		}
	}
}

// manyAdapters are ten random ones for all projections of a model, of unlike ranks; the last has the middle layer's alone.
func manyAdapters(t *testing.T, dir fstest.MapFS) (adapters []*model.Adapter, files []fstest.MapFS) {
	t.Helper()
	for i := range 10 {
		random := rand.New(rand.NewPCG(uint64(i), 7))
		only := ""
		if i == 9 {
			only = ".1."
		}
		adapter := backendtest.RandomAdapter(t, dir, 1+i*3, only, random)
		opened, err := model.OpenAdapterFS(fmt.Sprint("adapter", i), adapter)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(opened.Close)
		adapters, files = append(adapters, opened), append(files, adapter)
	}
	return adapters, files
}

// Ten adapters and the base in one batch, in pieces of 7 tokens, get the bits that each gets whole and alone, without other
// adapters in the group: also where experts, latents and fused projections are adapted, and on any number of shards that the
// model divides into.
func TestAdaptersTogether(t *testing.T) {
	for i, name := range []string{"mixtral", "llama_rope_llama3_f16", "deepseek_v2_mla", "phi3", "gpt2", "gpt_neox"} {
		if i > 0 && !outside.All() {
			continue
		}
		source, dir := modeltest.Open(t, name)
		adapters, _ := manyAdapters(t, dir)
		prompts := make([][]int32, len(adapters)+1)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range prompts {
			for range 15 + i {
				prompts[i] = append(prompts[i], random.Int32N(int32(source.Config.Vocabulary)))
			}
		}
		for _, ranks := range []int{1, 2, 4} {
			if ranks != 2 && !outside.All() {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", name, ranks), func(t *testing.T) {
				want := make([][][]float32, len(prompts))
				for i, prompt := range prompts {
					if i == 0 {
						want[i] = newGroup(t, source, ranks, 1, cpu.Best()).Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
						continue
					}
					g := newGroup(t, source, ranks, 1, cpu.Best(), adapters[i-1])
					g.Adapter = 1
					want[i] = g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
				}
				got := inPieces(newGroup(t, source, ranks, 1, cpu.Best(), adapters...), prompts)
				for i := range want {
					if row := backendtest.FirstDifference(got[i], want[i]); row >= 0 {
						t.Errorf("adapter %d: other logits behind token %d", i, row)
					}
				}
			})
		}
	}
}

// inPieces computes prompts beside each other in pieces of 7 tokens, the i-th with the i-th adapter.
func inPieces(g *backendtest.Group, prompts [][]int32) [][][]float32 {
	got := make([][][]float32, len(prompts))
	sequences := make([]*backendtest.Sequence, len(prompts))
	for i, prompt := range prompts {
		g.Adapter = i
		sequences[i] = g.Sequence(len(prompt))
	}
	for at := 0; ; at += 7 {
		var chunks []model.Chunk
		var owners []int
		for i, prompt := range prompts {
			if part := prompt[min(at, len(prompt)):min(at+7, len(prompt))]; len(part) > 0 {
				chunks, owners = append(chunks, sequences[i].Chunk(part, model.LogitsAll)), append(owners, i)
			}
		}
		if len(chunks) == 0 {
			return got
		}
		rows := g.Step(chunks)
		for i, owner := range owners {
			count := len(chunks[i].Tokens)
			got[owner] = append(got[owner], rows[:count]...)
			rows = rows[count:]
		}
	}
}

// An adapter computes what the model does into which it is merged.
func TestAdaptersAreWhatIsMerged(t *testing.T) {
	for _, name := range []string{"llama_headdim_bias_sharded", "mixtral", "qwen3_moe", "deepseek_v2_mla", "phi3", "gpt2", "gpt_neox",
		"gemma2", "starcoder2_sliding40", "internlm2"} {
		t.Run(name, func(t *testing.T) {
			source, dir := modeltest.Open(t, name)
			files := backendtest.RandomAdapter(t, dir, 5, "", rand.New(rand.NewPCG(3, 4)))
			adapter, err := model.OpenAdapterFS("random", files)
			if err != nil {
				t.Fatal(err)
			}
			defer adapter.Close()
			merged := modeltest.OpenFS(t, merge(t, dir, files))
			prompt := []int32{1, 20, 300, 4, 55, 66, 77, 88, 99, 100, 101, 102}
			want := newGroup(t, merged, 1, 1, cpu.Best()).Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
			base := newGroup(t, source, 1, 1, cpu.Best()).Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
			for _, ranks := range []int{1, 3} {
				g := newGroup(t, source, ranks, 1, cpu.Best(), adapter)
				g.Adapter = 1
				got := g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
				if d := backendtest.Distance(got, want); !(d < 1e-3) {
					t.Errorf("%d shards: the logits are %.2g standard deviations off", ranks, d)
				}
			}
			if d := backendtest.Distance(base, want); !(d > 0.1) {
				t.Errorf("the adapter changes logits by %.2g standard deviations only", d)
			}
		})
	}
}

// What an adapter has for the parameters that hold all experts gives the bits of what has the same for each expert.
func TestAdaptersOfAllExperts(t *testing.T) {
	for name, projections := range map[string][]string{
		"mixtral":   {"block_sparse_moe.experts.%d.w1", "block_sparse_moe.experts.%d.w3", "block_sparse_moe.experts.%d.w2"},
		"qwen3_moe": {"mlp.experts.%d.gate_proj", "mlp.experts.%d.up_proj", "mlp.experts.%d.down_proj"},
	} {
		source, dir := modeltest.Open(t, name)
		each, all := adaptersOfAllExperts(t, dir, source.Config.Layers, projections)
		prompt := []int32{1, 20, 300, 4, 55, 66, 77, 88, 99, 100, 101, 102}
		for _, ranks := range []int{1, 2, 3} {
			var got [2][][]float32
			for i, files := range []fstest.MapFS{each, all} {
				adapter, err := model.OpenAdapterFS("experts", files)
				if err != nil {
					t.Fatal(err)
				}
				defer adapter.Close()
				g := newGroup(t, source, ranks, 1, cpu.Best(), adapter)
				g.Adapter = 1
				got[i] = g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
			}
			if row := backendtest.FirstDifference(got[0], got[1]); row >= 0 {
				t.Errorf("%s on %d shards: other logits behind token %d", name, ranks, row)
			}
		}
		adapter, err := model.OpenAdapterFS("experts", all)
		if err != nil {
			t.Fatal(err)
		}
		defer adapter.Close()
		for other, want := range map[string]string{"gpt_oss": "it was made for another model", "phi3": "which the model does not have"} {
			source, _ := modeltest.Open(t, other)
			if _, err := source.Part(0, 1, adapter); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s's on %s: got error %v, want %q", name, other, err, want)
			}
		}
	}
}

// adaptersOfAllExperts makes an adapter for each expert's gate, up and down, and one of the same for parameters that hold all experts.
func adaptersOfAllExperts(t *testing.T, dir fstest.MapFS, layers int, projections []string) (each, all fstest.MapFS) {
	t.Helper()
	const rank = 3
	each = backendtest.RandomAdapter(t, dir, rank, ".experts.", rand.New(rand.NewPCG(8, 9)))
	opened, err := weights.OpenAdapterFS(each)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	apart, together := backendtest.FloatTensors(t, opened), map[string]backendtest.FloatTensor{}
	for layer := range layers {
		of := func(projection int) (a, b []backendtest.FloatTensor) {
			for expert := 0; ; expert++ {
				half := func(of int, half string) string {
					return fmt.Sprintf("base_model.model.model.layers.%d."+projections[of]+half, layer, expert)
				}
				if _, there := apart[half(projection, ".lora_A.weight")]; !there {
					return a, b
				}
				if projection == 1 { // gate and up have their first halves in common
					apart[half(1, ".lora_A.weight")] = apart[half(0, ".lora_A.weight")]
				}
				a, b = append(a, apart[half(projection, ".lora_A.weight")]), append(b, apart[half(projection, ".lora_B.weight")])
			}
		}
		gateA, gateB := of(0)
		_, upB := of(1)
		downA, downB := of(2)
		for expert, up := range upB {
			gateB[expert] = backendtest.FloatTensor{Shape: []int{2 * up.Shape[0], rank},
				Values: slices.Concat(gateB[expert].Values, up.Values)}
		}
		module := fmt.Sprintf("base_model.model.model.layers.%d.mlp.experts.", layer)
		together[module+"lora_A.weight"], together[module+"lora_B.weight"] = stacked(downA, downB)
		together[module+"base_layer.lora_A.weight"], together[module+"base_layer.lora_B.weight"] = stacked(gateA, gateB)
	}
	config := fmt.Sprintf(`{"peft_type":"LORA","r":%d,"lora_alpha":1,"alpha_pattern":{".*\\.gate_up_proj":%d,"down_proj":%d},`+
		`"target_modules":["q_proj"],"target_parameters":["down_proj","gate_up_proj"]}`, rank, backendtest.AdapterAlpha,
		backendtest.AdapterAlpha)
	each["adapter_model.safetensors"] = &fstest.MapFile{Data: backendtest.Safetensors(t, apart)}
	return each, fstest.MapFS{"adapter_config.json": {Data: []byte(config)},
		"adapter_model.safetensors": {Data: backendtest.Safetensors(t, together)}}
}

// stacked are the halves of all experts in PEFT's layout: [expert][rank][inputs] and [outputs][rank][expert].
func stacked(a, b []backendtest.FloatTensor) (allA, allB backendtest.FloatTensor) {
	rank, inputs, outputs := a[0].Shape[0], a[0].Shape[1], b[0].Shape[0]
	allA.Shape, allB.Shape = []int{len(a) * rank, inputs}, []int{outputs, rank * len(b)}
	for _, x := range a {
		allA.Values = append(allA.Values, x.Values...)
	}
	for output := range outputs {
		for r := range rank {
			for _, x := range b {
				allB.Values = append(allB.Values, x.Values[output*rank+r])
			}
		}
	}
	return allA, allB
}

// merge adds an adapter to a model's weights.
func merge(t *testing.T, dir, adapter fstest.MapFS) fstest.MapFS {
	t.Helper()
	opened, err := weights.OpenAdapterFS(adapter)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	tensors, low := backendtest.FloatTensors(t, modeltest.OpenFS(t, dir).Files), backendtest.FloatTensors(t, opened)
	for name, a := range low {
		projection, found := strings.CutSuffix(strings.TrimPrefix(name, "base_model.model."), ".lora_A.weight")
		if !found {
			continue
		}
		b, w := low["base_model.model."+projection+".lora_B.weight"], tensors[projection+".weight"]
		rank, inputs, outputs := a.Shape[0], a.Shape[1], b.Shape[0]
		for output := range outputs {
			for input := range inputs {
				sum := 0.0
				for r := range rank {
					sum += float64(b.Values[output*rank+r]) * float64(a.Values[r*inputs+input])
				}
				at := output*inputs + input
				if backendtest.Transposed(projection) {
					at = input*outputs + output
				}
				w.Values[at] += float32(sum * backendtest.AdapterAlpha / float64(rank))
			}
		}
	}
	merged := fstest.MapFS{"model.safetensors": {Data: backendtest.Safetensors(t, tensors)}}
	for name, file := range dir {
		if !strings.HasSuffix(name, ".safetensors") && !strings.HasSuffix(name, ".index.json") {
			merged[name] = file
		}
	}
	return merged
}

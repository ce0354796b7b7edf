package host_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"testing/fstest"

	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// divisible is a Llama of random weights in bfloat16 whose heads and columns divide by 8, the columns into groups of 32.
func divisible(t *testing.T) fstest.MapFS {
	t.Helper()
	const hidden, heads, dim, inner, vocabulary, layers = 256, 8, 32, 512, 2048, 2
	random := rand.New(rand.NewPCG(8, 15))
	all := map[string]backendtest.StoredTensor{}
	add := func(name string, scale float64, shape ...int) {
		stored := backendtest.StoredTensor{DataType: "BF16", Shape: shape}
		count := 1
		for _, size := range shape {
			count *= size
		}
		for range count {
			stored.Data = binary.LittleEndian.AppendUint16(stored.Data, uint16(math.Float32bits(float32(random.NormFloat64()*scale))>>16))
		}
		all[name] = stored
	}
	add("model.embed_tokens.weight", 1, vocabulary, hidden)
	add("model.norm.weight", 1, hidden)
	for layer := range layers {
		at := fmt.Sprintf("model.layers.%d.", layer)
		add(at+"input_layernorm.weight", 1, hidden)
		add(at+"post_attention_layernorm.weight", 1, hidden)
		for _, name := range []string{"q", "k", "v"} {
			add(at+"self_attn."+name+"_proj.weight", 0.06, heads*dim, hidden)
		}
		add(at+"self_attn.o_proj.weight", 0.06, hidden, heads*dim)
		add(at+"mlp.gate_proj.weight", 0.06, inner, hidden)
		add(at+"mlp.up_proj.weight", 0.06, inner, hidden)
		add(at+"mlp.down_proj.weight", 0.05, hidden, inner)
	}
	config := fmt.Sprintf(`{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": %d, "hidden_size": %d,
		"intermediate_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d,
		"hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": true,
		"eos_token_id": 0, "torch_dtype": "bfloat16"}`, vocabulary, hidden, inner, layers, heads, heads, dim)
	tokenizer, err := os.ReadFile("../../launcher/demo/model/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{"config.json": {Data: []byte(config)}, "tokenizer.json": {Data: tokenizer},
		"model.safetensors": {Data: backendtest.SafetensorsOf(t, all)}}
}

// Every arithmetic gives the same bits on 1, 2, 4 and 8 ranks, on the kernels of each.
func TestUpToEightRanks(t *testing.T) {
	files, random := divisible(t), rand.New(rand.NewPCG(1, 8))
	prompt := make([]int32, 21)
	for i := range prompt {
		prompt[i] = random.Int32N(2048)
	}
	var others [][][]float32 // of the arithmetics before
	for _, by := range []struct{ numerics, quantise string }{{"f32", ""}, {"bf16", ""}, {"q8", "int8"}, {"q8", "int4"}} {
		t.Run(by.numerics+by.quantise, func(t *testing.T) {
			source := modeltest.OpenFS(t, files)
			if by.quantise != "" {
				if _, err := source.Quantise(by.quantise); err != nil {
					t.Fatal(err)
				}
			}
			var want [][]float32
			for ranks := 1; ranks <= 8; ranks *= 2 {
				part, err := source.Part(0, ranks)
				if err != nil {
					t.Fatal(err)
				}
				if part.Uneven {
					t.Fatalf("the model does not divide by %d", ranks)
				}
				all := cpu.Available()
				kernels := all[ranks%len(all)]
				g := newGroupOf(t, host.Options{Kernels: kernels, Numerics: by.numerics}, source, ranks, 1)
				got := g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
				if want == nil {
					want = got
				} else if row := backendtest.FirstDifference(got, want); row >= 0 {
					t.Errorf("%d ranks, %s kernels: other logits behind token %d", ranks, kernels.Name(), row)
				}
			}
			for _, other := range others {
				if backendtest.FirstDifference(want, other) < 0 {
					t.Error("the logits are those of another arithmetic")
				}
			}
			others = append(others, want)
		})
	}
}

// However many threads share rows and weights, and in whatever parts, the bits are the same.
func TestThreadsDoNotChangeLogits(t *testing.T) {
	files, random := divisible(t), rand.New(rand.NewPCG(2, 8))
	source := modeltest.OpenFS(t, files)
	if _, err := source.Quantise("int8"); err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{1, 23, 60, 250} { // in one part, in two, in one for each thread
		prompt := make([]int32, rows)
		for i := range prompt {
			prompt[i] = random.Int32N(2048)
		}
		var want [][]float32
		for _, threads := range []int{1, 2, 3, 5} {
			g := newGroupOf(t, host.Options{Kernels: cpu.Best()}, source, 1, threads)
			got := g.Sequence(rows).Compute(prompt, model.LogitsAll)
			if want == nil {
				want = got
			} else if row := backendtest.FirstDifference(got, want); row >= 0 {
				t.Errorf("%d rows, %d threads: other logits behind token %d", rows, threads, row)
			}
		}
	}
}

package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lockstep/scripts/checkpoint"
	"lockstep/shard/model"
)

// shape is a config.json of the models that are made up.
type shape struct {
	checkpoint.Shape
	Experts int `json:"num_local_experts,omitempty"` // of Mixtral, two of which are chosen
}

var shapes = map[string]shape{
	"smollm2-bf16": {Shape: checkpoint.Shape{ModelType: "llama", Hidden: 576, Intermediate: 1536, Layers: 30, Heads: 9,
		KVHeads: 3, HeadDim: 64,
		Vocabulary: 49152, Tied: true}},
	"llama-1b": {Shape: checkpoint.Shape{ModelType: "llama", Hidden: 2048, Intermediate: 8192, Layers: 16, Heads: 32,
		KVHeads: 8, HeadDim: 64,
		Vocabulary: 128256, Tied: true}},
	"llama-3b": {Shape: checkpoint.Shape{ModelType: "llama", Hidden: 3072, Intermediate: 8192, Layers: 28, Heads: 24,
		KVHeads: 8, HeadDim: 128,
		Vocabulary: 128256, Tied: true}},
	"mixtral-small": {Shape: checkpoint.Shape{ModelType: "mixtral", Hidden: 1024, Intermediate: 1792, Layers: 24, Heads: 16,
		KVHeads: 4, HeadDim: 64,
		Vocabulary: 32000}, Experts: 8},
}

// fetched are the files that scripts/get-model brings, by the names of their models.
var fetched = map[string]string{"smollm2-q4_1": "SmolLM2-135M-Instruct.Q4_1.gguf",
	"qwen2.5-coder-q4_k_m": "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf"}

// opened is an open model, with what was asked for behind its name.
type opened struct {
	*model.Model
	name     string
	adapters []*model.Adapter
	cleanup  func()
}

// openModel opens NAME[+widened][+int8|+int4][+adapters]: +widened brings a fetched model into bf16 first, +int8 and +int4 do what
// --quantize does, and +adapters adds ten random ones.
func openModel(name string) (*opened, error) {
	parts := strings.Split(name, "+")
	dir, err := os.MkdirTemp("", "speed")
	if err != nil {
		return nil, err
	}
	m := &opened{name: name, cleanup: func() { os.RemoveAll(dir) }}
	if err := m.open(dir, parts[0], parts[1:]); err != nil {
		m.cleanup()
		return nil, err
	}
	return m, nil
}

func (m *opened) open(dir, base string, options []string) (err error) {
	path := dir
	if file := fetched[base]; file != "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		path = filepath.Join(cache, "lockstep", file)
	} else if s, ok := shapes[base]; !ok {
		return fmt.Errorf("no such model; there are %s", strings.Join(slices.Sorted(maps.Keys(shapes)), ", ")+", "+
			strings.Join(slices.Sorted(maps.Keys(fetched)), ", "))
	} else if err := s.write(dir); err != nil {
		return err
	}
	if len(options) > 0 && options[0] == "widened" {
		wide := filepath.Join(dir, "widened.gguf")
		if err := checkpoint.Widen(path, wide); err != nil {
			return err
		}
		path, options = wide, options[1:]
	}
	if m.Model, err = model.Open(path); err != nil {
		return err
	}
	for _, option := range options {
		if option == "adapters" {
			m.adapters, err = randomAdapters(dir, m.Model)
		} else {
			_, err = m.Quantise(option)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry describes a tensor of a safetensors file.
type entry struct {
	Type    string `json:"dtype"`
	Shape   []int  `json:"shape"`
	Offsets [2]int `json:"data_offsets"`
}

// tensors are those of the model, and their bytes.
func (s shape) tensors() (map[string]entry, int) {
	header, size := map[string]entry{}, 0
	add := func(name string, shape ...int) {
		count := 2
		for _, n := range shape {
			count *= n
		}
		header[name] = entry{"BF16", shape, [2]int{size, size + count}}
		size += count
	}
	add("model.embed_tokens.weight", s.Vocabulary, s.Hidden)
	add("model.norm.weight", s.Hidden)
	if !s.Tied {
		add("lm_head.weight", s.Vocabulary, s.Hidden)
	}
	for i := range s.Layers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		add(layer+"input_layernorm.weight", s.Hidden)
		add(layer+"post_attention_layernorm.weight", s.Hidden)
		add(layer+"self_attn.q_proj.weight", s.Heads*s.HeadDim, s.Hidden)
		add(layer+"self_attn.k_proj.weight", s.KVHeads*s.HeadDim, s.Hidden)
		add(layer+"self_attn.v_proj.weight", s.KVHeads*s.HeadDim, s.Hidden)
		add(layer+"self_attn.o_proj.weight", s.Hidden, s.Heads*s.HeadDim)
		mlp := func(gate, up, down string) {
			add(layer+gate+".weight", s.Intermediate, s.Hidden)
			add(layer+up+".weight", s.Intermediate, s.Hidden)
			add(layer+down+".weight", s.Hidden, s.Intermediate)
		}
		if s.Experts == 0 {
			mlp("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
			continue
		}
		add(layer+"block_sparse_moe.gate.weight", s.Experts, s.Hidden)
		for e := range s.Experts {
			expert := fmt.Sprintf("block_sparse_moe.experts.%d.", e)
			mlp(expert+"w1", expert+"w3", expert+"w2")
		}
	}
	return header, size
}

// write makes a model of random bf16 weights.
func (s shape) write(dir string) error {
	s.Epsilon, s.Positions, s.Theta = 1e-5, 8192, 1e5
	config, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte("{}"), 0o644); err != nil {
		return err
	}
	header, size := s.tensors()
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	out.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
	out.Write(text)
	random := rand.New(rand.NewPCG(1, 2))
	for range size / 8 {
		// Exponents around 2^-6 and random signs and mantissas, four weights at a time.
		out.Write(binary.LittleEndian.AppendUint64(nil, random.Uint64()&0x80ff80ff80ff80ff|0x3c003c003c003c00))
	}
	out.Write(make([]byte, size%8))
	return out.Flush()
}

package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"lockstep/shard/model"
)

// shape is a config.json of the models that are made up.
type shape struct {
	ModelType    string  `json:"model_type"`
	Hidden       int     `json:"hidden_size"`
	Intermediate int     `json:"intermediate_size"`
	Layers       int     `json:"num_hidden_layers"`
	Heads        int     `json:"num_attention_heads"`
	KVHeads      int     `json:"num_key_value_heads"`
	HeadDim      int     `json:"head_dim"`
	Vocabulary   int     `json:"vocab_size"`
	Epsilon      float64 `json:"rms_norm_eps"`
	Positions    int     `json:"max_position_embeddings"`
	Tied         bool    `json:"tie_word_embeddings"`
	Theta        float64 `json:"rope_theta"`
}

var shapes = map[string]shape{
	"smollm2-bf16": {"llama", 576, 1536, 30, 9, 3, 64, 49152, 1e-5, 8192, true, 1e5},
	"llama-1b":     {"llama", 2048, 8192, 16, 32, 8, 64, 128256, 1e-5, 8192, true, 5e5},
}

func openModel(name string) (source *model.Model, cleanup func(), err error) {
	if name == "smollm2-q4_1" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, nil, err
		}
		source, err = model.Open(filepath.Join(cache, "lockstep", "SmolLM2-135M-Instruct.Q4_1.gguf"))
		return source, func() {}, err
	}
	s, ok := shapes[name]
	if !ok {
		return nil, nil, fmt.Errorf("no such model; there are smollm2-q4_1, smollm2-bf16 and llama-1b")
	}
	dir, err := os.MkdirTemp("", "speed")
	if err != nil {
		return nil, nil, err
	}
	cleanup = func() { os.RemoveAll(dir) }
	if err = s.write(dir); err == nil {
		source, err = model.Open(dir)
	}
	if err != nil {
		cleanup()
	}
	return source, cleanup, err
}

// write makes a model of random bf16 weights.
func (s shape) write(dir string) error {
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
	type entry struct {
		Type    string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
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
	for i := range s.Layers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		add(layer+"input_layernorm.weight", s.Hidden)
		add(layer+"post_attention_layernorm.weight", s.Hidden)
		add(layer+"self_attn.q_proj.weight", s.Heads*s.HeadDim, s.Hidden)
		add(layer+"self_attn.k_proj.weight", s.KVHeads*s.HeadDim, s.Hidden)
		add(layer+"self_attn.v_proj.weight", s.KVHeads*s.HeadDim, s.Hidden)
		add(layer+"self_attn.o_proj.weight", s.Hidden, s.Heads*s.HeadDim)
		add(layer+"mlp.gate_proj.weight", s.Intermediate, s.Hidden)
		add(layer+"mlp.up_proj.weight", s.Intermediate, s.Hidden)
		add(layer+"mlp.down_proj.weight", s.Hidden, s.Intermediate)
	}
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

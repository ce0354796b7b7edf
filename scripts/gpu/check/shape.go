package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"lockstep/scripts/checkpoint"
	"lockstep/shard/model"
)

// shape is the config.json of a model of random weights.
type shape struct{ checkpoint.Shape }

// shapes are those of Llama 3.2 1B, Qwen 2.5 7B and Llama 3 8B, and one for machines without a card.
var shapes = map[string]shape{
	"1B": {checkpoint.Shape{Hidden: 2048, Intermediate: 8192, Layers: 16, Heads: 32,
		KVHeads: 8, HeadDim: 64, Vocabulary: 128256, Tied: true}},
	"7B": {checkpoint.Shape{ModelType: "qwen2", Hidden: 3584, Intermediate: 18944, Layers: 28, Heads: 28,
		KVHeads: 4, HeadDim: 128, Vocabulary: 152064}},
	"8B":   {checkpoint.Shape{Hidden: 4096, Intermediate: 14336, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128, Vocabulary: 128256}},
	"tiny": {checkpoint.Shape{Hidden: 128, Intermediate: 256, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 32, Vocabulary: 512}},
}

// knownTokens is how many tokens have an embedding that is not zero.
const knownTokens = 1024

// write makes a model whose matrices, but for the embeddings of some tokens, take no room on the disk.
func (s shape) write(dir string) error {
	if s.ModelType == "" {
		s.ModelType = "llama"
	}
	s.Epsilon, s.Positions, s.Theta = 1e-5, 40960, 500000
	config, err := json.Marshal(s)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"config.json": config, "tokenizer.json": []byte("{}")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	file, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	defer file.Close()
	header, data, size := s.tensors()
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	start := int64(8 + len(text))
	if _, err := file.WriteAt(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), 0); err != nil {
		return err
	}
	for at, words := range data {
		if _, err := file.WriteAt(raw(words), start+at); err != nil {
			return err
		}
	}
	return file.Truncate(start + size)
}

// tensors are those of the model, and what they hold that is not zero, by offset.
func (s shape) tensors() (header map[string]any, data map[int64][]uint16, size int64) {
	header, data = map[string]any{}, map[int64][]uint16{}
	random := rand.New(rand.NewPCG(1, 2))
	add := func(filled int, number func() uint16, name string, shape ...int) {
		count := int64(2)
		for _, n := range shape {
			count *= int64(n)
		}
		header[name] = map[string]any{"dtype": "BF16", "shape": shape, "data_offsets": []int64{size, size + count}}
		if filled > 0 {
			words := make([]uint16, filled)
			for i := range words {
				words[i] = number()
			}
			data[size] = words
		}
		size += count
	}
	embedding := func() uint16 { return uint16(math.Float32bits(float32(random.NormFloat64())) >> 16) }
	add(min(knownTokens, s.Vocabulary)*s.Hidden, embedding, "model.embed_tokens.weight", s.Vocabulary, s.Hidden)
	one := func() uint16 { return 0x3f80 }
	add(s.Hidden, one, "model.norm.weight", s.Hidden)
	if !s.Tied {
		add(0, nil, "lm_head.weight", s.Vocabulary, s.Hidden)
	}
	for i := range s.Layers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		add(s.Hidden, one, layer+"input_layernorm.weight", s.Hidden)
		add(s.Hidden, one, layer+"post_attention_layernorm.weight", s.Hidden)
		for name, heads := range map[string]int{"q": s.Heads, "k": s.KVHeads, "v": s.KVHeads} {
			add(0, nil, layer+"self_attn."+name+"_proj.weight", heads*s.HeadDim, s.Hidden)
			if s.ModelType == "qwen2" {
				add(0, nil, layer+"self_attn."+name+"_proj.bias", heads*s.HeadDim)
			}
		}
		add(0, nil, layer+"self_attn.o_proj.weight", s.Hidden, s.Heads*s.HeadDim)
		add(0, nil, layer+"mlp.gate_proj.weight", s.Intermediate, s.Hidden)
		add(0, nil, layer+"mlp.up_proj.weight", s.Intermediate, s.Hidden)
		add(0, nil, layer+"mlp.down_proj.weight", s.Hidden, s.Intermediate)
	}
	return header, data, size
}

// openShape opens a model of random weights, in a format: "" is bf16, others are those that Quantise knows.
func openShape(name, format string, layers int) (_ *model.Model, done func(), err error) {
	s, ok := shapes[name]
	if !ok {
		return nil, nil, fmt.Errorf("no shape %s; there are %v", name, slices.Sorted(maps.Keys(shapes)))
	}
	if layers > 0 {
		s.Layers = min(s.Layers, layers)
	}
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { os.RemoveAll(dir) }
	if err := s.write(dir); err != nil {
		remove()
		return nil, nil, err
	}
	source, err := model.Open(dir)
	if err == nil && format != "" {
		_, err = source.Quantise(format)
	}
	if err != nil {
		remove()
		return nil, nil, err
	}
	return source, func() { source.Close(); remove() }, nil
}

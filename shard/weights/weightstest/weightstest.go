// Package weightstest writes small model files for tests.
package weightstest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Config is the smallest config.json that is taken.
const Config = `{"model_type":"llama","hidden_size":4,"intermediate_size":4,"num_hidden_layers":1,"num_attention_heads":1,"num_key_value_heads":1,
	"vocab_size":3,"max_position_embeddings":16,"rms_norm_eps":1e-5}`

// With is Config of another model type and with more keys.
func With(modelType, keys string) string {
	return strings.Replace(Config, `"model_type":"llama"`, `"model_type":"`+modelType+`",`+keys, 1)
}

// Safetensors is a file of this header and so many zero bytes behind it.
func Safetensors(header string, payload int) []byte {
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(data, header...), make([]byte, payload)...)
}

// OneTensor is a file of a 2 x 3 tensor of float32.
func OneTensor(name string) []byte {
	return Safetensors(`{"`+name+`":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`, 24)
}

// Directory holds a config.json, a tokenizer.json that says nothing, and the files given.
func Directory(config string, files map[string][]byte) fstest.MapFS {
	dir := fstest.MapFS{"config.json": {Data: []byte(config)}, "tokenizer.json": {Data: []byte("{}")}}
	for name, data := range files {
		dir[name] = &fstest.MapFile{Data: data}
	}
	return dir
}

// Metadata are a GGUF file's: string, uint32, uint64, int32, float32, bool, []string, []int32, []float32
// or []bool.
type Metadata map[string]any

// GGUFTensor is a tensor of a GGUF file.
type GGUFTensor struct {
	Name       string
	Kind       uint32
	Dimensions []int // the fastest first
	Data       []byte
}

// GGUF writes a little-endian file of version 3.
func GGUF(meta Metadata, tensors []GGUFTensor) []byte {
	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	text := func(s string) { put(uint64(len(s))); b.WriteString(s) }
	b.WriteString("GGUF")
	put(uint32(3))
	put(uint64(len(tensors)))
	put(uint64(len(meta)))
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		text(key)
		switch v := meta[key].(type) {
		case string:
			put(uint32(8))
			text(v)
		case []string:
			put([2]uint32{9, 8})
			put(uint64(len(v)))
			for _, s := range v {
				text(s)
			}
		case []int32:
			put([2]uint32{9, 5})
			put(uint64(len(v)))
			put(v)
		case []float32:
			put([2]uint32{9, 6})
			put(uint64(len(v)))
			put(v)
		case []bool:
			put([2]uint32{9, 7})
			put(uint64(len(v)))
			put(v)
		case uint32:
			put(uint32(4))
			put(v)
		case int32:
			put(uint32(5))
			put(v)
		case float32:
			put(uint32(6))
			put(v)
		case bool:
			put(uint32(7))
			put(v)
		case uint64:
			put(uint32(10))
			put(v)
		default:
			panic(fmt.Sprintf("metadata of type %T", v))
		}
	}
	var payload []byte
	for _, t := range tensors {
		text(t.Name)
		put(uint32(len(t.Dimensions)))
		for _, size := range t.Dimensions {
			put(uint64(size))
		}
		put(t.Kind)
		put(uint64(len(payload)))
		payload = append(payload, t.Data...)
		payload = append(payload, make([]byte, -len(payload)&31)...)
	}
	b.Write(make([]byte, -b.Len()&31))
	return append(b.Bytes(), payload...)
}

// TinyGGUF is the smallest GGUF file that is taken, with more metadata and 4 x 4 tensors of float32, which count upwards
// through all of them.
func TinyGGUF(more Metadata, names ...string) []byte {
	meta := Metadata{"general.architecture": "llama", "llama.embedding_length": uint32(4), "llama.feed_forward_length": uint32(4),
		"llama.block_count": uint32(1), "llama.attention.head_count": uint32(1), "llama.context_length": uint32(16),
		"llama.vocab_size": uint32(4)}
	maps.Copy(meta, more)
	var tensors []GGUFTensor
	for i, name := range names {
		var data bytes.Buffer
		for j := range 16 {
			binary.Write(&data, binary.LittleEndian, float32(16*i+j))
		}
		tensors = append(tensors, GGUFTensor{Name: name, Dimensions: []int{4, 4}, Data: data.Bytes()})
	}
	return GGUF(meta, tensors)
}

// Write writes a file m.gguf and returns its path.
func Write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Tensors are shapes of tensors of float32, by name.
type Tensors map[string][]int

// File is a safetensors file of them, in which each number is that of its row.
func (s Tensors) File() []byte {
	header, payload := []string{}, []byte{}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		shape, from := s[name], len(payload)
		columns, count := shape[len(shape)-1], 1
		for _, size := range shape {
			count *= size
		}
		for i := range count {
			payload = binary.LittleEndian.AppendUint32(payload, math.Float32bits(float32(i/columns)))
		}
		header = append(header, fmt.Sprintf(`%q:{"dtype":"F32","shape":%s,"data_offsets":[%d,%d]}`, name,
			strings.ReplaceAll(fmt.Sprint(shape), " ", ","), from, len(payload)))
	}
	file := Safetensors("{"+strings.Join(header, ",")+"}", len(payload))
	copy(file[len(file)-len(payload):], payload)
	return file
}

// DecoderTensors are all tensors that any family with Llama's names has, of Config's sizes.
func DecoderTensors(layers int) Tensors {
	s := Tensors{"model.embed_tokens.weight": {3, 4}, "model.norm.weight": {4}, "lm_head.weight": {3, 4}, "score.0.weight": {4, 4},
		"score.0.bias": {4}, "score.2.weight": {1, 4}, "score.2.bias": {1}}
	for layer := range layers {
		for _, name := range []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
			"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"} {
			s[fmt.Sprintf("model.layers.%d.%s.weight", layer, name)] = []int{4, 4}
			s[fmt.Sprintf("model.layers.%d.%s.bias", layer, name)] = []int{4}
		}
		for _, name := range []string{"input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"} {
			s[fmt.Sprintf("model.layers.%d.%s.weight", layer, name)] = []int{4}
		}
	}
	return s
}

package checkpoint_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/scripts/checkpoint"
	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// hidden is a multiple of what a block of Q8_0 holds.
const hidden = 32

// llama is a model of one layer whose numbers bf16 holds exactly, row by row others.
func llama(t *testing.T) string {
	var tensors []weightstest.GGUFTensor
	for i, name := range []string{"token_embd", "output_norm", "blk.0.attn_norm", "blk.0.ffn_norm", "blk.0.attn_q", "blk.0.attn_k",
		"blk.0.attn_v", "blk.0.attn_output", "blk.0.ffn_gate", "blk.0.ffn_up", "blk.0.ffn_down"} {
		tensor := weightstest.GGUFTensor{Name: name + ".weight", Dimensions: []int{hidden, hidden}}
		if strings.Contains(name, "norm") {
			tensor.Dimensions = tensor.Dimensions[:1]
		}
		for row := range map[int]int{1: 1, 2: hidden}[len(tensor.Dimensions)] {
			for column := range hidden {
				value := float32(row+1) * float32(column-7) / 8
				if column == 0 {
					value = float32(i)
				}
				tensor.Data = binary.LittleEndian.AppendUint32(tensor.Data, math.Float32bits(value)&0xffff0000)
			}
		}
		tensors = append(tensors, tensor)
	}
	var tokens []string
	for i := range hidden {
		tokens = append(tokens, fmt.Sprint("t", i))
	}
	return weightstest.Write(t, weightstest.GGUF(weightstest.Metadata{"general.architecture": "llama",
		"llama.embedding_length": uint32(hidden), "llama.feed_forward_length": uint32(hidden), "llama.block_count": uint32(1),
		"llama.attention.head_count": uint32(4), "llama.attention.head_count_kv": uint32(4), "llama.context_length": uint32(16),
		"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": tokens}, tensors))
}

func open(t *testing.T, path string) *weights.Files {
	t.Helper()
	files, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(files.Close)
	return files
}

func row(t *testing.T, files *weights.Files, name string, rows, row int) []float32 {
	t.Helper()
	tensor, err := files.Tensor(name, rows, hidden)
	if err != nil {
		t.Fatal(err)
	}
	return tensor.Floats(row, nil)
}

func TestRewritten(t *testing.T) {
	source, dir := llama(t), t.TempDir()
	wide, quantised := filepath.Join(dir, "wide.gguf"), filepath.Join(dir, "quantised.gguf")
	if err := checkpoint.Widen(source, wide); err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.Quantise(wide, quantised); err != nil {
		t.Fatal(err)
	}
	was, plain, coarse := open(t, source), open(t, wide), open(t, quantised)
	for _, name := range was.Names() {
		rows := hidden
		if strings.Contains(name, "norm") {
			rows = 1
		} else if plain.Encoding(name) != weights.BF16 || coarse.Encoding(name) != weights.Q8_0 {
			t.Fatalf("%s is %v and %v", name, plain.Encoding(name), coarse.Encoding(name))
		}
		for i := range rows {
			want, got := row(t, was, name, rows, i), row(t, plain, name, rows, i)
			near := row(t, coarse, name, rows, i)
			for j, v := range want {
				if got[j] != v || math.Abs(float64(near[j]-v)) > max(10, float64(i+1)*25/8)/127 {
					t.Fatalf("%s %d %d: %v was written as %v and %v", name, i, j, v, got[j], near[j])
				}
			}
		}
	}
}

// Rows of queries lie as rotation pairs in GGUF and as halves in a directory.
func TestFolder(t *testing.T) {
	source, dir := llama(t), t.TempDir()
	if err := checkpoint.WriteFolder(source, dir); err != nil {
		t.Fatal(err)
	}
	was, folder := open(t, source), open(t, dir)
	for head := range 4 {
		for i := range 8 {
			stored := 8*head + i%4*2 + i/4
			got := row(t, folder, "model.layers.0.self_attn.q_proj.weight", hidden, 8*head+i)
			if want := row(t, was, "blk.0.attn_q.weight", hidden, stored); got[8] != want[8] || got[0] != want[0] {
				t.Errorf("row %d of head %d is not row %d of the file", i, head, stored)
			}
		}
	}
	got, want := row(t, folder, "model.layers.0.mlp.down_proj.weight", hidden, 5), row(t, was, "blk.0.ffn_down.weight", hidden, 5)
	if got[0] != want[0] || got[8] != want[8] {
		t.Errorf("a row of down_proj is %v, want %v", got, want)
	}
}

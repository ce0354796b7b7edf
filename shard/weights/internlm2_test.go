package weights_test

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"lockstep/shard/weights"
)

// The rows of wqkv come by KV head: here two, each with two query heads; a head has two dimensions.
func TestInternLM2RowOrder(t *testing.T) {
	config := `{"model_type":"internlm2","hidden_size":4,"head_dim":2,"intermediate_size":4,"num_hidden_layers":1,"num_attention_heads":4,
		"num_key_value_heads":2,"vocab_size":3,"max_position_embeddings":16,"rms_norm_eps":1e-5}`
	file := safetensors(`{"model.layers.0.attention.wqkv.weight":{"dtype":"F32","shape":[16,4],"data_offsets":[0,256]},
		"model.tok_embeddings.weight":{"dtype":"F32","shape":[3,4],"data_offsets":[256,304]}}`, 304)
	rows := file[len(file)-304:]
	for row := range 16 {
		binary.LittleEndian.PutUint32(rows[16*row:], math.Float32bits(float32(row)))
	}
	m, err := weights.OpenFS(directory(config, map[string][]byte{"model.safetensors": file}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]float32{"q": {0, 1, 2, 3, 8, 9, 10, 11}, "k": {4, 5, 12, 13}, "v": {6, 7, 14, 15}} {
		matrix, err := m.Tensor("model.layers.0.self_attn."+name+"_proj.weight", len(want), 4)
		if err != nil {
			t.Fatal(err)
		}
		var got []float32
		for row := range want {
			got = append(got, matrix.Floats(row, nil)[0])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got rows %v, want %v", name, got, want)
		}
	}
	if got, want := m.WeightBytes, int64(304); got != want || !m.Has("model.embed_tokens.weight") {
		t.Errorf("got %d bytes of weights, want %d; embeddings %v", got, want, m.Has("model.embed_tokens.weight"))
	}
}

func TestWindowsAndScoreHeads(t *testing.T) {
	file := safetensors(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`, 24)
	layers := func(config string) string {
		return strings.Replace(config, `"num_hidden_layers":1`, `"num_hidden_layers":3`, 1)
	}
	for _, c := range []struct {
		modelType, keys string
		windows         []int
		score           weights.ScoreHead
	}{
		{"mistral", `"sliding_window":8`, []int{8, 8, 8}, weights.NoScore},
		{"mistral", `"sliding_window":null`, nil, weights.NoScore},
		{"llama", `"sliding_window":8`, nil, weights.NoScore},
		{"qwen2", `"sliding_window":8,"max_window_layers":1`, nil, weights.NoScore},
		{"qwen2", `"use_sliding_window":true,"sliding_window":8,"max_window_layers":1`, []int{0, 8, 8}, weights.NoScore},
		{"qwen2", `"use_sliding_window":true,"sliding_window":8`, []int{0, 0, 0}, weights.NoScore},
		{"qwen3", `"use_sliding_window":true,"sliding_window":8,"layer_types":["sliding_attention","full_attention","sliding_attention"]`, []int{8, 0, 8}, weights.NoScore},
		{"qwen2", `"architectures":["Qwen2ForCausalLM"]`, nil, weights.NoScore},
		{"qwen2", `"architectures":["Qwen2ForRewardModel"]`, nil, weights.ScoreLayers},
	} {
		m, err := weights.OpenFS(directory(layers(with(c.modelType, c.keys)), map[string][]byte{"model.safetensors": file}))
		if err != nil {
			t.Errorf("%s with %s: %v", c.modelType, c.keys, err)
			continue
		}
		if got := m.Config; !slices.Equal(got.Windows, c.windows) || got.Score != c.score {
			t.Errorf("%s with %s: got windows %v, score head %d, want %v, %d", c.modelType, c.keys, got.Windows, got.Score, c.windows, c.score)
		}
	}
}

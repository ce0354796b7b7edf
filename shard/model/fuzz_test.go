package model_test

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/fstest"

	"lockstep/protocol/outside"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights/weightstest"
)

// mostAllocated bounds what is allocated for the small reference models, whatever their configuration claims to be.
const mostAllocated = 128 << 20

// written opens a model and writes the recipes of up to three ranks.
func written(t *testing.T, open func() (*model.Model, error), adapters ...*model.Adapter) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if m, err := open(); err == nil {
		for ranks := 1; ranks <= 3; ranks++ {
			for rank := range ranks {
				part, err := m.Part(rank, ranks, adapters...)
				if err == nil {
					part.Describe()
				}
			}
		}
		if len(adapters) == 0 {
			_, _ = m.Fingerprint() // that it has one is not asked for
		}
		m.Close()
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > mostAllocated {
		t.Errorf("%d MiB were allocated", (after.TotalAlloc-before.TotalAlloc)>>20)
	}
}

// No config.json stops the reader of the model, nor has it allocate what it claims. Two of its keys say something else than the
// model's.
func FuzzConfig(f *testing.F) {
	var models []map[string]json.RawMessage
	var dirs []fstest.MapFS
	for i, name := range modeltest.Names(f) {
		dir := modeltest.Files(f, name)
		var config map[string]json.RawMessage
		if err := json.Unmarshal(dir["config.json"].Data, &config); err != nil {
			f.Fatal(err)
		}
		for j, key := range slices.Sorted(maps.Keys(config)) {
			for k, value := range []string{"0", "-1", "1", "16777216", "1e300", "null"} {
				if outside.All() || (i+j+k)%5 == 0 {
					f.Add(uint8(i), key, value, "rope_scaling", `{"rope_type":"yarn","factor":4}`)
				}
			}
		}
		models, dirs = append(models, config), append(dirs, dir)
	}
	f.Fuzz(func(t *testing.T, of uint8, key, value, other, also string) {
		i := int(of) % len(models)
		config := maps.Clone(models[i])
		config[key], config[other] = json.RawMessage(value), json.RawMessage(also)
		data, err := json.Marshal(config)
		if err != nil {
			return
		}
		dir := maps.Clone(dirs[i])
		dir["config.json"] = &fstest.MapFile{Data: data}
		written(t, func() (*model.Model, error) { return model.OpenFS(dir) })
	})
}

// The same of GGUF's metadata, of which two say something else than the file's.
func FuzzMetadata(f *testing.F) {
	architectures := map[string]string{"deepseek_v2_mla": "deepseek2", "gemma2": "gemma2", "gemma3": "gemma3", "gpt2": "gpt2",
		"gpt_neox": "gptneox", "internlm2": "internlm2", "llama_headdim_bias_sharded": "llama", "mixtral": "llama", "phi3": "phi3",
		"qwen2_tied_7q1kv": "qwen2", "qwen3_moe": "qwen3moe", "starcoder2_sliding40": "starcoder2"}
	type converted struct {
		architecture string
		meta         weightstest.Metadata
		tensors      []weightstest.GGUFTensor
	}
	var models []converted
	for _, name := range slices.Sorted(maps.Keys(architectures)) {
		for _, whole := range []bool{false, true} {
			if whole && architectures[name] != "deepseek2" {
				continue
			}
			meta, tensors := modeltest.Converted(f, modeltest.Files(f, name), modeltest.Conversion{LatentWhole: whole})
			models = append(models, converted{architectures[name], meta, tensors})
		}
	}
	for i, key := range []string{"block_count", "attention.head_count", "attention.key_length", "rope.dimension_count", "expert_count",
		"expert_used_count", "attention.kv_lora_rank", "rope.freq_base", "rope.scaling.factor", "attention.sliding_window",
		"attention.sliding_window_pattern", "expert_group_count", "leading_dense_block_count", "context_length", "vocab_size"} {
		f.Add(uint8(i), key, int64(1)<<(i*4), 0.5, "embedding_length", int64(i), float64(i), uint8(i))
	}
	path := filepath.Join(f.TempDir(), "m.gguf")
	f.Fuzz(func(t *testing.T, number uint8, key string, n int64, x float64, other string, m int64, y float64, kinds uint8) {
		of := models[int(number)%len(models)]
		values := []any{uint32(n), int32(n), uint64(n), float32(x), n%2 == 0, []int32{int32(n), int32(m)}, "linear", "yarn"}
		others := []any{uint32(m), float32(y), "yarn", []bool{true, false}}
		meta := maps.Clone(of.meta)
		meta[of.architecture+"."+key], meta[of.architecture+"."+other] = values[kinds%8], others[kinds/8%4]
		if err := os.WriteFile(path, weightstest.GGUF(meta, of.tensors), 0o600); err != nil {
			t.Fatal(err)
		}
		written(t, func() (*model.Model, error) { return model.Open(path) })
	})
}

// No adapter stops its reader, nor that of the model that it is put on. A key of its configuration and a tensor of its files are
// others than a good one's.
func FuzzAdapter(f *testing.F) {
	base := modeltest.Files(f, "llama_gqa_9q3kv")
	good := modeltest.Unpacked(f, filepath.Join("..", "host", "testdata", "lora", "llama_gqa_9q3kv", "attn_r4"))
	file := good["adapter_model.safetensors"].Data
	size := int(binary.LittleEndian.Uint64(file))
	var config, header map[string]json.RawMessage
	if err := json.Unmarshal(good["adapter_config.json"].Data, &config); err != nil {
		f.Fatal(err)
	}
	if err := json.Unmarshal(file[8:8+size], &header); err != nil {
		f.Fatal(err)
	}
	for i, name := range slices.Sorted(maps.Keys(header)) {
		f.Add("r", "4", name, `{"dtype":"F32","shape":[4,72],"data_offsets":[0,1152]}`)
		f.Add([]string{"lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"}[i%4], `{".*":4}`, name, string(header[name]))
	}
	f.Add("r", "0", "base_model.model.a.lora_A.weight", `{"dtype":"BF16","shape":[0,0],"data_offsets":[0,0]}`)
	f.Fuzz(func(t *testing.T, key, value, name, entry string) {
		changed, tensors := maps.Clone(config), maps.Clone(header)
		changed[key], tensors[name] = json.RawMessage(value), json.RawMessage(entry)
		config, err := json.Marshal(changed)
		if err != nil {
			return
		}
		header, err := json.Marshal(tensors)
		if err != nil {
			return
		}
		adapter, err := model.OpenAdapterFS("a", fstest.MapFS{"adapter_config.json": {Data: config},
			"adapter_model.safetensors": {Data: append(weightstest.Safetensors(string(header), 0), file[8+size:]...)}})
		if err != nil {
			return
		}
		defer adapter.Close()
		written(t, func() (*model.Model, error) { return model.OpenFS(base) }, adapter)
	})
}

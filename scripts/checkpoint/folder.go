package checkpoint

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"lockstep/shard/weights"
)

// config is a config.json of a Llama.
type config struct {
	Shape
	Architectures []string `json:"architectures"`
	DataType      string   `json:"torch_dtype"`
	Activation    string   `json:"hidden_act"`
	BOS           int32    `json:"bos_token_id"`
	EOS           int32    `json:"eos_token_id"`
}

// Shape is what config.json of a Llama, or of a model like it, says of sizes.
type Shape struct {
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

func configOf(files *weights.Files) config {
	meta := files.GGUF
	count := func(name string) int { return meta.Count("llama." + name) }
	shape := Shape{ModelType: "llama",
		Hidden: count("embedding_length"), Intermediate: count("feed_forward_length"), Layers: count("block_count"),
		Heads: count("attention.head_count"), KVHeads: count("attention.head_count_kv"),
		Vocabulary: len(files.Tokenizer.GGUF.Tokens), Epsilon: meta.Number("llama.attention.layer_norm_rms_epsilon", 1e-5),
		Positions: count("context_length"), Tied: !files.Has("output.weight"), Theta: meta.Number("llama.rope.freq_base", 10000)}
	shape.HeadDim = shape.Hidden / max(1, shape.Heads)
	return config{Shape: shape, Architectures: []string{"LlamaForCausalLM"}, DataType: "bfloat16", Activation: "silu",
		BOS: files.Tokenizer.GGUF.BOSTokenID, EOS: files.Tokenizer.GGUF.EOSTokenID}
}

// matrix is a tensor of the directory.
type matrix struct {
	name, stored  string
	rows, columns int
	pairedHead    int // head dimension of rows that llama.cpp stores as rotation pairs
}

func (c *config) tensors() []matrix {
	all := []matrix{{"model.embed_tokens.weight", "token_embd.weight", c.Vocabulary, c.Hidden, 0},
		{"model.norm.weight", "output_norm.weight", 1, c.Hidden, 0}}
	if !c.Tied {
		all = append(all, matrix{"lm_head.weight", "output.weight", c.Vocabulary, c.Hidden, 0})
	}
	for i := range c.Layers {
		add := func(name, stored string, rows, columns, pairedHead int) {
			all = append(all, matrix{fmt.Sprintf("model.layers.%d.%s.weight", i, name), fmt.Sprintf("blk.%d.%s.weight", i, stored), rows,
				columns, pairedHead})
		}
		add("input_layernorm", "attn_norm", 1, c.Hidden, 0)
		add("post_attention_layernorm", "ffn_norm", 1, c.Hidden, 0)
		add("self_attn.q_proj", "attn_q", c.Heads*c.HeadDim, c.Hidden, c.HeadDim)
		add("self_attn.k_proj", "attn_k", c.KVHeads*c.HeadDim, c.Hidden, c.HeadDim)
		add("self_attn.v_proj", "attn_v", c.KVHeads*c.HeadDim, c.Hidden, 0)
		add("self_attn.o_proj", "attn_output", c.Hidden, c.Heads*c.HeadDim, 0)
		add("mlp.gate_proj", "ffn_gate", c.Intermediate, c.Hidden, 0)
		add("mlp.up_proj", "ffn_up", c.Intermediate, c.Hidden, 0)
		add("mlp.down_proj", "ffn_down", c.Hidden, c.Intermediate, 0)
	}
	return all
}

// WriteFolder writes the model of a GGUF file, a Llama, as a directory in Hugging Face format, in bf16.
func WriteFolder(from, to string) error {
	files, err := weights.Open(from)
	if err != nil {
		return err
	}
	defer files.Close()
	if files.Architecture != "llama" || files.GGUF == nil || files.GGUF.Text("tokenizer.ggml.model") != "gpt2" {
		return fmt.Errorf("%s: only Llamas with a byte-level tokenizer are written in Hugging Face format", from)
	}
	c := configOf(files)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]any{"config.json": c, "tokenizer.json": tokenizerOf(files),
		"tokenizer_config.json": map[string]any{"tokenizer_class": "PreTrainedTokenizerFast"}} {
		text, err := json.Marshal(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return err
		}
	}
	return write(filepath.Join(to, "model.safetensors"), func(out *bufio.Writer) error { return c.writeTensors(out, files) })
}

func (c *config) writeTensors(out *bufio.Writer, files *weights.Files) error {
	type entry struct {
		Type    string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header, size, all := map[string]entry{}, 0, c.tensors()
	for _, m := range all {
		shape := []int{m.rows, m.columns}
		if m.rows == 1 {
			shape = shape[1:]
		}
		bytes := 2 * m.rows * m.columns
		header[m.name] = entry{"BF16", shape, [2]int{size, size + bytes}}
		size += bytes
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	out.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
	out.Write(text)
	for _, m := range all {
		found, err := files.Tensor(m.stored, m.rows, m.columns)
		if err != nil {
			return err
		}
		for row := range m.rows {
			out.Write(appendBF16(nil, found.Floats(m.storedRow(row), nil)))
		}
	}
	return nil
}

// storedRow is where a row lies in the GGUF file.
func (m *matrix) storedRow(row int) int {
	if m.pairedHead == 0 {
		return row
	}
	half := m.pairedHead / 2
	head, at := row/m.pairedHead, row%m.pairedHead
	return head*m.pairedHead + at%half*2 + at/half
}

// tokenizerOf is a tokenizer.json that spells the tokens out; how it would cut texts is not the model's in every corner.
func tokenizerOf(files *weights.Files) map[string]any {
	source := files.Tokenizer.GGUF
	vocabulary := map[string]int{}
	added := []map[string]any{}
	for id, token := range source.Tokens {
		vocabulary[token] = id
		if special := []int32{3, 4}; id < len(source.TokenTypes) && slices.Contains(special, source.TokenTypes[id]) {
			added = append(added, map[string]any{"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
				"normalized": false, "special": true})
		}
	}
	merges := source.Merges
	if merges == nil {
		merges = []string{}
	}
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	return map[string]any{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Digits", "individual_digits": true}, byteLevel}},
		"post_processor": nil, "decoder": byteLevel,
		"model": map[string]any{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
			"end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary,
			"merges": merges}}
}

package host_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/model/modeltest"
)

// seeing is how checkpoints of a model that sees hold a text model.
type seeing struct {
	text, modelType, architecture string
	// nested: the text part has a text_config; else its configuration is the model's.
	nested bool
	more   map[string]any // keys of the text part's configuration
	names  []string       // pairs of what names begin with and begin with there
	vision []string
}

var seeingLayouts = map[string]seeing{
	"gemma3 as published": {"gemma3", "gemma3", "Gemma3ForConditionalGeneration", true, nil,
		[]string{"model.", "language_model.model."},
		[]string{"vision_tower.vision_model.encoder.layers.0.fc1.weight", "multi_modal_projector.mm_input_projection_weight"}},
	"gemma3 saved anew": {"gemma3", "gemma3", "Gemma3ForConditionalGeneration", true, nil, []string{"model.", "model.language_model."},
		[]string{"model.vision_tower.vision_model.encoder.layers.0.fc1.weight", "model.multi_modal_projector.mm_soft_emb_norm.weight"}},
	"qwen2_vl as published": {"qwen2_tied_7q1kv", "qwen2_vl", "Qwen2VLForConditionalGeneration", false,
		map[string]any{"rope_scaling": map[string]any{"type": "mrope", "mrope_section": []int{2, 3, 3}}}, nil,
		[]string{"visual.patch_embed.proj.weight", "visual.merger.mlp.0.bias"}},
	"qwen2_5_vl saved anew": {"qwen2_untied_sliding", "qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", true,
		map[string]any{"rope_scaling": map[string]any{"type": "default", "rope_type": "default", "mrope_section": []int{1, 1, 2}},
			"model_type": "qwen2_5_vl_text"},
		[]string{"model.", "model.language_model."}, []string{"model.visual.blocks.0.attn.qkv.weight"}},
	"qwen3_vl": {"qwen3_5q1kv", "qwen3_vl", "Qwen3VLForConditionalGeneration", true,
		map[string]any{"model_type": "qwen3_vl_text",
			"rope_scaling": map[string]any{"mrope_interleaved": true, "rope_type": "default", "mrope_section": []int{4, 2, 2}}},
		[]string{"model.", "model.language_model."},
		[]string{"model.visual.deepstack_merger_list.0.norm.weight", "model.visual.pos_embed.weight"}},
	"mistral3 as published": {"mistral_sliding24", "mistral3", "Mistral3ForConditionalGeneration", true, nil,
		[]string{"model.", "language_model.model.", "lm_head.", "language_model.lm_head."},
		[]string{"vision_tower.patch_conv.weight", "multi_modal_projector.patch_merger.merging_layer.weight"}},
	"mistral3 saved anew": {"mistral_sliding24", "mistral3", "Mistral3ForConditionalGeneration", true, nil,
		[]string{"model.", "model.language_model."}, []string{"model.vision_tower.ln_pre.weight"}},
}

// The text part of a model that sees computes what the text model does. The other parts' tensors are counted, and not told of as
// unknown ones.
func TestTextPartOfModelsThatSee(t *testing.T) {
	for name, layout := range seeingLayouts {
		t.Run(name, func(t *testing.T) {
			dir := modeltest.Files(t, layout.text)
			want := logits(t, modeltest.OpenFS(t, dir))
			layout.wrap(t, dir)
			source := modeltest.OpenFS(t, dir)
			if got := logits(t, source); !slices.EqualFunc(got, want, slices.Equal) {
				t.Error("the logits are others")
			}
			part, err := source.Part(0, 1)
			if err != nil {
				t.Fatal(err)
			}
			if part.OtherParts != len(layout.vision) || !slices.Equal(part.Unused, []string{"model.unknown"}) {
				t.Errorf("got %d tensors of other parts and the unknown %v", part.OtherParts, part.Unused)
			}
			if source.Config.Architecture == "" || source.Config.Embedding == "" || source.DataType != "torch.bfloat16" {
				t.Errorf("got %q, %q, %q", source.Config.Architecture, source.Config.Embedding, source.DataType)
			}
		})
	}
}

// wrap makes the directory of a text model that of a model that sees.
func (s *seeing) wrap(t *testing.T, dir fstest.MapFS) {
	t.Helper()
	var text map[string]any
	if err := json.Unmarshal(dir["config.json"].Data, &text); err != nil {
		t.Fatal(err)
	}
	maps.Copy(text, s.more)
	delete(text, "architectures")
	whole := map[string]any{"text_config": text, "image_token_id": 7, "eos_token_id": text["eos_token_id"]}
	if tied, has := text["tie_word_embeddings"]; has {
		whole["tie_word_embeddings"] = tied
	}
	if !s.nested {
		whole = text
	}
	whole["architectures"], whole["model_type"] = []string{s.architecture}, s.modelType
	whole["vision_config"] = map[string]any{"model_type": "siglip_vision_model", "hidden_size": 1152, "num_attention_heads": 16}
	config, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	dir["config.json"] = &fstest.MapFile{Data: config}
	modeltest.Renamed(t, dir, func(name string) string {
		for i := 0; i < len(s.names); i += 2 {
			if rest, is := strings.CutPrefix(name, s.names[i]); is {
				return s.names[i+1] + rest
			}
		}
		return name
	}, append(slices.Clone(s.vision), "model.unknown")...)
}

package model

import (
	"fmt"
	"slices"
	"strings"

	"lockstep/shard/weights"
)

// family is a kind of models.
type family struct {
	// modelTypes are the values of config.json's model_type, architectures those of GGUF's general.architecture.
	modelTypes, architectures []string
	// read understands a model's files: its shape, and how its recipe is written.
	read func(files *weights.Files) (Config, writer, error)
}

// writer writes a rank's stages. It may be called from several goroutines at once.
type writer func(r *recipe)

// families are all that are served. A further one is a file and a line here.
var families = []family{deepSeek, gemma2, gemma3, gpt2, gptNeoX, gptOSS, internLM2, llama, mistral, mixtral, phi3, qwen2, qwen3, qwen3MoE,
	starCoder2}

func familyOf(files *weights.Files) (*family, error) {
	named := func(f family) []string { return f.modelTypes }
	if files.GGUF != nil {
		named = func(f family) []string { return f.architectures }
	}
	for i := range families {
		if slices.Contains(named(families[i]), files.Architecture) {
			return &families[i], nil
		}
	}
	var modelTypes, architectures []string
	for _, f := range families {
		modelTypes, architectures = append(modelTypes, f.modelTypes...), append(architectures, f.architectures...)
	}
	fromSafetensors, fromGGUF := strings.Join(modelTypes, ", "), strings.Join(architectures, ", ")
	switch {
	case files.GGUF == nil:
		return nil, fmt.Errorf("model type %q is not served yet; %s are (model_type)", files.Architecture, fromSafetensors)
	case slices.Contains(modelTypes, files.Architecture):
		return nil, fmt.Errorf("architecture %q is served from safetensors only; from GGUF %s is: give the model's directory in Hugging "+
			"Face format",
			files.Architecture, fromGGUF)
	}
	return nil, fmt.Errorf("architecture %q is not served yet; from GGUF %s is, and from safetensors %s", files.Architecture, fromGGUF,
		fromSafetensors)
}

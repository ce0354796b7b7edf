// Package demo embeds the demo model: a very small llama that tells stories it has learned by heart, so that a server
// without any download has something to serve. model/README.md says what it is and scripts/demo_model made it.
package demo

import (
	"embed"
	"io/fs"
)

// ModelID is the name under which the embedded model is served.
const ModelID = "lockstep/demo"

//go:embed model
var files embed.FS

// Files is the model's directory in Hugging Face format: config.json, model.safetensors, tokenizer.json and others.
func Files() fs.FS {
	model, err := fs.Sub(files, "model")
	if err != nil {
		panic(err) // only for a malformed literal
	}
	return model
}

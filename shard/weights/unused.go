package weights

import (
	"fmt"
	"slices"
	"strings"
)

// Biased reports whether a projection of a layer has a bias, of this name. In Hugging Face's format the configuration
// decides, and others are ignored, as transformers does; in GGUF each that is there counts, as in llama.cpp.
func (m *Model) Biased(name, projection string) bool {
	if m.Tokenizer.GGUF != nil {
		return m.Has(name)
	}
	return slices.Contains(m.Config.Biased, projection)
}

// Follows reports whether a tensor, which is not computed with, says nothing that others or the configuration do not say.
func (m *Model) Follows(name string) bool {
	for _, suffix := range []string{".rotary_emb.inv_freq", ".attn_rot_embd.weight", ".attn_rot_embd"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return m.Config.TiedHead && name == "lm_head.weight"
}

// CheckUnused refuses tensors that the original would not serve without: llama.cpp takes no file with tensors that its
// architecture does not have, while transformers ignores them and says so.
func (m *Model) CheckUnused(names []string) error {
	if m.Tokenizer.GGUF == nil || len(names) == 0 {
		return nil
	}
	return fmt.Errorf("tensor %s (one of %d such) is in the file, and architecture %q of %d layers does not compute with it: it is another model than its metadata say; convert it anew",
		names[0], len(names), m.Config.Architecture, m.Config.Layers)
}

package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ModelCard is everything that a router must know of a model to serve it, so that routers need no model files. A
// group sends its card in chunks (see CardRequest); Digest names its content.
type ModelCard struct {
	// ModelID is what the operator asked for, or the name of the embedded model.
	ModelID string `json:"model_id"`
	// Revision is the hub's revision, empty for local models.
	Revision string `json:"revision,omitempty"`
	// DataType is the weights' type in TGI's words: "torch.bfloat16", "torch.float16", "torch.float32"; or GGUF's: "gguf.q4_1".
	DataType string `json:"data_type"`
	// DeviceType is what computes, as clients know it: "cpu", "cuda", "ptx" or "sim". Which one it is, a group's Device says.
	DeviceType string `json:"device_type"`
	// PipelineTag is the hub's tag, empty when unknown.
	PipelineTag string `json:"pipeline_tag,omitempty"`
	// VocabularySize is the number of logits.
	VocabularySize int `json:"vocabulary_size"`
	// MaxPositions is the longest sequence, in tokens, that the model's positions allow.
	MaxPositions int `json:"max_positions"`
	// SlidingWindow is how many positions a token sees, itself among them, in those layers that do not see all; 0: all layers do, or
	// nobody has looked.
	SlidingWindow int `json:"sliding_window,omitempty"`
	// EOSTokenIDs end a generation.
	EOSTokenIDs []int32 `json:"eos_token_ids"`
	// Reward says that the model has a score head: it answers requests with Score and no others.
	Reward bool `json:"reward,omitempty"`
	// NumericsID names weights, their format and kernel numerics: groups of equal id compute equal bits (law 4 in docs/architecture.md).
	NumericsID string `json:"numerics_id"`
	// Numerics is the class of arithmetic among what NumericsID names, for people: "f32.1". Empty: an older group did not say.
	Numerics string `json:"numerics,omitempty"`
	// GuideVersion is that of the guides that the group can follow (guide.Version); 0: none, an older group.
	GuideVersion int `json:"guide_version,omitempty"`
	// Tokenizer is what the router builds its tokenizer from.
	Tokenizer TokenizerSource `json:"tokenizer"`
	// Chat is how the model wants conversations written.
	Chat ChatSource `json:"chat"`
	// Adapters are those that the group can add to the model's weights, by Request.Adapter.
	Adapters []Adapter `json:"adapters,omitempty"`
	// Defaults are what dialects take that have no defaults of their own where a request does not say. They decide nothing else:
	// requests carry what they were resolved to.
	Defaults SamplingDefaults `json:"default_sampling_params,omitzero"`
}

// Adapter is a change of a model's weights of low rank (LoRA) that a request may ask for by name.
type Adapter struct {
	Name string `json:"name"`
	// Digest names the adapter's content: groups whose adapters are equal in it, and whose models are of a kind, compute the
	// same tokens with them.
	Digest string `json:"digest"`
}

// ValidAdapter reports whether a name can be that of an adapter: 1 to MaxAdapterNameBytes bytes of UTF-8 without control
// characters, and neither "None" nor "tgi", which stand for no adapter where clients must say something.
func ValidAdapter(name string) bool {
	return between(1, len(name), MaxAdapterNameBytes) && name != "None" && name != "tgi" && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, unicode.IsControl)
}

// Kinds are those of the requests that a group with this card answers, by their adapters: Kind where they use none, and one for
// each adapter, which its name and content decide too.
func (c *ModelCard) Kinds() map[string]string {
	base := c.Kind()
	kinds := map[string]string{"": base}
	for _, a := range c.Adapters {
		sum := sha256.Sum256(fmt.Appendf(nil, "lockstep adapter %q %q %s", a.Name, a.Digest, base))
		kinds[a.Name] = hex.EncodeToString(sum[:])
	}
	return kinds
}

// GuidedKind is the kind of those requests of a kind that have a guide: what that allows depends on the version too.
func GuidedKind(kind string, version int) string { return fmt.Sprintf("%s guide %d", kind, version) }

// Validate checks what others build on: few adapters, each with a name of its own, and defaults that requests may have.
func (c *ModelCard) Validate() error {
	if len(c.Adapters) > MaxAdapters {
		return fmt.Errorf("%d adapters, at most %d", len(c.Adapters), MaxAdapters)
	}
	names := map[string]bool{}
	for _, a := range c.Adapters {
		switch {
		case !ValidAdapter(a.Name):
			return fmt.Errorf("an adapter cannot be called %.40q: want 1 to %d bytes without control characters, and neither None nor tgi",
				a.Name, MaxAdapterNameBytes)
		case names[a.Name]:
			return fmt.Errorf("two adapters are called %.40q", a.Name)
		case a.Name == c.ModelID:
			return fmt.Errorf("an adapter is called as the model is, %.200q", a.Name)
		}
		names[a.Name] = true
	}
	if c.SlidingWindow < 0 {
		return fmt.Errorf("a sliding window of %d positions", c.SlidingWindow)
	}
	return c.Defaults.Validate()
}

// Kind names all that decides which tokens a request of ids has: numerics, tokenizer, ends of sequences, vocabulary, and
// whether they are scores. A stream continues on any group of an equal kind, whatever that calls its model and however it wants
// chats written. A card without a NumericsID does not say what its group computes: its kind is its whole content, so that it
// equals that of an equal card only. Requests with guides are of GuidedKind.
func (c *ModelCard) Kind() string {
	var of any = c
	if c.NumericsID != "" {
		of = struct {
			NumericsID     string
			Tokenizer      TokenizerSource
			EOSTokenIDs    []int32
			Reward         bool
			VocabularySize int
		}{c.NumericsID, c.Tokenizer, slices.Compact(slices.Sorted(slices.Values(c.EOSTokenIDs))), c.Reward, c.VocabularySize}
	}
	data, err := json.Marshal(of)
	if err != nil {
		panic(err) // what was read as JSON can be written
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ChatSource is a chat template and what it needs of the tokenizer.
type ChatSource struct {
	// Template is the Jinja text, empty when the model has none.
	Template string `json:"template,omitempty"`
	// SpecialTokens are the contents of the tokens that templates know by name: bos_token, eos_token and others.
	SpecialTokens map[string]string `json:"special_tokens,omitempty"`
}

// TokenizerSource holds a tokenizer in the form in which the model's files have it; exactly one of HuggingFace and GGUF is set.
type TokenizerSource struct {
	// HuggingFace is the content of tokenizer.json.
	HuggingFace json.RawMessage `json:"hugging_face,omitempty"`
	// GGUF is the tokenizer.ggml.* metadata of a GGUF file.
	GGUF *GGUFTokenizer `json:"gguf,omitempty"`
}

// GGUFTokenizer mirrors the tokenizer.ggml.* keys of the GGUF specification. Token ids index Tokens, TokenTypes and Scores;
// -1 stands for an absent begin or end id, nil for an absent flag: what they are then is a matter of Model and Pre.
type GGUFTokenizer struct {
	Model      string    `json:"model"`
	Pre        string    `json:"pre"`
	Tokens     []string  `json:"tokens"`
	TokenTypes []int32   `json:"token_types"`
	Scores     []float32 `json:"scores,omitempty"`
	Merges     []string  `json:"merges"`
	BOSTokenID int32     `json:"bos_token_id"`
	EOSTokenID int32     `json:"eos_token_id"`
	// UnknownTokenID is 0 where the file names none, as all known vocabularies with such a token have it.
	UnknownTokenID         int32 `json:"unknown_token_id,omitempty"`
	AddBOS                 *bool `json:"add_bos,omitempty"`
	AddEOS                 bool  `json:"add_eos"`
	AddSpacePrefix         *bool `json:"add_space_prefix,omitempty"`
	RemoveExtraWhitespaces bool  `json:"remove_extra_whitespaces,omitempty"`
	// SpecialsTakeSpaces says that special tokens, but for the begin and unknown ones, take the spaces behind them along, as
	// those of Phi-3 do. No key says so.
	SpecialsTakeSpaces bool `json:"specials_take_spaces,omitempty"`
}

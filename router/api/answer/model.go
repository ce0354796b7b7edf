package answer

import (
	"encoding/json"
	"slices"
	"strings"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router/calls"
	"lockstep/router/chat"
	"lockstep/router/request"
)

// Model is what is served now. It is never changed.
type Model struct {
	Digest string
	Card   *protocol.ModelCard
	// Kind is the card's: groups of an equal one serve the same requests.
	Kind      string
	Tokenizer *text.Tokenizer
	// Chat writes conversations; nil: NoChat says why it cannot. ChatReadsParts is its ReadsParts.
	Chat           *chat.Template
	ChatReadsParts bool
	// ChatReadsTools says that Chat writes tools and calls. Calls and Reasoning are how the model writes calls and thoughts itself, as far
	// as template and vocabulary tell.
	ChatReadsTools      bool
	Calls               *calls.Format
	Reasoning           calls.Reasoning
	NoChat              string
	MaxInputLength      int
	MaxTotalTokens      int
	MaxBatchTotalTokens int
	// MaxBatchTotalReason says for people what bounds MaxBatchTotalTokens; empty: not known.
	MaxBatchTotalReason string
	// Adapters are those that requests may name, the card's own first.
	Adapters []Adapter
	// Defaults are the card's as JSON, for those who ask; empty: there are none.
	Defaults []byte
}

// Adapter is a LoRA adapter of a model.
type Adapter struct {
	Name string
	// CardDigest names a card that has it: groups of a model may have different ones.
	CardDigest string
}

// NewModel builds tokenizer and chat template of a card; the limits are the caller's to set. Without a template that can be
// used the model is served all the same, but not to chats.
func NewModel(digest string, card *protocol.ModelCard) (*Model, error) {
	kind := make(chan string, 1)
	go func() { kind <- card.Kind() }() // it reads the whole tokenizer too
	tokenizer, err := text.New(card.Tokenizer)
	if err != nil {
		return nil, err
	}
	model := &Model{Digest: digest, Card: card, Kind: <-kind, Tokenizer: tokenizer}
	if card.Defaults != (protocol.SamplingDefaults{}) {
		if model.Defaults, err = json.Marshal(card.Defaults); err != nil {
			return nil, err
		}
	}
	for _, a := range card.Adapters {
		model.Adapters = append(model.Adapters, Adapter{Name: a.Name, CardDigest: digest})
	}
	hasToken := func(token string) bool { _, ok := tokenizer.TokenID(token); return ok }
	model.Calls, model.Reasoning = calls.Generic, calls.DetectReasoning(card.Chat.Template, hasToken)
	if card.Chat.Template == "" {
		model.NoChat = "The model has no chat template: its operator can give one (--chat-template)."
		return model, nil
	}
	if model.Chat, err = chat.New(card.Chat.Template, card.Chat.SpecialTokens); err != nil {
		model.Chat, model.NoChat = nil, "The model's chat template cannot be used: "+err.Error()
		return model, nil
	}
	model.ChatReadsParts = model.Chat.ReadsParts()
	if model.ChatReadsTools = model.Chat.ReadsTools(); model.ChatReadsTools {
		model.Calls = calls.Detect(card.Chat.Template, hasToken)
	}
	return model, nil
}

// Equal reports whether two models of cards that are known are served alike.
func (m *Model) Equal(other *Model) bool {
	return m.Card == other.Card && m.MaxInputLength == other.MaxInputLength && m.MaxTotalTokens == other.MaxTotalTokens &&
		m.MaxBatchTotalTokens == other.MaxBatchTotalTokens && m.MaxBatchTotalReason == other.MaxBatchTotalReason &&
		slices.Equal(m.Adapters, other.Adapters)
}

// Has reports whether requests may name an adapter.
func (m *Model) Has(adapter string) bool {
	return slices.ContainsFunc(m.Adapters, func(a Adapter) bool { return a.Name == adapter })
}

// Use has a request for the model computed with an adapter, which the model must have, or with none where the name is empty.
func (m *Model) Use(r *request.Request, adapter string) {
	r.CardDigest, r.Adapter = m.Digest, adapter
	for _, a := range m.Adapters {
		if a.Name == adapter {
			r.CardDigest = a.CardDigest
		}
	}
}

// AdapterNames lists the adapters for people.
func (m *Model) AdapterNames() string {
	names := make([]string, len(m.Adapters))
	for i, a := range m.Adapters {
		names[i] = a.Name
	}
	return strings.Join(names, ", ")
}

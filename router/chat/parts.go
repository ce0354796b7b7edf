package chat

import (
	"encoding/json"
	"strings"
	"time"
)

// ReadsParts finds out whether the template takes content that is an array of text parts as it takes text: many were
// written for text only, and fail on an array or print it as it stands.
func (t *Template) ReadsParts() bool {
	const text = "some words"
	render := func(content string) (string, error) {
		return t.Render(&Conversation{Messages: json.RawMessage(`[{"role":"user","content":` + content + `}]`), AddGenerationPrompt: true,
			Now: time.Unix(0, 0)})
	}
	plain, err := render(`"` + text + `"`)
	if err != nil {
		return false
	}
	parts, err := render(`[{"type":"text","text":"` + text + `"}]`)
	return err == nil && parts == plain
}

// ReadsTools reports whether the template writes the tools that it is given.
func (t *Template) ReadsTools() bool {
	const name = "lockstep_function"
	for _, messages := range []string{`[{"role":"user","content":"a"}]`, `[{"role":"system","content":"b"},{"role":"user","content":"a"}]`} {
		text, err := t.Render(&Conversation{Messages: json.RawMessage(messages), AddGenerationPrompt: true,
			Tools: json.RawMessage(`[{"type":"function","function":{"name":"` + name + `","description":"c","parameters":{"type":"object",` +
				`"properties":{"d":{"type":"string","description":"e"}},"required":["d"]}}}]`)})
		if err == nil && strings.Contains(text, name) {
			return true
		}
	}
	return false
}

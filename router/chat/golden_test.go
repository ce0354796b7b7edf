package chat_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/protocol/outside"
	"lockstep/router/chat"
)

// The golden test compares with what the reference made of real templates. With LOCKSTEP_GOLDEN_OUT set to a file, it writes
// its answers there, a JSON object a line.

// goldenNow is where the reference's clock stood.
var goldenNow = time.Date(2026, 11, 24, 10, 30, 0, 0, time.UTC)

func readGolden[T any](t testing.TB, name string) []T {
	t.Helper()
	return outside.Lines[T](t, filepath.Join(outside.Reference(t, "testdata/templates", "golden", "templates"), name))
}

type goldenTemplate struct {
	Name     string
	Template string
}

type goldenCase struct {
	ID                   string
	Template             string
	Messages             json.RawMessage
	Tools                json.RawMessage
	Documents            json.RawMessage
	AddGenerationPrompt  bool              `json:"add_generation_prompt"`
	ContinueFinalMessage bool              `json:"continue_final_message"`
	Arguments            json.RawMessage   `json:"kwargs"`
	SpecialTokens        map[string]string `json:"special_tokens"`
	Text                 *string
	ErrorKind            string `json:"error_kind"`
	Message              string
}

func (c *goldenCase) conversation() *chat.Conversation {
	return &chat.Conversation{
		Messages: c.Messages, Tools: c.Tools, Documents: c.Documents, Arguments: c.Arguments,
		AddGenerationPrompt: c.AddGenerationPrompt, ContinueFinalMessage: c.ContinueFinalMessage, Now: goldenNow,
	}
}

func TestGolden(t *testing.T) {
	sources := map[string]string{}
	for _, template := range readGolden[goldenTemplate](t, "templates.jsonl") {
		sources[template.Name] = template.Template
	}
	var answers []map[string]string
	for _, c := range readGolden[goldenCase](t, "cases.jsonl") {
		text, err := render(sources[c.Template], &c)
		checkGolden(t, &c, text, err)
		answer := map[string]string{"id": c.ID, "text": text}
		if err != nil {
			answer = map[string]string{"id": c.ID, "error": err.Error()}
		}
		answers = append(answers, answer)
	}
	outside.WriteAnswers(t, answers)
}

func render(source string, c *goldenCase) (string, error) {
	if source == "" {
		return "", errors.New("no such template")
	}
	template, err := chat.New(source, c.SpecialTokens)
	if err != nil {
		return "", err
	}
	return template.Render(c.conversation())
}

func checkGolden(t *testing.T, c *goldenCase, text string, err error) {
	t.Helper()
	switch {
	case c.Text != nil && err != nil:
		t.Errorf("%s: got error %v, want %q", c.ID, err, *c.Text)
	case c.Text != nil && text != *c.Text:
		t.Errorf("%s:\n got %q\nwant %q", c.ID, text, *c.Text)
	case c.Text == nil && err == nil:
		t.Errorf("%s: got %q, want the error %q", c.ID, text, c.Message)
	case c.ErrorKind == "raise_exception" && !strings.Contains(err.Error(), c.Message):
		t.Errorf("%s: got error %v, want %q", c.ID, err, c.Message)
	}
}

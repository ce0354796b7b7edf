// Package chat turns a conversation into a prompt by a model's chat template, as the reference (transformers'
// apply_chat_template) does: what a template sees of messages, tools, documents and arguments, and how the last message
// is left open for the model to go on with it. The template's language is router/jinja's.
package chat

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"lockstep/router/jinja"
)

// Template is a chat template with its model's special tokens. It is immutable.
type Template struct {
	template *jinja.Template
	source   string
	tokens   map[string]jinja.Value
}

// New parses a template. Special tokens are variables of it, by their names as in bos_token. Errors are those of
// jinja.Parse.
func New(source string, specialTokens map[string]string) (*Template, error) {
	template, err := jinja.Parse(source)
	if err != nil {
		return nil, err
	}
	tokens := make(map[string]jinja.Value, len(specialTokens))
	for name, token := range specialTokens {
		tokens[name] = jinja.String(token)
	}
	return &Template{template, source, tokens}, nil
}

// Conversation is what a prompt is made of. Absent JSON and null are the same.
type Conversation struct {
	Messages             json.RawMessage // array of objects
	Tools                json.RawMessage // array
	Documents            json.RawMessage // array of objects
	AddGenerationPrompt  bool            // the answer's opening follows the last message
	ContinueFinalMessage bool            // the last message stays open; excludes AddGenerationPrompt
	// BlankContent keeps content that is null or absent as jinja.Blank: a message that only calls tools has none, and many
	// templates do not think of that. Else it is absent, as it is to the reference, and such templates fail.
	BlankContent bool
	Arguments    json.RawMessage // object: further variables, which go before all others
	Now          time.Time       // zero stands for time.Now()
	Limits       jinja.Limits
	Done         <-chan struct{} // ends the rendering when it is closed; nil: never
}

// Error is a conversation that cannot become a prompt for its own shape.
type Error struct {
	Message string
}

func (e *Error) Error() string { return e.Message }

func failf(format string, values ...any) error { return &Error{fmt.Sprintf(format, values...)} }

// continueTag marks where the last message's own text ends. The space at its end is gone if the template trims messages.
const continueTag = "LOCKSTEP_LAST_MESSAGE_ENDS_HERE "

// Render returns the prompt. Its errors are *Error and those of jinja.Template.Render.
func (t *Template) Render(c *Conversation) (string, error) {
	if c.AddGenerationPrompt && c.ContinueFinalMessage {
		return "", failf("the last message cannot be continued and an answer opened behind it at once")
	}
	messages, err := readMessages(c.Messages, c.BlankContent)
	if err != nil {
		return "", err
	}
	variables := make(map[string]jinja.Value, len(t.tokens)+8)
	for name, token := range t.tokens {
		variables[name] = token
	}
	variables["messages"] = messages
	variables["add_generation_prompt"] = jinja.Bool(c.AddGenerationPrompt)
	for name, data := range map[string]json.RawMessage{"tools": c.Tools, "documents": c.Documents} {
		if variables[name], err = read(name, data); err != nil {
			return "", err
		}
	}
	if err := checkDocuments(variables["documents"]); err != nil {
		return "", err
	}
	arguments, err := read("arguments", c.Arguments)
	if err != nil {
		return "", err
	}
	if object, ok := arguments.(*jinja.Dict); ok {
		for i := range object.Len() {
			key, value := object.At(i)
			variables[string(key.(jinja.String))] = value
		}
	} else if arguments != jinja.None {
		return "", failf("arguments of a chat template must be an object")
	}
	options := jinja.Options{Limits: c.Limits, Now: c.Now, Done: c.Done}
	if c.ContinueFinalMessage {
		return t.continued(messages, variables, options)
	}
	return t.template.Render(variables, options)
}

// givenNames are what a template gets of a conversation, and what the reference's own arguments are called.
var givenNames = []string{"messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize"}

// Gives tells whether a variable, which Conversation.Arguments could replace, is the server's to give.
func (t *Template) Gives(name string) bool {
	_, token := t.tokens[name]
	return token || slices.Contains(givenNames, name)
}

func read(name string, data json.RawMessage) (jinja.Value, error) {
	if len(data) == 0 {
		return jinja.None, nil
	}
	value, err := jinja.FromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

// reasoningFields are the names under which a message's reasoning may come, the first that is there before the others.
var reasoningFields = []string{"reasoning_content", "thinking", "reasoning"}

// readMessages drops the keys of a message that are null, and gives reasoning both of the names that templates read.
func readMessages(data json.RawMessage, blank bool) (*jinja.List, error) {
	value, err := read("messages", data)
	if err != nil {
		return nil, err
	}
	list, ok := value.(*jinja.List)
	if !ok {
		return nil, failf("messages must be an array")
	}
	messages := make([]jinja.Value, 0, len(list.Items()))
	for i, item := range list.Items() {
		message, ok := item.(*jinja.Dict)
		if !ok {
			return nil, failf("message %d must be an object", i)
		}
		messages = append(messages, plainMessage(message, blank))
	}
	return jinja.NewList(messages...), nil
}

func plainMessage(message *jinja.Dict, blank bool) *jinja.Dict {
	reasoning := jinja.None
	for _, field := range slices.Backward(reasoningFields) {
		if value := message.Get(field); value != nil && value != jinja.None {
			reasoning = value
		}
	}
	plain := &jinja.Dict{}
	if reasoning != jinja.None {
		plain.Set("thinking", reasoning)
	}
	for i := range message.Len() {
		switch key, value := message.At(i); {
		case value != jinja.None:
			plain.Set(string(key.(jinja.String)), value)
		case blank && key == jinja.String("content"):
			plain.Set("content", jinja.Blank)
		}
	}
	if blank && plain.Get("content") == nil {
		plain.Set("content", jinja.Blank)
	}
	if reasoning != jinja.None {
		plain.Set("reasoning_content", reasoning)
	}
	return plain
}

func checkDocuments(documents jinja.Value) error {
	list, ok := documents.(*jinja.List)
	if !ok {
		if documents == jinja.None {
			return nil
		}
		return failf("documents must be an array")
	}
	for _, document := range list.Items() {
		if _, ok := document.(*jinja.Dict); !ok {
			return failf("every document must be an object")
		}
	}
	return nil
}

// continued renders with a tag behind the last message's own text, and cuts the prompt there.
func (t *Template) continued(messages *jinja.List, variables map[string]jinja.Value, options jinja.Options) (string, error) {
	final, err := t.tagFinal(messages)
	if err != nil {
		return "", err
	}
	text, err := t.template.Render(variables, options)
	if err != nil {
		return "", err
	}
	tag := strings.TrimSpace(continueTag)
	at := strings.LastIndex(text, tag)
	if at < 0 || !strings.Contains(text, strings.TrimFunc(final, isSpace)) {
		return "", failf("the last message cannot be continued: the template does not write it as it is")
	}
	if strings.HasPrefix(text[at:], continueTag) {
		return text[:at], nil
	}
	// The template trims its messages, so the text's own white space goes as well.
	return strings.TrimRightFunc(text[:at], isSpace), nil
}

// isSpace is Python's white space.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// tagFinal puts the tag behind the last message's text, or the last text of its parts, and returns that text.
func (t *Template) tagFinal(messages *jinja.List) (string, error) {
	items := messages.Items()
	if len(items) == 0 {
		return "", failf("there is no message to continue")
	}
	message := items[len(items)-1].(*jinja.Dict)
	if !strings.Contains(t.source, "content") {
		return "", failf("the last message cannot be continued: the template reads no content")
	}
	content := message.Get("content")
	if content == nil || content == jinja.Blank {
		return "", failf("the last message has no content to continue")
	}
	switch content := content.(type) {
	case jinja.String:
		message.Set("content", content+continueTag)
		return string(content), nil
	case *jinja.List:
		for _, item := range slices.Backward(content.Items()) {
			part, ok := item.(*jinja.Dict)
			if !ok {
				continue
			}
			if text, ok := part.Get("text").(jinja.String); ok {
				part.Set("text", text+continueTag)
				return string(text), nil
			}
		}
		return "", failf("the last message has no text to continue")
	}
	return "", failf("the last message's content is no text to continue")
}

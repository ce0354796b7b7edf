package chat_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"lockstep/router/chat"
	"lockstep/router/jinja"
)

const plainTemplate = `{{ bos_token }}{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}</>
{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}`

const trimmingTemplate = `{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}`

func TestRender(t *testing.T) {
	const hello = `[{"role":"user","content":"Hi"},{"role":"assistant","content":" one, "}]`
	const parts = `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"image"}]}]`
	for _, c := range []struct {
		name         string
		template     string
		conversation chat.Conversation
		want         string
	}{
		{"plain", plainTemplate, chat.Conversation{Messages: raw(hello)}, "^<user>Hi</>\n<assistant> one, </>\n"},
		{"opening", plainTemplate, chat.Conversation{Messages: raw(hello), AddGenerationPrompt: true},
			"^<user>Hi</>\n<assistant> one, </>\n<assistant>"},
		{"continued", plainTemplate, chat.Conversation{Messages: raw(hello), ContinueFinalMessage: true},
			"^<user>Hi</>\n<assistant> one, "},
		{"continued, trimmed", trimmingTemplate, chat.Conversation{Messages: raw(hello), ContinueFinalMessage: true},
			"<user>Hi</><assistant>one,"},
		{"continued part", plainTemplate, chat.Conversation{Messages: raw(parts), ContinueFinalMessage: true}, "^<user>ab"},
		{"arguments", "{{ bos_token }}{{ x }}{{ add_generation_prompt }}",
			chat.Conversation{Messages: raw(`[]`), Arguments: raw(`{"x":[1],"bos_token":"B"}`)}, "B[1]False"},
		{"absent", "{{ tools is none }}{{ documents is none }}", chat.Conversation{Messages: raw(`[]`), Tools: raw(`null`)}, "TrueTrue"},
		{"documents", "{{ documents[0].text }}", chat.Conversation{Messages: raw(`[]`), Documents: raw(`[{"text":"d"}]`)}, "d"},
		{"null is dropped", "{{ messages | tojson }}", chat.Conversation{Messages: raw(`[{"a":null,"b":{"c":null}}]`)},
			`[{"b": {"c": null}}]`},
		{"null is none", blankTemplate, chat.Conversation{Messages: raw(`[{"role":"assistant","content":null}]`), BlankContent: true},
			blankWritten},
		{"absent is none", blankTemplate, chat.Conversation{Messages: raw(`[{"role":"tool"}]`), BlankContent: true}, blankWritten},
		{"other nulls are dropped", "{{ messages | tojson }}",
			chat.Conversation{Messages: raw(`[{"name":null,"content":null}]`), BlankContent: true}, `[{"content": null}]`},
		{"empty is no none", blankTemplate, chat.Conversation{Messages: raw(`[{"role":"tool","content":""}]`), BlankContent: true},
			"text,FalseTrueTrue,FalseFalseTrue,[a]"},
		{"reasoning", "{{ messages[0].thinking }}{{ messages[0].reasoning_content }}",
			chat.Conversation{Messages: raw(`[{"reasoning_content":"r"}]`)}, "rr"},
		{"thinking", "{{ messages[0].thinking }}{{ messages[0].reasoning_content }}",
			chat.Conversation{Messages: raw(`[{"thinking":"r"}]`)}, "rr"},
		{"order", "{{ messages[0] | tojson }}", chat.Conversation{Messages: raw(`[{"z":1,"a":2.50,"z":3}]`)}, `{"z": 3, "a": 2.5}`},
	} {
		template, err := chat.New(c.template, map[string]string{"bos_token": "^"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := template.Render(&c.conversation)
		if got != c.want || err != nil {
			t.Errorf("%s: got %q and error %v, want %q", c.name, got, err, c.want)
		}
	}
}

// blankTemplate asks in the ways that real templates do whether there is content, and writes it in the ways that they do.
const blankTemplate = `{% for m in messages %}{% if m.content is none %}none{% elif m['content'] is string %}text{% endif %},` +
	`{{ m.content == none }}{{ not m.content }}{{ m.content == '' }},{{ m.content is mapping }}{{ m.content is none }}{{ m.content is defined }},` +
	`[{{ 'a' + m.content }}{{ m.content }}{{ m['content'] | trim }}{{ m.content.strip() }}{{ 'x' if 'b' in m.content }}` +
	`{% for part in m.content %}{{ part }}{% endfor %}{{ m.content.split('</think>')[-1] ~ m.content.lstrip('
') }}` +
	`{% set text = m.content if m.content else '' %}{{ text }}{{ 'x' if m.content.startswith('<tool') }}{{ m.content | replace('a', 'b') }}]{% endfor %}`

const blankWritten = "none,TrueTrueTrue,FalseTrueTrue,[a]"

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestRefusals(t *testing.T) {
	const hello = `[{"role":"user","content":"Hi"}]`
	for _, c := range []struct {
		name         string
		template     string
		conversation chat.Conversation
	}{
		{"both", plainTemplate, chat.Conversation{Messages: raw(hello), AddGenerationPrompt: true, ContinueFinalMessage: true}},
		{"no messages", plainTemplate, chat.Conversation{}},
		{"no array", plainTemplate, chat.Conversation{Messages: raw(`{}`)}},
		{"no object", plainTemplate, chat.Conversation{Messages: raw(`["x"]`)}},
		{"no arguments", plainTemplate, chat.Conversation{Messages: raw(hello), Arguments: raw(`[]`)}},
		{"no documents", plainTemplate, chat.Conversation{Messages: raw(hello), Documents: raw(`["x"]`)}},
		{"empty", plainTemplate, chat.Conversation{Messages: raw(`[]`), ContinueFinalMessage: true}},
		{"blank content", plainTemplate, chat.Conversation{Messages: raw(`[{"role":"user","content":null}]`), ContinueFinalMessage: true,
			BlankContent: true}},
		{"no content", plainTemplate, chat.Conversation{Messages: raw(`[{"role":"user","content":null}]`), ContinueFinalMessage: true}},
		{"no text", plainTemplate, chat.Conversation{Messages: raw(`[{"role":"user","content":[{"type":"image"}]}]`),
			ContinueFinalMessage: true}},
		{"a number", plainTemplate, chat.Conversation{Messages: raw(`[{"role":"user","content":5}]`), ContinueFinalMessage: true}},
		{"not in the text", "{{ messages[0].role }} content", chat.Conversation{Messages: raw(hello), ContinueFinalMessage: true}},
		{"changed", "{{ messages[0].content | upper }}", chat.Conversation{Messages: raw(hello), ContinueFinalMessage: true}},
		{"not read", "{{ messages[0].role }}", chat.Conversation{Messages: raw(hello), ContinueFinalMessage: true}},
	} {
		template, err := chat.New(c.template, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := template.Render(&c.conversation)
		var own *chat.Error
		if !errors.As(err, &own) {
			t.Errorf("%s: got %q and error %v, want an error of the conversation", c.name, got, err)
		}
	}
	if _, err := chat.New("{% if %}", nil); err == nil {
		t.Error("a template that does not parse: got no error")
	}
	template, err := chat.New("{{ raise_exception('no') }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	var raised *jinja.RaisedError
	if _, err := template.Render(&chat.Conversation{Messages: raw(hello)}); !errors.As(err, &raised) {
		t.Errorf("got error %v, want the template's own", err)
	}
}

// One template serves any number of requests at a time.
func TestConcurrent(t *testing.T) {
	template, err := chat.New(plainTemplate, nil)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				text := fmt.Sprintf("%d-%d", i, j)
				got, err := template.Render(&chat.Conversation{Messages: raw(`[{"role":"user","content":"` + text + `"}]`)})
				if want := "<user>" + text + "</>\n"; got != want || err != nil {
					t.Errorf("got %q and error %v, want %q", got, err, want)
				}
			}
		})
	}
	group.Wait()
}

// benchmarkTemplate does what templates of models with tools and reasoning do.
const benchmarkTemplate = `{%- set ns = namespace(last=-1) %}
{%- for m in messages %}
    {%- if m.role == 'user' and m.content is string and not m.content.startswith('<tool') %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- set text = m.content if m.content is string else '' %}
    {%- if m.role == 'assistant' and '</think>' in text %}
        {%- set text = text.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>' + m.role + '\n' + text | trim }}
    {%- for call in m.tool_calls or [] %}
        {{- '\n<call>' ~ {'name': call.function.name, 'arguments': call.function.arguments} | tojson ~ '</call>' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}`

func benchmarkMessages() json.RawMessage {
	var b strings.Builder
	b.WriteString(`[{"role":"system","content":"You help."}`)
	for i := range 19 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, `,{"role":"user","content":%q}`, strings.Repeat("What is the weather? ", 20))
		case 1:
			b.WriteString(`,{"role":"assistant","content":"<think>\nLet me see.\n</think>\n\nI look.","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Bern","days":3}}}]}`)
		default:
			fmt.Fprintf(&b, `,{"role":"tool","content":%q}`, strings.Repeat("sun ", 50))
		}
	}
	b.WriteString("]")
	return json.RawMessage(b.String())
}

// BenchmarkRender renders a conversation of 20 messages, its JSON read anew each time as for a request.
func BenchmarkRender(b *testing.B) {
	template, err := chat.New(benchmarkTemplate, nil)
	if err != nil {
		b.Fatal(err)
	}
	conversation := &chat.Conversation{Messages: benchmarkMessages(), AddGenerationPrompt: true}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := template.Render(conversation); err != nil {
			b.Fatal(err)
		}
	}
}

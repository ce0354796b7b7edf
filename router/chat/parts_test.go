package chat_test

import (
	"testing"

	"lockstep/router/chat"
)

func TestReadsParts(t *testing.T) {
	for source, want := range map[string]bool{
		`{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}`:                                                                                  false, // an error
		`{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}`:                                                                                    false, // the array as Python prints it
		`{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}`: true,
		`{{ raise_exception('never') }}`: false,
		`fixed`:                          true, // whatever
	} {
		template, err := chat.New(source, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := template.ReadsParts(); got != want {
			t.Errorf("%s: got %t", source, got)
		}
	}
}

// A template reads tools if it writes them, not if it speaks of them.
func TestReadsTools(t *testing.T) {
	for source, want := range map[string]bool{
		"{% if tools %}{% for tool in tools %}{{ tool.function.name }}{% endfor %}{% endif %}":                          true,
		"{% if messages[0].role == 'system' and tools %}{{ tools | tojson }}{% endif %}":                                true,
		"{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}{% endfor %}": false,
		"{% if tools %}you have tools{% endif %}":                                                                       false,
	} {
		template, err := chat.New(source, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := template.ReadsTools(); got != want {
			t.Errorf("%s: %v", source, got)
		}
	}
}

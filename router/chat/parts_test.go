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

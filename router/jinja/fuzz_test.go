package jinja_test

import (
	"errors"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"lockstep/router/jinja"
)

// fuzzLimits are low, so that a template that runs on is found out soon.
var fuzzLimits = jinja.Limits{Steps: 20_000, OutputBytes: 1 << 16, MemoryBytes: 1 << 20, Depth: 50}

func addTemplates(f *testing.F, add func(template, variables string)) {
	for _, a := range readAnswers(f, filepath.Join("testdata", "table.jsonl")) {
		add(a.Template, string(a.Variables))
	}
	for _, source := range hostile() {
		if len(source) < 500 {
			add(source, "{}")
		}
	}
}

func FuzzParse(f *testing.F) {
	addTemplates(f, func(template, _ string) { f.Add(template) })
	f.Fuzz(func(t *testing.T, source string) {
		template, err := jinja.Parse(source)
		if (template == nil) == (err == nil) {
			t.Fatalf("got template %v and error %v", template, err)
		}
		checkError(t, err)
	})
}

func FuzzRender(f *testing.F) {
	addTemplates(f, func(template, variables string) { f.Add(template, variables) })
	f.Fuzz(func(t *testing.T, source, data string) {
		template, err := jinja.Parse(source)
		if err != nil {
			return
		}
		value, err := jinja.FromJSON([]byte(data))
		if err != nil {
			checkError(t, err)
			return
		}
		names := map[string]jinja.Value{"x": value}
		if object, ok := value.(*jinja.Dict); ok {
			for i := range object.Len() {
				key, value := object.At(i)
				names[string(key.(jinja.String))] = value
			}
		}
		options := jinja.Options{Limits: fuzzLimits, Now: clock}
		text, err := template.Render(names, options)
		checkError(t, err)
		again, err2 := template.Render(names, options)
		if text != again || (err == nil) != (err2 == nil) {
			t.Fatalf("got %q (%v), and a second time %q (%v)", text, err, again, err2)
		}
		if !utf8.ValidString(text) {
			t.Fatalf("%q is no UTF-8", text)
		}
	})
}

// checkError wants one of the package's errors.
func checkError(t *testing.T, err error) {
	t.Helper()
	var own *jinja.Error
	var limit *jinja.LimitError
	var raised *jinja.RaisedError
	if err != nil && !errors.As(err, &own) && !errors.As(err, &limit) && !errors.As(err, &raised) {
		t.Fatalf("got an error of type %T: %v", err, err)
	}
}

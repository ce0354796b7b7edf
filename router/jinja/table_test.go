package jinja_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lockstep/router/jinja"
)

// answer is a template with what Python's Jinja2 makes of it; testdata/make.py writes them.
type answer struct {
	Template  string
	Variables json.RawMessage
	Text      *string
	Error     string
}

func readAnswers(t testing.TB, path string) []answer {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var answers []answer
	for decoder := json.NewDecoder(bufio.NewReader(file)); decoder.More(); {
		var a answer
		if err := decoder.Decode(&a); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	return answers
}

var clock = time.Date(2026, 11, 24, 10, 30, 0, 0, time.UTC)

func variables(t testing.TB, data []byte) map[string]jinja.Value {
	t.Helper()
	value, err := jinja.FromJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	object, names := value.(*jinja.Dict), map[string]jinja.Value{}
	for i := range object.Len() {
		key, value := object.At(i)
		names[string(key.(jinja.String))] = value
	}
	return names
}

func render(source string, variables map[string]jinja.Value, limits jinja.Limits) (string, error) {
	template, err := jinja.Parse(source)
	if err != nil {
		return "", err
	}
	return template.Render(variables, jinja.Options{Limits: limits, Now: clock})
}

// LOCKSTEP_JINJA_CASES may name a file of further cases.
func TestTable(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "*.jsonl"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	if path := os.Getenv("LOCKSTEP_JINJA_CASES"); path != "" {
		paths = append(paths, path)
	}
	for _, path := range paths {
		answers := readAnswers(t, path)
		wrong := 0
		for _, a := range answers {
			text, err := render(a.Template, variables(t, a.Variables), jinja.Limits{})
			switch {
			case a.Text != nil && err != nil:
				t.Errorf("%s\n got error %v\nwant %q", a.Template, err, *a.Text)
			case a.Text != nil && text != *a.Text:
				t.Errorf("%s\n got %q\nwant %q", a.Template, text, *a.Text)
			case a.Text == nil && err == nil:
				t.Errorf("%s\n got %q\nwant error %s", a.Template, text, a.Error)
			default:
				continue
			}
			wrong++
		}
		t.Logf("%s: %d cases, %d wrong", path, len(answers), wrong)
	}
}

func TestRaised(t *testing.T) {
	_, err := render("{{ raise_exception('no ' ~ 7) }}", nil, jinja.Limits{})
	var raised *jinja.RaisedError
	if !errors.As(err, &raised) || raised.Message != "no 7" {
		t.Errorf("got %v, want the message of raise_exception", err)
	}
}

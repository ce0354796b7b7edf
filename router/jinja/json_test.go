package jinja_test

import (
	"errors"
	"strings"
	"testing"

	"lockstep/router/jinja"
)

func TestFromJSON(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`{"b":1,"a":2,"b":3}`, `{'b': 3, 'a': 2}`},
		{`[1, -0, 1.0, -0.0, 1e2, 1E-7, 12345678901234567890, 1e400]`,
			`[1, 0, 1.0, -0.0, 100.0, 1e-07, 12345678901234567890, inf]`},
		{` {"a" : [ true , false , null ] , "":{} } `, `{'a': [True, False, None], '': {}}`},
		{`"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"`, `'é😀"\\/\x08\x0c\n\r\t'`},
		{`"\ud800x"`, "'\ufffdx'"},
		{`"\ud800\u0041"`, "'\ufffdA'"},
		{"\"\xff\"", "'\ufffd'"},
	} {
		value, err := jinja.FromJSON([]byte(c.json))
		if err != nil {
			t.Errorf("%s: got error %v", c.json, err)
			continue
		}
		got, err := render("{{ [x] }}", map[string]jinja.Value{"x": value}, jinja.Limits{})
		if want := "[" + c.want + "]"; got != want || err != nil {
			t.Errorf("%s: got %q and error %v, want %q", c.json, got, err, want)
		}
	}
}

func TestFromJSONRefuses(t *testing.T) {
	for _, data := range []string{
		``, ` `, `{`, `[`, `"`, `[1,]`, `{"a":1,}`, `{"a"}`, `{a:1}`, `{1:2}`, `01`, `1.`, `.5`, `+1`, `-`, `1e`, `tru`, `nul`,
		`NaN`, `[1 2]`, `1 2`,
		"\"\n\"", `"\x"`, `"\u12"`, `"\u12g4"`, `'a'`, `[}`, `{]`, strings.Repeat("9", 5000),
	} {
		if value, err := jinja.FromJSON([]byte(data)); err == nil {
			t.Errorf("%.40s: got %v, want an error", data, value)
		}
	}
	var limit *jinja.LimitError
	if _, err := jinja.FromJSON([]byte(strings.Repeat("[", 100_000))); !errors.As(err, &limit) {
		t.Errorf("deep JSON: got error %v, want a LimitError", err)
	}
}

func TestManyKeys(t *testing.T) {
	const source = "{% for k in d %}{% if d[k] != loop.index0 or d.get(k) != loop.index0 %}{{ k }}{% endif %}{% endfor %}" +
		"{{ d | length }}{{ 'k7' in d }}{{ 'x' in d }}{{ d == d }}"
	d := &jinja.Dict{}
	for i, key := range strings.Fields("k0 k1 k2 k3 k4 k5 k6 k7 k8 k9 k10 k11 k12 k13 k14 k15 k16 k17 k18 k19") {
		d.Set(key, jinja.Int(i))
	}
	got, err := render(source, map[string]jinja.Value{"d": d}, jinja.Limits{})
	if want := "20TrueFalseTrue"; got != want || err != nil {
		t.Errorf("got %q and error %v, want %q", got, err, want)
	}
	if d.Len() != 20 || d.Get("k3") != jinja.Int(3) {
		t.Error("rendering changed a dict of the caller's")
	}
}

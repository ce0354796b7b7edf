package jinja_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"lockstep/router/jinja"
)

// hostile templates break a bound each.
func hostile() map[string]string {
	long := "{% set s = 'abc ' * 60000 %}"
	deep := "{% set ns = namespace(x=[], y=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}"
	return map[string]string{
		"repeated text":  "{{ 'a' * 1000000000 }}",
		"repeated list":  "{{ [1] * 1000000000 }}",
		"long range":     "{{ range(1000000000000) }}",
		"large range":    "{% for i in range(100001) %}{% endfor %}",
		"replace":        long + "{{ s.replace('a', s) }}",
		"replace filter": long + "{{ s | replace('', s) }}",
		"join":           long + "{{ s.join(s) }}",
		"join filter":    long + "{{ range(100000) | join(s) }}",
		"doubling":       "{% set ns = namespace(x='x') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
		"doubling list":  "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
		"doubling repr":  "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
		"doubling json": "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}" +
			"{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
		"doubling equal": "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(64) %}" +
			"{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
		"macro":  "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(150) }}",
		"deep stack": "{% macro f(n) %}" + strings.Repeat("{% if true %}", 150) + "{{ f(n)" + strings.Repeat(" + 'x'", 300) + " }}" +
			strings.Repeat("{% endif %}", 150) + "{% endmacro %}{{ f(1) }}",
		"caller":           "{% macro f() %}{{ caller is defined }}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
		"format fields":    long + "{{ ('{s}' * 1000).format(s=s) }}",
		"indentation":      long + "{{ s.replace(' ', '\\n') | indent(100000) }}",
		"json indentation": "{{ [[[1, 2], 3], 4] | tojson(indent=100000000) }}",
		"deep json indent": "{% set ns = namespace(x=[]) %}{% for i in range(100) %}" +
			"{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson(indent=4000000) }}",
		"output":       "{% for i in range(100000) %}" + strings.Repeat("x", 100) + "{% endfor %}",
		"nested loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
		"many variables": "{% for a in range(100000) %}{% for b in range(100000) %}{% if false %}" +
			"{% set " + names(20000) + " = a %}{% endif %}{% endfor %}{% endfor %}",
		"search":           long + "{% for i in range(100000) %}{{ 'abd' in s }}{% endfor %}",
		"key":              long + "{% set d = {s: 1} %}{% for i in range(100000) %}{% if s in d %}{% endif %}{% endfor %}",
		"length":           long + "{% for i in range(100000) %}{% if s | length %}{% endif %}{% endfor %}",
		"case":             long + "{% for i in range(100000) %}{% if s.upper() %}{% endif %}{% endfor %}",
		"comparison":       long + "{% set t = s ~ '' %}{% for i in range(100000) %}{% if s == t %}{% endif %}{% endfor %}",
		"stripping":        long + "{% for i in range(100000) %}{% if s.strip('abc ') %}{% endif %}{% endfor %}",
		"sorting":          "{% for i in range(100000) %}{% if range(10000) | sort %}{% endif %}{% endfor %}",
		"deep repr":        deep + "{{ ns.x }}",
		"deep json":        deep + "{{ ns.x | tojson }}",
		"deep equal":       deep + "{{ ns.x == ns.y }}",
		"wide indentation": "{{ 'a\\nb' | indent(1000000000) }}",
		"unique":           "{% for i in range(100) %}{{ range(1, 100000) | unique | list | length }}{% endfor %}",
		"itself":           "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
	}
}

// hostileSources are refused before they run.
func hostileSources() map[string]string {
	return map[string]string{
		"deep brackets":   "{{ " + strings.Repeat("(", 100000) + "1" + strings.Repeat(")", 100000) + " }}",
		"deep lists":      "{{ " + strings.Repeat("[", 100000),
		"deep signs":      "{{ " + strings.Repeat("-", 100000) + "1 }}",
		"deep negations":  "{{ " + strings.Repeat("not ", 100000) + "1 }}",
		"deep conditions": "{{ " + strings.Repeat("1 if 1 else ", 10000) + "1 }}",
		"deep blocks":     strings.Repeat("{% if 1 %}", 10000),
		"long sum":        "{{ 1" + strings.Repeat(" + 1", 50000) + " }}",
		"long path":       "{{ a" + strings.Repeat(".a", 50000) + " }}",
		"long filters":    "{{ a" + strings.Repeat("|d", 50000) + " }}",
		"long calls":      "{{ a" + strings.Repeat("()", 50000) + " }}",
		"many tokens":     "{{ [" + strings.Repeat("1,", 500000) + "] }}",
		"many parameters": "{% macro f(" + names(100000) + ") %}{% endmacro %}",
		"many names":      "{% set " + names(20000) + " = 1 %}" + strings.Repeat("{% if a %}{% endif %}", 10000),
		"long source":     strings.Repeat("x", jinja.MaxSourceBytes+1),
	}
}

func names(n int) string {
	var list []string
	for i := range n {
		name := []byte{'v'}
		for ; i > 0; i /= 26 {
			name = append(name, byte('a'+i%26))
		}
		list = append(list, string(name))
	}
	return strings.Join(list, ",")
}

func TestLimits(t *testing.T) {
	sources := hostile()
	maps.Copy(sources, hostileSources())
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			text, err := render(source, nil, jinja.Limits{})
			var limit *jinja.LimitError
			if !errors.As(err, &limit) {
				t.Errorf("got %.40q and error %v, want a LimitError", text, err)
			}
		})
	}
}

func TestLimitsAreOptions(t *testing.T) {
	for _, limits := range []jinja.Limits{{Steps: 10}, {OutputBytes: 10}, {MemoryBytes: 100}, {Depth: 2}} {
		const source = "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(9) }}-{{ 'x' * 50 }}"
		_, err := render(source, nil, limits)
		var limit *jinja.LimitError
		if !errors.As(err, &limit) {
			t.Errorf("%+v: got error %v, want a LimitError", limits, err)
		}
	}
}

// A rendering that nobody waits for any more ends.
func TestRenderingEndsWhenDone(t *testing.T) {
	template, err := jinja.Parse("{% for i in range(100000) %}{% set x = i + 1 %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	if _, err := template.Render(nil, jinja.Options{Done: done}); err != nil {
		t.Errorf("got error %v while it is waited for", err)
	}
	close(done)
	_, err = template.Render(nil, jinja.Options{Done: done})
	var limit *jinja.LimitError
	if !errors.As(err, &limit) {
		t.Errorf("got error %v, want a LimitError", err)
	}
}

package jinja_test

import (
	"errors"
	"strings"
	"testing"

	"lockstep/router/jinja"
)

// refused are templates that the reference takes, with what they are refused for when they are parsed.
var refused = []struct{ template, want string }{
	{"{% with a = 1 %}{% endwith %}", `tag "with" is not supported`},
	{"{% block b %}{% endblock %}", `tag "block" is not supported`},
	{"{% autoescape false %}{% endautoescape %}", `tag "autoescape" is not supported`},
	{"{% print 1 %}", `tag "print" is not supported`},
	{"{%- raw %}{% endraw %}", `tag "raw" is not supported`},
	{"{{ namespace({'a': 1}) }}", "a namespace of other values than named ones is not supported"},
	{"{% for i in l if i %}{{ loop.length }}{% endfor %}", `the attribute of loops with a condition "length" is not supported`},
	{"{% include 'x' %}", `tag "include" is not supported`},
	{"{% import 'x' as y %}", `tag "import" is not supported`},
	{"{% from 'x' import y %}", `tag "from" is not supported`},
	{"{% extends 'x' %}", `tag "extends" is not supported`},
	{"{% for m in l recursive %}{{ loop(m) }}{% endfor %}", `the mark of loops "recursive" is not supported`},
	{"{% for i in l %}{{ loop.cycle(1, 2) }}{% endfor %}", `the attribute of loops "cycle" is not supported`},
	{"{% for i in l %}{{ loop.changed(i) }}{% endfor %}", `the attribute of loops "changed" is not supported`},
	{"{% for i in l %}{{ loop.depth }}{% endfor %}", `the attribute of loops "depth" is not supported`},
	{"{% macro m() %}{{ kwargs }}{% endmacro %}", `the variable "kwargs" is not supported`},
	{"{% macro m() %}{% for v in varargs %}{% endfor %}{% endmacro %}", `the variable "varargs" is not supported`},
	{"{{ 2 ** 3 }}", `operator "**" is not supported`},
	{"{{ '%s' % n }}", `operator on text "%" is not supported`},
	{"{{ f(*l) }}", `in arguments "*" is not supported`},
	{"{{ f(**d) }}", `in arguments "**" is not supported`},
	{"{{ 9223372036854775808 }}", "whole numbers beyond 64 bits are not supported"},
	{"{{ 0x1f }}", "numbers in other forms than the decimal one are not supported"},
	{`{{ '\N{DASH}' }}`, `the escape \N is not supported`},
	{`{{ '\101' }}`, `the escape \1 is not supported`},
	{"{{ {1.5: 2} }}", "a key of a dict of the type float is not supported"},
	{"{{ {none: 2} }}", "a key of a dict of the type NoneType is not supported"},
	{"{{ '{:>5}'.format(n) }}", "format field {:>5} is not supported"},
	{"{{ '{!r}'.format(n) }}", "format field {!r} is not supported"},
	{"{{ '{0}'.format(n) }}", "format field {0} is not supported"},
	{"{{ '{x.y}'.format(x=n) }}", "format field {x.y} is not supported"},
	{"{{ s.startswith('a', 1) }}", `method "startswith" with more than one argument is not supported`},
	{"{{ s.endswith('a', 1) }}", `method "endswith" with more than one argument is not supported`},
	{"{{ s.find('a', 1) }}", `method "find" with more than one argument is not supported`},
	{"{{ l | map('round') | list }}", `filter "round" is not supported`},
	{"{{ l | select('callable') | list }}", `test "callable" is not supported`},
	{"{{ l | rejectattr('x', 'escaped') | list }}", `test "escaped" is not supported`},
	{"{% filter wordwrap(5) %}{% endfilter %}", `filter "wordwrap" is not supported`},
	{"{% set x | urlencode %}{% endset %}", `filter "urlencode" is not supported`},
	{"{% if false %}{{ x | groupby('y') }}{% endif %}", `filter "groupby" is not supported`},
	{"{% macro never() %}{{ x.isdigit() }}{% endmacro %}", `method "isdigit" is not supported`},
}

func TestRefused(t *testing.T) {
	cases := refused
	add := func(kind, before, after, names string) {
		for _, name := range strings.Fields(names) {
			cases = append(cases, struct{ template, want string }{before + name + after, kind + ` "` + name + `" is not supported`})
		}
	}
	add("filter", "{{ x | ", " }}", `attr batch center e escape filesizeformat forceescape format groupby pprint random round
		slice striptags sum truncate urlencode urlize wordcount wordwrap xmlattr`)
	add("test", "{{ x is ", " }}", "callable escaped filter lower test upper")
	add("function", "{{ ", "() }}", "cycler dict joiner lipsum")
	add("method", "{{ x.", "() }}", `casefold center copy count encode expandtabs format_map index isalnum isalpha isascii isdecimal
		isdigit isidentifier islower isnumeric isprintable isspace istitle isupper ljust maketrans partition rfind rindex rjust
		rpartition swapcase translate zfill fromkeys bit_length is_integer`)
	for _, c := range cases {
		template, err := jinja.Parse("one\n" + c.template)
		var own *jinja.Error
		if template != nil || !errors.As(err, &own) || own.Message != c.want || own.Line != 2 {
			t.Errorf("%s: got error %v, want %s in line 2", c.template, err, c.want)
		}
	}
}

// What is refused as a function only is free as a name.
func TestRefusedNamesAreFree(t *testing.T) {
	const source = "{% macro cycler(x) %}<{{ x }}>{% endmacro %}{{ cycler(1) }}{{ dict.count }}{% set lipsum = 2 %}{{ lipsum }}" +
		"{% for index in [dict.index] %}{{ index }}{% endfor %}"
	d := &jinja.Dict{}
	d.Set("count", jinja.Int(3))
	d.Set("index", jinja.Int(4))
	got, err := render(source, map[string]jinja.Value{"dict": d}, jinja.Limits{})
	if want := "<1>324"; got != want || err != nil {
		t.Errorf("got %q and error %v, want %q", got, err, want)
	}
}

// What depends on the types of values is refused when it runs.
func TestRefusedWhenItRuns(t *testing.T) {
	variables := variables(t, []byte(`{"big": 18446744073709551616, "s": "%s", "n": 7}`))
	for template, want := range map[string]string{
		"{{ big + 1 }}":                             "beyond 64 bits are not supported",
		"{{ big | float }}":                         "beyond 64 bits are not supported",
		"{{ 9223372036854775807 + 1 }}":             "beyond 64 bits are not supported",
		"{{ '9' * 30 | int }}":                      "",
		"{{ ('9' * 30) | int }}":                    "beyond 64 bits are not supported",
		"{{ s % n }}":                               "formatting of text by % is not supported",
		"{{ range(3) }}":                            "writing a value of the type range is not supported",
		"{{ s.rsplit() }}":                          "missing 1 required",
		"{{ s.rsplit('a', 2) }}":                    "rsplit by other than one text, once, is not supported",
		"{{ 7.5 // 2 }}":                            "the operator // between numbers with fractions is not supported",
		"{{ [1] < [2] }}":                           "the order of two values of the type list is not supported",
		"{{ [] | sort(attribute='a,b') }}":          "sorting by several attributes is not supported",
		"{{ range }}":                               "writing a value of the type function is not supported",
		"{{ range(3).stop }}":                       `the attribute "stop" of the type range is not supported`,
		"{{ n.real }}":                              `the attribute "real" of the type int is not supported`,
		"{% macro m() %}{% endmacro %}{{ m.name }}": `the attribute "name" of the type Macro is not supported`,
		"{{ {'a': 1}.keys() == {'a': 1}.keys() }}":  "comparing two values of the type dict_keys is not supported",
		"{{ ('{}' | safe).format(1) }}":             "format of a safe text is not supported",
		"{% for i in [n] %}{{ loop }}{% endfor %}":  "writing a value of the type LoopContext is not supported",
		"{% set ns = namespace() %}{% for i in [n] if i %}{% set x %}{{ loop.length }}{% endset %}{% endfor %}": "a loop with a condition",
		"{{ strftime_now('%G') }}": "the directive %G of times is not supported",
		"{{ {(n, n): 3} }}":        "a key of a dict of the type tuple is not supported",
	} {
		_, err := render(template, variables, jinja.Limits{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", template, err, want)
		}
	}
}

// Changes of case are Unicode's full ones, as Python's are.
func TestCases(t *testing.T) {
	for source, want := range map[string]string{
		`{{ 'ΟΔΥΣΣΕΥΣ İ' | lower }}`: "οδυσσευς i̇", `{{ 'straße ŉ ﬁ' | upper }}`: "STRASSE ʼN FI",
		`{{ 'ﬁNE ΑΣ' | capitalize }}`: "Fine ας",
		`{{ 'ΑΣ ΑΣ'.lower() }}`:       "ας ας", `{{ 'hELLO wORLD' | title }}`: "Hello World",
	} {
		template, err := jinja.Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		got, err := template.Render(nil, jinja.Options{})
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", source, got, err, want)
		}
	}
}

// Package jinja renders chat templates: the language of Jinja2 3.1 (Jinja2 documentation, "Template Designer
// Documentation") over Python's values, configured as chat templates expect it. That is the immutable sandbox, blocks
// that take their line's indentation and their newline with them, the loop controls, generation blocks, JSON without
// HTML escapes, raise_exception and strftime_now. The text is the reference's byte for byte; where the reference
// stops with an error, Render does too.
//
// Left out, each with an error where it is reached: random, urlize and lipsum; pprint over more than one line; automatic
// escaping; other templates by include, import and extends; complex numbers; encode, translate and maketrans of text.
//
// A Template is immutable: any number of goroutines may render it. Templates and conversations come from outside, so
// every cost has a bound in Limits, and no input makes the package panic.
package jinja

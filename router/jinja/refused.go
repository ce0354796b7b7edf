package jinja

import "fmt"

// What the reference has and no chat template that we know of needs is refused by its name when a template is parsed, so
// that a model whose template needs it fails when it is loaded, and not in the middle of a request. Names that the
// reference does not have either are its own errors, and come about where its do.
var (
	refusedTags    = wordSet("autoescape block extends from import include print with") // and raw, which the lexer refuses
	refusedFilters = wordSet(`attr batch center e escape filesizeformat forceescape format groupby pprint random round slice
		striptags sum truncate urlencode urlize wordcount wordwrap xmlattr`)
	refusedTests     = wordSet("callable escaped filter lower test upper")
	refusedFunctions = wordSet("cycler dict joiner lipsum")
	refusedMethods   = wordSet(`casefold center copy count encode expandtabs format_map index isalnum isalpha isascii isdecimal
		isdigit isidentifier islower isnumeric isprintable isspace istitle isupper ljust maketrans partition rfind rindex
		rjust rpartition swapcase translate zfill
		fromkeys as_integer_ratio bit_count bit_length conjugate from_bytes hex is_integer to_bytes`)
	refusedLoop  = wordSet("changed cycle depth depth0")
	countingLoop = wordSet("length revindex revindex0") // in loops with a condition

	// refusedAttributes are those of types, which are known only when a template runs.
	refusedAttributes = map[string]map[string]bool{
		"int":   wordSet("real imag numerator denominator"),
		"bool":  wordSet("real imag numerator denominator"),
		"float": wordSet("real imag"),
		"range": wordSet("start stop step"),
		"Macro": wordSet("name arguments catch_kwargs catch_varargs caller explicit_caller"),
	}
	// oneArgument are the methods that take a place to search from in the reference.
	oneArgument = wordSet("startswith endswith find")
)

func notSupported(kind, name string) string { return fmt.Sprintf("%s %q is not supported", kind, name) }

func (p *parser) refuse(kind, name string) error { return p.fail("%s", notSupported(kind, name)) }

// checkCall refuses the call of a method by its name, and formats with fields that are not supported.
func checkCall(callee expression, arguments *argumentsNode, line int) error {
	if name, ok := callee.(*nameNode); ok && name.name == "namespace" && len(arguments.positional) > 0 {
		return failAt(line, "a namespace of other values than named ones is not supported")
	}
	method, ok := callee.(*attributeNode)
	if !ok {
		return nil
	}
	switch {
	case refusedMethods[method.name]:
		return failAt(line, "%s", notSupported("method", method.name))
	case oneArgument[method.name] && len(arguments.positional) > 1:
		return failAt(line, "method %q with more than one argument is not supported", method.name)
	case method.name == "format":
		if format, ok := constantText(method.object); ok {
			_, err := formatPieces(format)
			return located(err, line)
		}
	}
	return nil
}

// checkFilter refuses the names of filters and tests that other filters are given.
func checkFilter(node *filterNode) error {
	at, kind, refused := 0, "filter", refusedFilters
	switch node.name {
	case "map":
	case "select", "reject":
		kind, refused = "test", refusedTests
	case "selectattr", "rejectattr":
		at, kind, refused = 1, "test", refusedTests
	default:
		return nil
	}
	if node.arguments == nil || len(node.arguments.positional) <= at {
		return nil
	}
	if name, ok := constantText(node.arguments.positional[at]); ok && refused[name] {
		return failAt(node.line, "%s", notSupported(kind, name))
	}
	return nil
}

func constantText(node expression) (string, bool) {
	c, ok := node.(*constant)
	if !ok {
		return "", false
	}
	s, ok := c.value.(String)
	return string(s), ok
}

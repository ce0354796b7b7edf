package guide

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxGroups bounds how deep groups of a grammar stand within one another.
	maxGroups = 256
	// maxCopies bounds how often what is repeated a counted number of times is written out.
	maxCopies = 64
	maxCount  = 1 << 20
)

// term is a part of a grammar's rule.
type term struct {
	kind   termKind
	text   string    // of a literal, or the name of a rule
	ranges [][2]rune // of a class, in order
	parts  []*term   // of a sequence or of alternatives; one, of a repetition
	min    int       // of a repetition
	max    int       // -1: without end
}

type termKind uint8

const (
	termLiteral termKind = iota
	termClass
	termRule
	termSequence
	termChoice
	termRepeat
)

// grammarReader reads GBNF.
type grammarReader struct {
	text  string
	at    int
	depth int
	err   error
	rules map[string]*term
	order []string
}

// grammar builds the rules of a grammar, of which root begins.
func (c *compiler) grammar(text string) int32 {
	r := &grammarReader{text: text, rules: map[string]*term{}}
	r.read()
	if r.err != nil {
		return c.fail(Invalid, "the grammar at byte %d: %v", r.at, r.err)
	}
	if r.rules["root"] == nil {
		return c.fail(Invalid, "the grammar has no rule root")
	}
	numbers := map[string]int32{}
	for _, name := range r.order {
		numbers[name] = c.rule()
	}
	for _, name := range r.order {
		c.define(numbers[name], c.term(r.rules[name], numbers, endNode))
	}
	return c.call(numbers["root"], endNode)
}

// term builds a term.
func (c *compiler) term(t *term, rules map[string]int32, next int32) int32 {
	if !c.spend(1) {
		return next
	}
	switch t.kind {
	case termLiteral:
		return c.literal(t.text, next)
	case termClass:
		var all []run
		for _, part := range t.ranges {
			for _, e := range charRange(nil, part[0], part[1], next) {
				all = appendUTF8(all, e.low, e.high, next)
			}
		}
		return c.runs(all)
	case termRule:
		rule, ok := rules[t.text]
		if !ok {
			return c.fail(Invalid, "the grammar has no rule %q", t.text)
		}
		return c.call(rule, next)
	case termSequence:
		for _, part := range slices.Backward(t.parts) {
			next = c.term(part, rules, next)
		}
		return next
	case termChoice:
		targets := make([]int32, 0, len(t.parts))
		for _, part := range t.parts {
			targets = append(targets, c.term(part, rules, next))
		}
		return c.split(targets...)
	}
	return c.repeated(t, rules, next)
}

// repeated builds a repetition. Where copies would be too many, a loop counts; what it repeats takes a character at least then.
func (c *compiler) repeated(t *term, rules map[string]int32, next int32) int32 {
	part := t.parts[0]
	if most := max(t.min, t.max); most > maxCopies {
		rule := c.rule()
		c.define(rule, c.term(part, rules, endNode))
		return c.loop(rule, int32(t.min), int32(t.max), next)
	}
	if t.max < 0 {
		again := c.add(node{kind: kindSplit})
		c.setSplit(again, c.term(part, rules, again), next)
		next = again
	}
	for range t.max - t.min {
		next = c.split(c.term(part, rules, next), next)
	}
	for range t.min {
		next = c.term(part, rules, next)
	}
	return next
}

func (r *grammarReader) fail(format string, values ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, values...)
	}
}

// read reads all rules.
func (r *grammarReader) read() {
	for r.skip(); r.at < len(r.text) && r.err == nil; r.skip() {
		name := r.name()
		if name == "" || !r.takes("::=") {
			r.fail("a rule is due: name ::= …")
			return
		}
		if r.rules[name] != nil {
			r.fail("the rule %q is there already", name)
			return
		}
		r.rules[name] = r.choice()
		r.order = append(r.order, name)
	}
}

// skip passes over white space and comments.
func (r *grammarReader) skip() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		case '#':
			if end := strings.IndexByte(r.text[r.at:], '\n'); end >= 0 {
				r.at += end
			} else {
				r.at = len(r.text)
			}
		default:
			return
		}
	}
}

// takes passes over a text if it comes next.
func (r *grammarReader) takes(text string) bool {
	r.skip()
	if !strings.HasPrefix(r.text[r.at:], text) {
		return false
	}
	r.at += len(text)
	return true
}

func isNameByte(b byte) bool {
	return b == '-' || b == '_' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// name reads one; "" where there is none.
func (r *grammarReader) name() string {
	r.skip()
	start := r.at
	for r.at < len(r.text) && isNameByte(r.text[r.at]) {
		r.at++
	}
	return r.text[start:r.at]
}

// choice reads alternatives.
func (r *grammarReader) choice() *term {
	t := &term{kind: termChoice}
	for {
		t.parts = append(t.parts, r.sequence())
		if r.err != nil || !r.takes("|") {
			return t
		}
	}
}

// sequence reads what stands one behind another, up to the next rule.
func (r *grammarReader) sequence() *term {
	t := &term{kind: termSequence}
	for r.err == nil {
		start := r.at
		part := r.item()
		if part == nil {
			r.at = start
			return t
		}
		t.parts = append(t.parts, r.repetitions(part))
	}
	return t
}

// item reads one item; nil: none comes next.
func (r *grammarReader) item() *term {
	if r.skip(); r.at == len(r.text) {
		return nil
	}
	switch b := r.text[r.at]; {
	case b == '"':
		return r.literal()
	case b == '[':
		return r.class()
	case b == '.':
		r.at++
		return &term{kind: termClass, ranges: [][2]rune{{0, utf8.MaxRune}}}
	case b == '(':
		r.at++
		if r.depth++; r.depth > maxGroups {
			r.fail("groups stand more than %d deep", maxGroups)
		}
		t := r.choice()
		if !r.takes(")") {
			r.fail("a group is not closed")
		}
		r.depth--
		return t
	case isNameByte(b):
		name := r.name()
		if r.takes("::=") { // the next rule
			return nil
		}
		return &term{kind: termRule, text: name}
	}
	return nil
}

// repetitions reads the signs behind an item.
func (r *grammarReader) repetitions(t *term) *term {
	for r.err == nil {
		least, greatest := 0, -1
		switch {
		case r.takes("*"):
		case r.takes("+"):
			least = 1
		case r.takes("?"):
			greatest = 1
		case r.takes("{"):
			least, greatest = r.counts()
		default:
			return t
		}
		t = &term{kind: termRepeat, parts: []*term{t}, min: least, max: greatest}
	}
	return t
}

// counts reads m}, m,} or m,n}.
func (r *grammarReader) counts() (least, greatest int) {
	number := func() (int, bool) {
		r.skip()
		start := r.at
		for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
			r.at++
		}
		n, err := strconv.Atoi(r.text[start:r.at])
		if err == nil && n > maxCount {
			r.fail("a count of %d, at most %d", n, maxCount)
		}
		return n, err == nil
	}
	least, lower := number()
	greatest = least
	if comma := r.takes(","); comma {
		var upper bool
		if greatest, upper = number(); !upper {
			greatest = -1
		}
	} else if !lower {
		r.fail("a count is due")
	}
	if !r.takes("}") || greatest >= 0 && greatest < least {
		r.fail("counts must be {m}, {m,} or {m,n}")
	}
	return least, greatest
}

// literal reads a text in quotation marks.
func (r *grammarReader) literal() *term {
	var text strings.Builder
	for r.at++; ; {
		if r.at == len(r.text) || r.text[r.at] == '\n' {
			r.fail("a text is not closed")
			return nil
		}
		if r.text[r.at] == '"' {
			r.at++
			return &term{kind: termLiteral, text: text.String()}
		}
		text.WriteRune(r.char())
		if r.err != nil {
			return nil
		}
	}
}

// class reads characters in brackets.
func (r *grammarReader) class() *term {
	r.at++
	var ranges [][2]rune
	inverse := r.at < len(r.text) && r.text[r.at] == '^'
	if inverse {
		r.at++
	}
	for {
		if r.at == len(r.text) || r.text[r.at] == '\n' {
			r.fail("a class is not closed")
			return nil
		}
		if r.text[r.at] == ']' {
			r.at++
			break
		}
		low := r.char()
		high := low
		if strings.HasPrefix(r.text[r.at:], "-") && !strings.HasPrefix(r.text[r.at:], "-]") {
			r.at++
			if r.at == len(r.text) {
				r.fail("a class is not closed")
				return nil
			}
			high = r.char()
		}
		if r.err != nil {
			return nil
		}
		if high < low {
			r.fail("a range from %q to %q", low, high)
			return nil
		}
		ranges = append(ranges, [2]rune{low, high})
	}
	ranges = sortedRanges(ranges)
	if inverse {
		ranges = gaps(ranges)
	}
	return &term{kind: termClass, ranges: ranges}
}

// sortedRanges are the same characters without overlaps.
func sortedRanges(ranges [][2]rune) (out [][2]rune) {
	slices.SortFunc(ranges, func(a, b [2]rune) int { return int(a[0] - b[0]) })
	for _, part := range ranges {
		if n := len(out); n > 0 && part[0] <= out[n-1][1]+1 {
			out[n-1][1] = max(out[n-1][1], part[1])
		} else {
			out = append(out, part)
		}
	}
	return out
}

// gaps are the characters that ranges lack.
func gaps(ranges [][2]rune) (out [][2]rune) {
	next := rune(0)
	for _, part := range ranges {
		if part[0] > next {
			out = append(out, [2]rune{next, part[0] - 1})
		}
		next = part[1] + 1
	}
	if next <= utf8.MaxRune {
		out = append(out, [2]rune{next, utf8.MaxRune})
	}
	return out
}

// char reads a character of a literal or class, maybe behind a backslash.
func (r *grammarReader) char() rune {
	char, size := utf8.DecodeRuneInString(r.text[r.at:])
	if char == utf8.RuneError && size <= 1 {
		r.fail("it is not UTF-8")
		return 0
	}
	if r.at += size; char != '\\' {
		return char
	}
	if r.at == len(r.text) {
		r.fail("nothing follows a backslash")
		return 0
	}
	letter := r.text[r.at]
	r.at++
	switch letter {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	case 'x':
		return r.code(2)
	case 'u':
		return r.code(4)
	case 'U':
		return r.code(8)
	case '"', '\\', '[', ']', '-', '^', '/':
		return rune(letter)
	}
	r.fail("there is no escape \\%c", letter)
	return 0
}

// code reads so many hexadecimal digits.
func (r *grammarReader) code(digits int) rune {
	if len(r.text)-r.at < digits {
		r.fail("%d hexadecimal digits are due", digits)
		return 0
	}
	n, err := strconv.ParseUint(r.text[r.at:r.at+digits], 16, 32)
	if r.at += digits; err != nil || !utf8.ValidRune(rune(n)) {
		r.fail("there is no character \\%s", r.text[r.at-digits:r.at])
		return 0
	}
	return rune(n)
}

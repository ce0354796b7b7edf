package guide

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxProgram bounds the instructions of a regular expression.
	maxProgram = 50000
	// fewStates are so many that an automaton is determined for speed alone.
	fewStates = 5000
)

// pattern reads the texts that a regular expression matches as a whole or, where it searches, somewhere within them.
func (c *compiler) pattern(source string, search bool) *automaton {
	re, err := syntax.Parse(withCodePoints(source), syntax.Perl)
	if err != nil {
		c.refusePattern(source, err)
		return nil
	}
	if search {
		anything := &syntax.Regexp{Op: syntax.OpStar, Sub: []*syntax.Regexp{{Op: syntax.OpAnyChar}}}
		re = &syntax.Regexp{Op: syntax.OpConcat, Sub: []*syntax.Regexp{anything, re, anything}}
	}
	if size := programSize(re); size > maxProgram {
		c.fail(TooLarge, "the regular expression %.60q has %d states, at most %d", source, size, maxProgram)
		return nil
	}
	program, err := syntax.Compile(re.Simplify())
	if err != nil {
		c.refusePattern(source, err)
		return nil
	}
	a := c.fromProgram(program, source)
	if a == nil {
		return nil
	}
	if d, ok := c.determine(a, fewStates); ok {
		a = d
	}
	return a
}

func (c *compiler) refusePattern(source string, err error) {
	reason, text := Invalid, err.Error()
	if failure := (*syntax.Error)(nil); errors.As(err, &failure) {
		text = failure.Code.String() + ": `" + failure.Expr + "`"
		switch {
		case failure.Code == syntax.ErrLarge || failure.Code == syntax.ErrInvalidRepeatSize:
			reason = TooLarge
		case isPerlOnly(failure):
			reason = Unsupported
		}
	}
	c.fail(reason, "the regular expression %.60q: %s", source, text)
}

// isPerlOnly reports whether an expression failed for what other engines know: looking around, and references to what was matched.
func isPerlOnly(err *syntax.Error) bool {
	switch err.Code {
	case syntax.ErrInvalidPerlOp:
		return true
	case syntax.ErrInvalidNamedCapture:
		return strings.HasPrefix(err.Expr, "(?<=") || strings.HasPrefix(err.Expr, "(?<!")
	case syntax.ErrInvalidEscape:
		return strings.ContainsAny(err.Expr, "123456789ckZ")
	}
	return false
}

// withCodePoints writes \uXXXX and \u{X…}, which Go does not know, as \x{X…}. Two halves of a surrogate pair are one character.
func withCodePoints(source string) string {
	if !strings.Contains(source, `\u`) {
		return source
	}
	var out strings.Builder
	for i := 0; i < len(source); {
		switch rest := source[i:]; {
		case rest[0] != '\\' || len(rest) == 1:
			out.WriteByte(rest[0])
			i++
		case strings.HasPrefix(rest, `\u{`):
			out.WriteString(`\x{`)
			i += 3
		default:
			code, ok := codePoint(rest)
			if !ok {
				out.WriteString(rest[:2])
				i += 2
				break
			}
			i += 6
			if low, ok := codePoint(source[i:]); ok && utf16.IsSurrogate(code) && utf16.DecodeRune(code, low) != utf8.RuneError {
				code = utf16.DecodeRune(code, low)
				i += 6
			}
			fmt.Fprintf(&out, `\x{%x}`, code)
		}
	}
	return out.String()
}

// codePoint reads \uXXXX, with which a text begins if ok.
func codePoint(text string) (code rune, ok bool) {
	if len(text) < 6 || text[:2] != `\u` || !isHex(text[2:6]) {
		return 0, false
	}
	n, err := strconv.ParseUint(text[2:6], 16, 16)
	return rune(n), err == nil
}

func isHex(digits string) bool {
	return strings.Trim(digits, "0123456789abcdefABCDEF") == ""
}

// programSize is about how many instructions an expression has when its repetitions are written out.
func programSize(re *syntax.Regexp) int {
	size := 1
	switch re.Op {
	case syntax.OpLiteral:
		size = len(re.Rune)
	case syntax.OpRepeat:
		times := max(re.Min, re.Max, 1)
		return min(times*programSize(re.Sub[0]), 2*maxProgram)
	}
	for _, sub := range re.Sub {
		if size += programSize(sub); size > maxProgram {
			return 2 * maxProgram
		}
	}
	return size
}

// fromProgram makes states of the places behind the program's characters: an instruction, and whether a character was read.
func (c *compiler) fromProgram(program *syntax.Prog, source string) *automaton {
	type place struct {
		at    uint32
		begun bool
	}
	a := &automaton{}
	index := map[place]int32{}
	var places []place
	reach := func(p place) int32 {
		at, ok := index[p]
		if !ok {
			at = int32(len(places))
			index[p] = at
			places = append(places, p)
		}
		return at
	}
	reach(place{uint32(program.Start), false})
	for i := 0; i < len(places); i++ {
		w := walk{compiler: c, program: program, begun: places[i].begun, seen: map[visited]bool{}, source: source}
		w.from(places[i].at, false)
		if c.err != nil || !c.spend(len(w.seen)) {
			return nil
		}
		s := charState{accepts: w.accepts}
		for _, at := range w.chars {
			inst := &program.Inst[at]
			s.edges = instructionEdges(s.edges, inst, reach(place{inst.Out, true}))
		}
		a.states = append(a.states, s)
	}
	return c.trim(a)
}

type visited struct {
	at    uint32
	ended bool
}

// walk finds what is reached from an instruction before the next character.
type walk struct {
	*compiler
	program *syntax.Prog
	source  string
	begun   bool // a character was read
	seen    map[visited]bool
	chars   []uint32 // instructions that read one
	accepts bool
}

// from goes on at an instruction; ended says that no character may follow.
func (w *walk) from(at uint32, ended bool) {
	if w.seen[visited{at, ended}] {
		return
	}
	w.seen[visited{at, ended}] = true
	switch inst := &w.program.Inst[at]; inst.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		w.from(inst.Out, ended)
		w.from(inst.Arg, ended)
	case syntax.InstCapture, syntax.InstNop:
		w.from(inst.Out, ended)
	case syntax.InstEmptyWidth:
		switch kind := syntax.EmptyOp(inst.Arg); {
		case kind == syntax.EmptyBeginText:
			if !w.begun {
				w.from(inst.Out, ended)
			}
		case kind == syntax.EmptyEndText:
			w.from(inst.Out, true)
		default:
			w.fail(Unsupported, "the regular expression %.60q: only the beginning and the end of the text can be asked for", w.source)
		}
	case syntax.InstMatch:
		w.accepts = true
	case syntax.InstFail:
	default:
		if !ended {
			w.chars = append(w.chars, at)
		}
	}
}

// instructionEdges adds those of an instruction that reads a character.
func instructionEdges(edges []charEdge, inst *syntax.Inst, to int32) []charEdge {
	switch inst.Op {
	case syntax.InstRuneAny:
		return append(edges, anyChar(to)...)
	case syntax.InstRuneAnyNotNL:
		edges = charRange(edges, 0, '\n'-1, to)
		return charRange(edges, '\n'+1, utf8.MaxRune, to)
	}
	if len(inst.Rune) == 1 { // one character, maybe in either case
		r := inst.Rune[0]
		edges = charRange(edges, r, r, to)
		if syntax.Flags(inst.Arg)&syntax.FoldCase != 0 {
			for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
				edges = charRange(edges, other, other, to)
			}
		}
		return edges
	}
	for i := 0; i+1 < len(inst.Rune); i += 2 {
		edges = charRange(edges, inst.Rune[i], inst.Rune[i+1], to)
	}
	return edges
}

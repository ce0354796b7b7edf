package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"lockstep/protocol"
)

const hexDigits = "0123456789abcdef"

// appendText appends a JSON string for any reader: what readers of lines take for the end of one (Python's splitlines, Node's
// readline) is escaped too.
func appendText(b []byte, s string) []byte { return appendString(b, s, lineEndSize) }

// appendExactText appends a JSON string in its shortest spelling, which is TGI's: only quote, backslash and controls are
// escaped.
func appendExactText(b []byte, s string) []byte {
	return appendString(b, s, func(string) int { return 0 })
}

// lineEndSize is the size of the character U+0085, U+2028 or U+2029 at the beginning of s, else 0.
func lineEndSize(s string) int {
	switch {
	case strings.HasPrefix(s, "\u0085"):
		return len("\u0085")
	case strings.HasPrefix(s, "\u2028"), strings.HasPrefix(s, "\u2029"):
		return len("\u2028")
	}
	return 0
}

// appendString appends a JSON string; more tells the size of a character beyond ASCII that is to be escaped, else 0.
func appendString(b []byte, s string, more func(string) int) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == 0xc2 || c == 0xe2 {
			if size := more(s[i:]); size > 0 {
				r, _ := utf8.DecodeRuneInString(s[i:])
				b = fmt.Appendf(append(b, s[start:i]...), `\u%04x`, r)
				i += size - 1
				start = i + 1
			}
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendFloat appends the shortest decimal that reads back as the same single-precision number, with a point or an
// exponent, as serde_json spells it; null for what JSON cannot hold.
func appendFloat(b []byte, value float32) []byte {
	if value != value || math.IsInf(float64(value), 0) {
		return append(b, "null"...)
	}
	if value == 0 {
		if math.Signbit(float64(value)) {
			return append(b, "-0.0"...)
		}
		return append(b, "0.0"...)
	}
	if magnitude := max(value, -value); magnitude >= 1e-6 && magnitude < 1e13 {
		before := len(b)
		b = strconv.AppendFloat(b, float64(value), 'f', -1, 32)
		for _, c := range b[before:] {
			if c == '.' {
				return b
			}
		}
		return append(b, ".0"...)
	}
	var scratch [32]byte
	text := strconv.AppendFloat(scratch[:0], float64(value), 'e', -1, 32)
	for i, c := range text {
		if c != 'e' {
			continue
		}
		b = append(append(b, text[:i]...), 'e')
		exponent, _ := strconv.Atoi(string(text[i+1:]))
		return strconv.AppendInt(b, int64(exponent), 10)
	}
	return append(b, text...)
}

// token is one generated token as a client sees it.
type token struct {
	id      int32
	text    string
	logprob float32
	special bool
	top     []token // the likeliest at its place, where that was asked for
}

// appendToken appends {"id":…,"text":…,"logprob":…,"special":…}.
func appendToken(b []byte, t *token) []byte {
	b = append(b, `{"id":`...)
	b = strconv.AppendInt(b, int64(t.id), 10)
	b = append(b, `,"text":`...)
	b = appendExactText(b, t.text)
	b = append(b, `,"logprob":`...)
	b = appendFloat(b, t.logprob)
	b = append(b, `,"special":`...)
	b = strconv.AppendBool(b, t.special)
	return append(b, '}')
}

// generation is one finished generation.
type generation struct {
	text     string // with the prompt in front where that was asked for
	finish   string
	sampling protocol.Sampling
	length   int           // of the prompt in tokens
	prompt   []promptToken // only where asked for
	tokens   []token
}

// promptToken is one token of the prompt; the first has no log-probability.
type promptToken struct {
	id      int32
	text    string
	logprob float32
}

// meanLogprob is what best_of compares.
func (g *generation) meanLogprob() float64 {
	sum := 0.0
	for i := range g.tokens {
		sum += float64(g.tokens[i].logprob)
	}
	return sum / float64(len(g.tokens))
}

func (g *generation) appendSeed(b []byte) []byte {
	b = append(b, `,"seed":`...)
	if !g.sampling.Sample {
		return append(b, "null"...)
	}
	return strconv.AppendUint(b, g.sampling.Seed, 10)
}

// appendOutcome appends finish_reason, generated_tokens and seed, without braces.
func (g *generation) appendOutcome(b []byte, tokens int) []byte {
	b = append(b, `"finish_reason":"`...)
	b = append(b, g.finish...)
	b = append(b, `","generated_tokens":`...)
	b = strconv.AppendInt(b, int64(tokens), 10)
	return g.appendSeed(b)
}

// appendLists appends the lists prefill and tokens.
func (g *generation) appendLists(b []byte) []byte {
	b = append(b, `,"prefill":[`...)
	for i := range g.prompt {
		t := &g.prompt[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":`...)
		b = strconv.AppendInt(b, int64(t.id), 10)
		b = append(b, `,"text":`...)
		b = appendExactText(b, t.text)
		b = append(b, `,"logprob":`...)
		if i == 0 {
			b = append(b, "null"...)
		} else {
			b = appendFloat(b, t.logprob)
		}
		b = append(b, '}')
	}
	b = append(b, `],"tokens":[`...)
	for i := range g.tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendToken(b, &g.tokens[i])
	}
	return append(b, ']')
}

// appendTop appends the list top_tokens with the alternatives of every token, if they were asked for.
func (g *generation) appendTop(b []byte) []byte {
	if len(g.tokens) == 0 || len(g.tokens[0].top) == 0 {
		return b
	}
	b = append(b, `,"top_tokens":[`...)
	for i := range g.tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendAlternatives(b, g.tokens[i].top)
	}
	return append(b, ']')
}

func appendAlternatives(b []byte, top []token) []byte {
	b = append(b, '[')
	for i := range top {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendToken(b, &top[i])
	}
	return append(b, ']')
}

// appendGeneration appends a whole answer; others are the copies of best_of that lost.
func appendGeneration(b []byte, g *generation, others []*generation, details bool) []byte {
	b = append(b, `{"generated_text":`...)
	b = appendExactText(b, g.text)
	if !details {
		return append(b, '}')
	}
	b = append(b, `,"details":{`...)
	b = g.appendOutcome(b, len(g.tokens))
	b = g.appendLists(b)
	if len(others) > 0 {
		b = append(b, `,"best_of_sequences":[`...)
		for i, other := range others {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"generated_text":`...)
			b = appendExactText(b, other.text)
			b = append(b, ',')
			b = other.appendOutcome(b, len(other.tokens))
			b = append(other.appendTop(other.appendLists(b)), '}')
		}
		b = append(b, ']')
	}
	b = g.appendTop(b)
	return append(b, `}}`...)
}

// appendEvent appends the event of a stream's token number index, from 1 on; last is nil but for the last token.
func appendEvent(b []byte, t *token, last *generation, index int, f form, details bool) []byte {
	b = append(append(b, f.eventPrefix()...), '{')
	if f.three {
		b = append(b, `"index":`...)
		b = append(strconv.AppendInt(b, int64(index), 10), ',')
	}
	b = append(b, `"token":`...)
	b = appendToken(b, t)
	if len(t.top) > 0 {
		b = append(b, `,"top_tokens":`...)
		b = appendAlternatives(b, t.top)
	}
	if last == nil {
		return append(b, `,"generated_text":null,"details":null}`+"\n\n"...)
	}
	b = append(b, `,"generated_text":`...)
	b = appendExactText(b, last.text)
	if !details {
		return append(b, `,"details":null}`+"\n\n"...)
	}
	b = append(b, `,"details":{`...)
	b = last.appendOutcome(b, index)
	if f.three {
		b = append(b, `,"input_length":`...)
		b = strconv.AppendInt(b, int64(last.length), 10)
	}
	return append(b, "}}\n\n"...)
}

// appendError appends TGI's error object.
func appendError(b []byte, message, kind string) []byte {
	b = append(b, `{"error":`...)
	b = appendExactText(b, message)
	b = append(b, `,"error_type":"`...)
	b = append(b, kind...)
	return append(b, `"}`...)
}

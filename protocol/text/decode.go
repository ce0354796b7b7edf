package text

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxStrips bounds how many leading characters a decoder may drop; known ones drop a single space.
const maxStrips = 16

// decoderSettings is what a source says of decoding. The zero value joins tokens with spaces.
type decoderSettings struct {
	given        bool        // there is a decoder, so tokens are joined without spaces
	codesBytes   bool        // tokens stand for the bytes that they code, see bytes.go
	replacements [][2]string // made in each token, in order
	fallsBack    bool        // tokens like <0xE4> stand for a byte
	fuses        bool
	strips       int // how many of stripped are dropped at the very beginning
	stripped     rune
	space        string // what stands for a space, and for nothing in the first token if dropsFirst is set
	dropsFirst   bool
}

// decoder turns the tokens of a tokenizer into text.
type decoder struct {
	raw            []string // the bytes that each token adds to a text
	first          []string // what it adds as the first token; nil where that is the same
	bytes          []int16  // the byte that a token stands for under byte fallback, or -1; nil without byte fallback
	joinsWithSpace bool
	strips         int
	stripped       rune
}

// build makes the decoder of tokens.
func (s *decoderSettings) build(contents []string) decoder {
	d := decoder{joinsWithSpace: !s.given, strips: s.strips, stripped: s.stripped}
	switch {
	case s.codesBytes:
		d.raw = codedBytes(contents)
		return d
	case s.space != "":
		d.raw = replaceIn(contents, s.space, " ")
		if s.dropsFirst {
			d.first = replaceIn(contents, s.space, "")
		}
		return d
	}
	d.raw = contents
	for _, replacement := range s.replacements {
		d.raw = replaceIn(d.raw, replacement[0], replacement[1])
	}
	if s.fallsBack {
		d.bytes = make([]int16, len(d.raw))
		for id, token := range d.raw {
			d.bytes[id] = byteOfToken(token)
		}
	}
	return d
}

func replaceIn(tokens []string, pattern, content string) []string {
	out := make([]string, len(tokens))
	for id, token := range tokens {
		out[id] = strings.ReplaceAll(token, pattern, content)
	}
	return out
}

// codedBytes returns the bytes that byte-level tokens stand for. All of them share one allocation.
func codedBytes(tokens []string) []string {
	raw, ends := make([]string, len(tokens)), make([]int, len(tokens))
	var all []byte
	for id, token := range tokens {
		all, _ = appendTokenBytes(all, token)
		ends[id] = len(all)
	}
	joined, start := string(all), 0
	for id, end := range ends {
		raw[id] = joined[start:end]
		start = end
	}
	return raw
}

// byteToken returns the token that stands for b under byte fallback.
func byteToken(b byte) string { return fmt.Sprintf("<0x%02X>", b) }

// byteOfToken returns the byte that token stands for, or -1. It reads what the reference reads: digits of either case,
// and a plus sign in place of the first.
func byteOfToken(token string) int16 {
	if len(token) != len("<0x00>") || !strings.HasPrefix(token, "<0x") || token[5] != '>' {
		return -1
	}
	high, low := hexDigit(token[3]), hexDigit(token[4])
	if token[3] == '+' {
		high = 0
	}
	if high < 0 || low < 0 {
		return -1
	}
	return high<<4 | low
}

func hexDigit(c byte) int16 {
	switch {
	case c >= '0' && c <= '9':
		return int16(c - '0')
	case c >= 'A' && c <= 'F':
		return int16(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int16(c-'a') + 10
	}
	return -1
}

// byteAt returns the byte that id stands for under byte fallback, or -1.
func (d *decoder) byteAt(id int32) int16 {
	if d.bytes == nil {
		return -1
	}
	return d.bytes[id]
}

// token returns what id adds to a text, as its first token or a later one.
func (d *decoder) token(id int32, first bool) string {
	if first && d.first != nil {
		return d.first[id]
	}
	return d.raw[id]
}

// decode returns the text of ids, all of which exist.
func (d *decoder) decode(ids []int32) string {
	var joined strings.Builder
	var run []byte
	closeRun := func() {
		if utf8.Valid(run) {
			joined.Write(run)
		} else {
			joined.WriteString(strings.Repeat("\ufffd", len(run)))
		}
		run = run[:0]
	}
	for i, id := range ids {
		if b := d.byteAt(id); b >= 0 {
			run = append(run, byte(b))
			continue
		}
		closeRun()
		if d.joinsWithSpace && i > 0 {
			joined.WriteByte(' ')
		}
		joined.WriteString(d.token(id, i == 0))
	}
	closeRun()
	text := validUTF8(joined.String())
	for range d.strips {
		r, size := utf8.DecodeRuneInString(text)
		if r != d.stripped || size == 0 {
			break
		}
		text = text[size:]
	}
	return text
}

package calls

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxPythonDepth is how deep lists and dictionaries may nest.
	maxPythonDepth = 64
	// maxPythonTokenBytes is how long a number may be.
	maxPythonTokenBytes = 1 << 10
)

// python translates one of Python's literals to JSON, as json.dumps would write it: texts, numbers, True, False, None, lists,
// tuples and dictionaries. What it has translated lies in written, which the caller may empty at any time.
type python struct {
	written []byte
	place   pythonPlace
	nests   []nest
	token   []byte // a number or word, or an escape's digits
	mark    byte   // the text's quotation mark
	long    bool   // the text has three marks
	marks   int    // how many marks stand in a row at a long text's end
	digits  int    // how many an escape needs
}

type pythonPlace int

const (
	pythonValue  pythonPlace = iota // a value may begin
	pythonOpened                    // behind a text's first mark
	pythonEmpty                     // behind two marks: an empty text, or the start of a long one
	pythonText
	pythonEscape
	pythonDigits
	pythonToken
	pythonAfter // behind a value in a nest
)

// nest is a list, tuple or dictionary that is open.
type nest struct {
	shut  byte
	count int  // of values and keys
	keyed bool // a dictionary's key stands before the present value
}

// read returns done with a value's last byte, and past behind a value whose last byte only the next one shows.
func (y *python) read(c byte) result {
	switch y.place {
	case pythonOpened:
		if y.place = pythonText; c == y.mark {
			y.place = pythonEmpty
			return more
		}
	case pythonEmpty:
		if c == y.mark {
			y.long, y.marks, y.place = true, 0, pythonText
			return more
		}
		return y.behind(c)
	case pythonEscape:
		return y.readEscape(c)
	case pythonDigits:
		return y.readDigits(c)
	case pythonToken:
		return y.readToken(c)
	case pythonAfter:
		return y.readAfter(c)
	}
	if y.place == pythonText {
		return y.readText(c)
	}
	return y.readValue(c)
}

// behind ends a value with the byte before c.
func (y *python) behind(c byte) result {
	if y.mark != 0 {
		y.written = append(y.written, '"')
		y.mark = 0
	}
	if len(y.nests) == 0 {
		return past
	}
	y.place = pythonAfter
	return y.readAfter(c)
}

// ended ends a value with the present byte.
func (y *python) ended() result {
	y.place = pythonAfter
	if len(y.nests) == 0 {
		return done
	}
	return more
}

func (y *python) readValue(c byte) result {
	if isSpace(c) {
		return more
	}
	var inner *nest
	if n := len(y.nests); n > 0 {
		inner = &y.nests[n-1]
	}
	if inner != nil && c == inner.shut && !inner.keyed {
		return y.shut()
	}
	key := inner != nil && inner.shut == '}' && !inner.keyed
	shut, opens := map[byte]byte{'[': ']', '(': ')', '{': '}'}[c]
	if opens && (key || len(y.nests) == maxPythonDepth) {
		return wrong
	}
	if inner != nil && !inner.keyed && inner.count > 0 {
		y.written = append(y.written, ", "...)
	}
	if inner != nil {
		inner.count++
	}
	switch {
	case opens && shut == '}':
		y.written = append(y.written, '{')
	case opens:
		y.written = append(y.written, '[')
	case c == '"', c == '\'':
		y.written = append(y.written, '"')
		y.mark, y.long, y.place = c, false, pythonOpened
		return more
	default:
		y.token, y.place = y.token[:0], pythonToken
		if !tokenByte(c) {
			return wrong
		}
		return y.readToken(c)
	}
	y.nests = append(y.nests, nest{shut: shut})
	return more
}

func (y *python) shut() result {
	last := y.nests[len(y.nests)-1]
	y.nests = y.nests[:len(y.nests)-1]
	if last.shut == ')' {
		last.shut = ']'
	}
	y.written = append(y.written, last.shut)
	return y.ended()
}

func (y *python) readAfter(c byte) result {
	inner := &y.nests[len(y.nests)-1]
	key := inner.shut == '}' && !inner.keyed
	switch {
	case isSpace(c):
	case key && c == ':':
		inner.keyed = true
		y.written = append(y.written, ": "...)
		y.place = pythonValue
	case key:
		return wrong
	case c == ',':
		inner.keyed = false
		y.place = pythonValue
	case c == inner.shut:
		return y.shut()
	default:
		return wrong
	}
	return more
}

func (y *python) readText(c byte) result {
	switch {
	case c == '\\':
		y.writeMarks()
		y.place = pythonEscape
	case c != y.mark:
		y.writeMarks()
		y.written = append(y.written, escape(c)...)
	case y.long && y.marks < 2:
		y.marks++
	default:
		y.written = append(y.written, '"')
		y.mark, y.marks = 0, 0
		return y.ended()
	}
	return more
}

// writeMarks writes marks that turned out to stand within a long text.
func (y *python) writeMarks() {
	for range y.marks {
		y.written = append(y.written, escape(y.mark)...)
	}
	y.marks = 0
}

func (y *python) readEscape(c byte) result {
	y.place = pythonText
	switch i := strings.IndexByte(`\'"abfnrtv0`, c); {
	case c == '\n':
	case i >= 0:
		y.written = append(y.written, escape("\\'\"\a\b\f\n\r\t\v\x00"[i])...)
	case c == 'x', c == 'u', c == 'U':
		y.digits = map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		y.token, y.place = y.token[:0], pythonDigits
	default:
		y.written = append(y.written, '\\', '\\')
		y.written = append(y.written, escape(c)...)
	}
	return more
}

func (y *python) readDigits(c byte) result {
	y.token = append(y.token, c)
	if len(y.token) < y.digits {
		return more
	}
	value, err := strconv.ParseUint(string(y.token), 16, 32)
	switch {
	case err != nil || value > utf8.MaxRune:
		return wrong
	case value <= math.MaxUint16:
		y.written = fmt.Appendf(y.written, `\u%04x`, value)
	default:
		y.written = utf8.AppendRune(y.written, rune(value))
	}
	y.place = pythonText
	return more
}

func tokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("+-._", c) >= 0
}

func (y *python) readToken(c byte) result {
	if tokenByte(c) {
		if len(y.token) == maxPythonTokenBytes {
			return wrong
		}
		y.token = append(y.token, c)
		return more
	}
	written, ok := translateToken(string(y.token))
	if !ok {
		return wrong
	}
	if n := len(y.nests); n > 0 && y.nests[n-1].shut == '}' && !y.nests[n-1].keyed {
		written = `"` + written + `"`
	}
	y.written = append(y.written, written...)
	return y.behind(c)
}

func translateToken(token string) (string, bool) {
	switch token {
	case "True", "true":
		return "true", true
	case "False", "false":
		return "false", true
	case "None", "null":
		return "null", true
	}
	if json.Valid([]byte(token)) {
		return token, true
	}
	if whole, err := strconv.ParseInt(token, 0, 64); err == nil {
		return strconv.FormatInt(whole, 10), true
	}
	number, err := strconv.ParseFloat(strings.ReplaceAll(token, "_", ""), 64)
	if err != nil || math.IsInf(number, 0) || math.IsNaN(number) {
		return "", false
	}
	written, err := json.Marshal(number)
	return string(written), err == nil
}

// translate translates a whole literal.
func translate(source string) ([]byte, bool) {
	var y python
	for i := range len(source) {
		switch y.read(source[i]) {
		case done:
			return y.written, i == len(source)-1
		case past, wrong:
			return nil, false
		}
	}
	return nil, false
}

// Package ordered reads JSON (RFC 8259) in the order in which it stands, without building values that nobody asked for.
//
// The reader goes forward through data that the caller holds and has bounded: it takes memory only for texts with escapes, and
// raw values and other texts share the data's. Arrays and objects nest as deep as the caller allows. Everything that is passed
// over is checked. Of members with one name a Reader gives each; Members keeps the last at the place of the first, as Python and
// JavaScript do. Texts are those of encoding/json: what is not UTF-8, and halves of surrogate pairs, become U+FFFD.
//
// Errors name the byte of the data, from 0.
package ordered

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrDepth is wrapped by errors for arrays and objects that nest deeper than the caller allows.
var ErrDepth = errors.New("it nests too deep")

// Reader reads one value. After an error it must not be used.
type Reader struct {
	data     string
	at       int
	depth    int
	maxDepth int
}

// NewReader begins at the start of data. maxDepth is how many arrays and objects may stand within one another.
func NewReader(data string, maxDepth int) *Reader { return &Reader{data: data, maxDepth: maxDepth} }

// Next returns the first byte of the value that follows, which tells its kind; 0 at the end. It does not pass over it.
func (r *Reader) Next() byte {
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// End fails if anything follows.
func (r *Reader) End() error {
	if r.Next(); r.at < len(r.data) {
		return r.due("the end")
	}
	return nil
}

// Object calls each with the name of every member of the object that follows; each must read the member's value.
func (r *Reader) Object(each func(name string) error) error {
	return r.elements('{', '}', "an object", func() error {
		name, err := r.text("a name")
		if err != nil {
			return err
		}
		if r.Next() != ':' {
			return r.due("a colon")
		}
		r.at++
		return each(name)
	})
}

// Array calls each for every element of the array that follows; each must read the element.
func (r *Reader) Array(each func() error) error {
	return r.elements('[', ']', "an array", each)
}

func (r *Reader) elements(open, shut byte, kind string, each func() error) error {
	if r.Next() != open {
		return r.due(kind)
	}
	if r.depth++; r.depth > r.maxDepth {
		return fmt.Errorf("JSON at byte %d: %w", r.at, ErrDepth)
	}
	r.at++
	if r.Next() != shut {
		for {
			if err := each(); err != nil {
				return err
			}
			if r.Next() != ',' {
				break
			}
			r.at++
		}
		if r.Next() != shut {
			return r.due("a comma")
		}
	}
	r.at++
	r.depth--
	return nil
}

// Text returns the text that follows.
func (r *Reader) Text() (string, error) { return r.text("a text") }

func (r *Reader) text(kind string) (string, error) {
	if r.Next() != '"' {
		return "", r.due(kind)
	}
	start := r.at
	plain, err := r.skipText()
	if err != nil {
		return "", err
	}
	if s := r.data[start+1 : r.at-1]; plain || utf8.ValidString(s) && strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var s string
	err = json.Unmarshal([]byte(r.data[start:r.at]), &s)
	return s, err
}

// Raw passes over the value that follows and returns it as it stands.
func (r *Reader) Raw() (string, error) {
	first := r.Next()
	start := r.at
	err := r.skip(first)
	return r.data[start:r.at], err
}

func (r *Reader) skip(first byte) (err error) {
	switch first {
	case '"':
		_, err = r.skipText()
	case '{':
		return r.elements('{', '}', "", r.skipMember)
	case '[':
		return r.elements('[', ']', "", func() error { return r.skip(r.Next()) })
	case 't':
		return r.skipWord("true")
	case 'f':
		return r.skipWord("false")
	case 'n':
		return r.skipWord("null")
	default:
		return r.skipNumber()
	}
	return err
}

func (r *Reader) skipMember() error {
	if r.Next() != '"' {
		return r.due("a name")
	}
	if _, err := r.skipText(); err != nil {
		return err
	}
	if r.Next() != ':' {
		return r.due("a colon")
	}
	r.at++
	return r.skip(r.Next())
}

// skipText passes over a text, whose quotation mark is next. It is plain when it has neither escapes nor bytes above ASCII.
func (r *Reader) skipText() (plain bool, err error) {
	data, at := r.data, r.at+1
	plain = true
	for at < len(data) {
		c := data[at]
		if c >= ' ' && c != '"' && c != '\\' {
			at++
			plain = plain && c < utf8.RuneSelf
			continue
		}
		r.at = at
		switch {
		case c == '"':
			r.at++
			return plain, nil
		case c < ' ':
			return false, fmt.Errorf("JSON at byte %d: a control character within a text", at)
		}
		if err := r.skipEscape(); err != nil {
			return false, err
		}
		at, plain = r.at+1, false
	}
	r.at = at
	return false, r.due("a quotation mark")
}

// skipEscape stops at the last byte of an escape, whose backslash is next.
func (r *Reader) skipEscape() error {
	r.at++
	switch {
	case r.at >= len(r.data):
		return r.due("an escape")
	case r.data[r.at] != 'u':
		if strings.IndexByte(`"\/bfnrt`, r.data[r.at]) < 0 {
			return r.due("an escape")
		}
		return nil
	}
	for range 4 {
		r.at++
		if r.at >= len(r.data) || strings.IndexByte("0123456789abcdefABCDEF", r.data[r.at]) < 0 {
			return r.due("a hexadecimal digit")
		}
	}
	return nil
}

func (r *Reader) skipWord(word string) error {
	if !strings.HasPrefix(r.data[r.at:], word) {
		return r.due("a value")
	}
	r.at += len(word)
	return nil
}

func (r *Reader) skipNumber() error {
	start := r.at
	r.skipByte("-")
	switch leading := r.at; {
	case !r.skipDigits() && r.at == start:
		return r.due("a value")
	case r.at == leading, r.at > leading+1 && r.data[leading] == '0':
		return r.due("a number")
	}
	if r.skipByte(".") && !r.skipDigits() {
		return r.due("a digit")
	}
	if r.skipByte("eE") {
		r.skipByte("+-")
		if !r.skipDigits() {
			return r.due("a digit")
		}
	}
	return nil
}

func (r *Reader) skipByte(set string) bool {
	if r.at >= len(r.data) || strings.IndexByte(set, r.data[r.at]) < 0 {
		return false
	}
	r.at++
	return true
}

func (r *Reader) skipDigits() bool {
	start := r.at
	for r.at < len(r.data) && r.data[r.at] >= '0' && r.data[r.at] <= '9' {
		r.at++
	}
	return r.at > start
}

func (r *Reader) due(what string) error { return fmt.Errorf("JSON at byte %d: %s is due", r.at, what) }

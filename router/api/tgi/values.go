package tgi

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"lockstep/router/api/wire"
)

// field is one field of a structure in a body: its name and how its value is read.
type field struct {
	name string
	// read takes the value; d stands in front of it.
	read func(d *bodyDecoder) error
}

// structure describes a structure in a body, in the words of the original's refusals.
type structure struct {
	name     string
	fields   []field
	required int // this many of the first fields must be there
	// extensions are fields that the original does not have: an array cannot hold them.
	extensions []field
}

// structure reads an object, or an array that holds the fields by position.
func (d *bodyDecoder) structure(s structure) error {
	c, ok := d.space()
	switch {
	case !ok:
		return d.ahead(eofValue)
	case c == '{':
		d.index++
		err := d.object(s)
		if endErr := d.end('}', eofObject); err == nil {
			err = endErr
		}
		return settle(d, err)
	case c == '[':
		d.index++
		err := d.positional(s)
		if endErr := d.end(']', eofList); err == nil {
			err = endErr
		}
		return settle(d, err)
	}
	return d.unexpected("struct " + s.name)
}

// unsettled is a refusal whose place is where the decoder stands once the structure has been left.
type unsettled string

func (u unsettled) Error() string { return string(u) }

func settle(d *bodyDecoder, err error) error {
	if reason := unsettled(""); errors.As(err, &reason) {
		return d.misfit(string(reason))
	}
	return err
}

// end reads the bracket that closes a structure or sequence.
func (d *bodyDecoder) end(bracket byte, eof string) error {
	c, ok := d.space()
	switch {
	case !ok:
		return d.ahead(eof)
	case c == bracket:
		d.index++
		return nil
	case c == ',' && bracket == '}':
		return d.ahead("trailing comma")
	case c == ',':
		d.index++
		if c, _ := d.space(); c == bracket {
			return d.ahead("trailing comma")
		}
	}
	return d.ahead("trailing characters")
}

func (d *bodyDecoder) object(s structure) error {
	fields := slices.Concat(s.fields, s.extensions)
	seen := make([]bool, len(fields))
	for first := true; ; first = false {
		more, err := d.separator(first, '}', eofObject, "expected `,` or `}`")
		if err != nil {
			return err
		}
		if !more {
			break
		}
		key, err := d.key()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i >= 0 && seen[i] {
			return unsettled(fmt.Sprintf("duplicate field `%s`", key))
		}
		d.push("." + wire.Quoted(key))
		if err := d.colon(); err != nil {
			return err
		}
		if i >= 0 {
			seen[i] = true
			err = fields[i].read(d)
		} else {
			err = d.ignore()
		}
		if err != nil {
			return err
		}
		d.pop()
	}
	for i := range s.required {
		if !seen[i] {
			return unsettled(fmt.Sprintf("missing field `%s`", s.fields[i].name))
		}
	}
	return nil
}

// key reads the key of a member.
func (d *bodyDecoder) key() (string, error) {
	if d.peek() != '"' {
		return "", d.ahead("key must be a string")
	}
	return d.text()
}

// colon reads what stands between key and value.
func (d *bodyDecoder) colon() error {
	if c, ok := d.space(); !ok {
		return d.ahead(eofObject)
	} else if c != ':' {
		return d.ahead("expected `:`")
	}
	d.index++
	return nil
}

func (d *bodyDecoder) positional(s structure) error {
	for i, f := range s.fields {
		d.push(fmt.Sprintf("[%d]", i))
		more, err := d.separator(i == 0, ']', eofList, "expected `,` or `]`")
		if err != nil {
			return err
		}
		if !more {
			d.pop()
			if i < s.required {
				return unsettled(fmt.Sprintf("invalid length %d, expected struct %s with %d elements", i, s.name, len(s.fields)))
			}
			return nil
		}
		if err := f.read(d); err != nil {
			return err
		}
		d.pop()
	}
	return nil
}

// separator stands before the next member or element: it passes over the comma and tells whether there is one more.
func (d *bodyDecoder) separator(first bool, bracket byte, eof, expected string) (more bool, err error) {
	c, ok := d.space()
	switch {
	case !ok:
		return false, d.ahead(eof)
	case c == bracket:
		return false, nil
	case first:
		return true, nil
	case c != ',':
		return false, d.ahead(expected)
	}
	d.index++
	c, ok = d.space()
	switch {
	case !ok:
		return false, d.ahead(eofValue)
	case c == bracket:
		return false, d.ahead("trailing comma")
	}
	return true, nil
}

// ignore passes over any value, however deep, without recursion.
func (d *bodyDecoder) ignore() error {
	d.ignoring = true
	defer func() { d.ignoring = false }()
	var open []byte // the brackets to come
	first := false
	for {
		if err := d.ignoreScalar(&open, &first); err != nil {
			return err
		}
		for {
			if len(open) == 0 {
				return nil
			}
			more, err := d.nextIgnored(open[len(open)-1], first)
			if err != nil {
				return err
			}
			first = false
			if more {
				break
			}
			open = open[:len(open)-1]
		}
	}
}

// ignoreScalar passes over one value, or only the bracket that opens it.
func (d *bodyDecoder) ignoreScalar(open *[]byte, first *bool) (err error) {
	c, ok := d.space()
	switch {
	case !ok:
		return d.ahead(eofValue)
	case c == '{' || c == '[':
		d.index++
		*open = append(*open, c+2) // the closing bracket
		*first = true
	case c == '"':
		_, err = d.text()
	case c == 'n':
		err = d.word("null")
	case c == 't':
		err = d.word("true")
	case c == 'f':
		err = d.word("false")
	case c == '-' || isDigit(c):
		_, err = d.number()
	default:
		err = d.ahead("expected value")
	}
	return err
}

// nextIgnored goes to the next value in an ignored bracket; more is false when the bracket has been closed.
func (d *bodyDecoder) nextIgnored(bracket byte, first bool) (more bool, err error) {
	eof, expected := eofList, "expected `,` or `]`"
	if bracket == '}' {
		eof, expected = eofObject, "expected `,` or `}`"
	}
	more, err = d.separator(first, bracket, eof, expected)
	if err != nil {
		return false, err
	}
	if !more {
		d.index++
		return false, nil
	}
	if bracket == ']' {
		return true, nil
	}
	if _, err := d.key(); err != nil {
		return false, err
	}
	return true, d.colon()
}

// intoText reads a string.
func intoText(target *string) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		c, ok := d.space()
		if !ok {
			return d.ahead(eofValue)
		}
		if c != '"' {
			return d.unexpected("a string")
		}
		value, err := d.text()
		*target = value
		return err
	}
}

// intoBool reads true or false.
func intoBool(target *bool) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		c, ok := d.space()
		switch {
		case !ok:
			return d.ahead(eofValue)
		case c == 't':
			*target = true
			return d.word("true")
		case c == 'f':
			*target = false
			return d.word("false")
		}
		return d.unexpected("a boolean")
	}
}

// intoList reads an array of what into reads.
func intoList[T any](target *[]T, into func(*T) func(*bodyDecoder) error) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		c, ok := d.space()
		if !ok {
			return d.ahead(eofValue)
		}
		if c != '[' {
			return d.unexpected("a sequence")
		}
		d.index++
		values := []T{}
		for i := 0; ; i++ {
			d.push(fmt.Sprintf("[%d]", i))
			more, err := d.separator(i == 0, ']', eofList, "expected `,` or `]`")
			if err != nil {
				return err
			}
			if !more {
				d.pop()
				break
			}
			var value T
			if err := into(&value)(d); err != nil {
				return err
			}
			values = append(values, value)
			d.pop()
		}
		*target = values
		return d.end(']', eofList)
	}
}

// intoInteger reads an integer between low and high, whose type the original calls name.
func intoInteger(set func(number), name string, low int64, high uint64) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		c, ok := d.space()
		if !ok {
			return d.ahead(eofValue)
		}
		if c != '-' && !isDigit(c) {
			return d.unexpected(name)
		}
		n, err := d.number()
		switch {
		case err != nil:
			return err
		case n.kind == 'f':
			return d.misfit("invalid type: " + n.unexpected() + ", expected " + name)
		case n.kind == 'u' && n.unsigned > high, n.kind == 'i' && n.negative < low:
			return d.misfit("invalid value: " + n.unexpected() + ", expected " + name)
		}
		set(n)
		return nil
	}
}

// intoUnsigned reads an unsigned integer up to high.
func intoUnsigned(target *uint64, name string, high uint64) func(*bodyDecoder) error {
	return intoInteger(func(n number) { *target = n.unsigned }, name, 0, high)
}

// intoSigned reads a 32-bit integer.
func intoSigned(target *int32) func(*bodyDecoder) error {
	return intoInteger(func(n number) { *target = int32(n.unsigned) + int32(n.negative) }, "i32", math.MinInt32, math.MaxInt32)
}

// intoFloat reads any number as single precision.
func intoFloat(target *float32) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		c, ok := d.space()
		if !ok {
			return d.ahead(eofValue)
		}
		if c != '-' && !isDigit(c) {
			return d.unexpected("f32")
		}
		n, err := d.number()
		*target = float32(n.float) + float32(n.unsigned) + float32(n.negative)
		return err
	}
}

// nullable reads null as nil and anything else with into.
func nullable[T any](target **T, into func(*T) func(*bodyDecoder) error) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		if c, ok := d.space(); ok && c == 'n' {
			*target = nil
			return d.word("null")
		}
		value := new(T)
		*target = value
		return into(value)(d)
	}
}

// eachMember goes through an object; member must pass over the value, whose first byte it is told.
func (d *bodyDecoder) eachMember(member func(key string, first byte) error) error {
	if c, ok := d.space(); !ok || c != '{' {
		return d.ahead("expected an object")
	}
	d.index++
	for first := true; ; first = false {
		more, err := d.separator(first, '}', eofObject, "expected `,` or `}`")
		if err != nil {
			return err
		}
		if !more {
			return d.end('}', eofObject)
		}
		key, err := d.key()
		if err != nil {
			return err
		}
		d.push("." + wire.Quoted(key))
		if err := d.colon(); err != nil {
			return err
		}
		c, ok := d.space()
		if !ok {
			return d.ahead(eofValue)
		}
		if err := member(key, c); err != nil {
			return err
		}
		d.pop()
	}
}

package guide

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"lockstep/protocol/ordered"
)

const (
	// maxNesting bounds the arrays and objects of a schema within one another.
	maxNesting = 512
	// maxValues bounds the values of a schema.
	maxValues = 100000
	// maxExponent bounds that of a number in a schema.
	maxExponent = 100
)

// value is a JSON value, in the order in which it stands.
type value struct {
	kind    byte   // '{', '[', '"', '0' for numbers, 't' for true, 'f' for false, 'n' for null
	text    string // of a text; a number's spelling
	number  *big.Rat
	members []member
	items   []*value
	above   *value
	name    string // within above
	id      int32  // counts the values of a document
}

type member struct {
	name  string
	value *value
}

// get is a member's value; nil: there is none.
func (v *value) get(name string) *value {
	for i := range v.members {
		if v.members[i].name == name {
			return v.members[i].value
		}
	}
	return nil
}

// pointer is the JSON pointer of a value (RFC 6901).
func (v *value) pointer() string {
	var names []string
	for ; v != nil && v.above != nil; v = v.above {
		names = append(names, strings.NewReplacer("~", "~0", "/", "~1").Replace(v.name))
	}
	slices.Reverse(names)
	pointer := "#"
	for _, name := range names {
		pointer += "/" + name
	}
	return pointer
}

// documents reads a schema's text.
type documents struct {
	reader *ordered.Reader
	count  int32
}

// errTooMany is wrapped by errors for a document that has more of something than one may.
var errTooMany = errors.New("more than a schema may have")

// read reads one value; above and name say where it stands.
func (d *documents) read(above *value, name string) (*value, error) {
	if d.count++; d.count > maxValues {
		return nil, fmt.Errorf("it has over %d values, %w", maxValues, errTooMany)
	}
	v := &value{above: above, name: name, id: d.count, kind: d.reader.Next()}
	var err error
	switch v.kind {
	case '{':
		places := map[string]int{}
		err = d.reader.Object(func(name string) error {
			item, err := d.read(v, name)
			if at, ok := places[name]; ok && err == nil {
				v.members[at].value = item
				return nil
			}
			places[name] = len(v.members)
			v.members = append(v.members, member{name, item})
			return err
		})
	case '[':
		err = d.reader.Array(func() error {
			item, err := d.read(v, strconv.Itoa(len(v.items)))
			v.items = append(v.items, item)
			return err
		})
	case '"':
		v.text, err = d.reader.Text()
	default:
		err = d.readScalar(v)
	}
	return v, err
}

func (d *documents) readScalar(v *value) error {
	raw, err := d.reader.Raw()
	if err != nil {
		return err
	}
	if v.kind == 't' || v.kind == 'f' || v.kind == 'n' {
		return nil
	}
	v.kind, v.text = '0', raw
	if _, exponent, ok := strings.Cut(strings.ToLower(raw), "e"); ok {
		if n, err := strconv.Atoi(exponent); err != nil || n > maxExponent || n < -maxExponent {
			return fmt.Errorf("a number has an exponent over %d, %w", maxExponent, errTooMany)
		}
	}
	if len(raw) > maxDigits {
		return fmt.Errorf("a number has over %d digits, %w", maxDigits, errTooMany)
	}
	number, ok := new(big.Rat).SetString(raw)
	if !ok {
		return errors.New("a number is malformed")
	}
	v.number = number
	return nil
}

// equal reports whether two values are the same to JSON Schema: numbers by value, objects in any order.
func equal(a, b *value) bool {
	if a.kind != b.kind || len(a.items) != len(b.items) || len(a.members) != len(b.members) {
		return false
	}
	switch a.kind {
	case '"':
		return a.text == b.text
	case '0':
		return a.number.Cmp(b.number) == 0
	case '[':
		for i := range a.items {
			if !equal(a.items[i], b.items[i]) {
				return false
			}
		}
	case '{':
		for _, m := range a.members {
			if other := b.get(m.name); other == nil || !equal(m.value, other) {
				return false
			}
		}
	}
	return true
}

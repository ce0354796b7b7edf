package jinja

import (
	"errors"
	"math/big"
	"strconv"
	"strings"

	"lockstep/protocol/ordered"
)

// maxJSONDepth bounds how deep JSON may nest.
const maxJSONDepth = 101 // an object and 100 within it

// FromJSON returns the value that JSON stands for: objects keep the order of their keys, numbers without a fraction and
// an exponent are whole. Of equal keys the last value holds, at the place of the first. It refuses what is no JSON and
// what nests deeper than 100.
func FromJSON(data []byte) (Value, error) {
	r := ordered.NewReader(string(data), maxJSONDepth)
	v, err := readJSON(r)
	if err == nil {
		err = r.End()
	}
	switch {
	case errors.Is(err, ordered.ErrDepth):
		return nil, &LimitError{"depth of JSON"}
	case err != nil:
		return nil, failf("%v", err)
	}
	return v, nil
}

func readJSON(r *ordered.Reader) (Value, error) {
	switch r.Next() {
	case '{':
		d := &Dict{}
		return d, r.Object(func(name string) error {
			v, err := readJSON(r)
			d.Set(name, v)
			return err
		})
	case '[':
		l := &List{}
		return l, r.Array(func() error {
			v, err := readJSON(r)
			l.items = append(l.items, v)
			return err
		})
	case '"':
		s, err := r.Text()
		return String(s), err
	}
	switch raw, err := r.Raw(); {
	case err != nil:
		return nil, err
	case raw == "null":
		return None, nil
	case raw == "true", raw == "false":
		return Bool(raw == "true"), nil
	default:
		return numberOf(raw)
	}
}

func numberOf(spelled string) (Value, error) {
	if strings.ContainsAny(spelled, ".eE") {
		f, _ := strconv.ParseFloat(spelled, 64) // infinite where it is too large, as in Python
		return Float(f), nil
	}
	if n, err := strconv.ParseInt(spelled, 10, 64); err == nil {
		return Int(n), nil
	}
	if len(spelled) > maxIntegerDigits {
		return nil, failf("a number of the JSON has too many digits")
	}
	n, _ := new(big.Int).SetString(spelled, 10)
	return bigInt{n}, nil
}

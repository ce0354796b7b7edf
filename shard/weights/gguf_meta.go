package weights

import (
	"fmt"
	"math"
)

// Metadata are the metadata of one GGUF file. A key that is there with another type than is asked for is not taken as
// absent: Err tells of the first such key, and whoever has asked for what he needs looks at it.
type Metadata struct {
	values map[string]any
	err    error
}

// valueOf returns a key's value; ok is false if there is none, or one of another type.
func valueOf[T any](m *Metadata, key, wanted string) (value T, ok bool) {
	raw, there := m.values[key]
	if value, ok = raw.(T); there && !ok {
		m.refuse(key, raw, wanted)
	}
	return value, ok
}

func (m *Metadata) refuse(key string, value any, wanted string) {
	if m.err != nil {
		return
	}
	kind := fmt.Sprint(value)
	switch value := value.(type) {
	case string:
		kind = "the text " + fmt.Sprintf("%.40q", value)
	case []string:
		kind = "a list of texts"
	case []float64:
		kind = "a list of numbers"
	}
	m.err = fmt.Errorf("its metadata say that %s is %s, and %s is wanted: fetch it anew, or convert the model anew", key, kind, wanted)
}

// Number returns a finite number, missing if there is none of this name.
func (m *Metadata) Number(key string, missing float64) float64 {
	switch v := m.values[key].(type) {
	case int64:
		return float64(v)
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return v
		}
		m.refuse(key, v, "a finite number")
	case nil:
	default:
		m.refuse(key, v, "a number")
	}
	return missing
}

// Count returns a whole number that is not negative, 0 if there is none of this name.
func (m *Metadata) Count(key string) int {
	const wanted = "a whole number from 0 to 2147483647"
	n, ok := valueOf[int64](m, key, wanted)
	if ok && (n < 0 || n > math.MaxInt32) {
		m.refuse(key, n, wanted)
		return 0
	}
	return int(n)
}

// ID returns the id of a token, -1 if there is none of this name or if it can be that of no token.
func (m *Metadata) ID(key string) int32 {
	n, ok := valueOf[int64](m, key, "the id of a token")
	if !ok || n < 0 || n > math.MaxInt32 {
		return -1
	}
	return int32(n)
}

// Text, Flag, Texts and Numbers return a value of their kind, its zero if there is none of this name.
func (m *Metadata) Text(key string) string { s, _ := valueOf[string](m, key, "a text"); return s }
func (m *Metadata) Flag(key string) bool   { b, _ := valueOf[bool](m, key, "true or false"); return b }
func (m *Metadata) Texts(key string) []string {
	s, _ := valueOf[[]string](m, key, "a list of texts")
	return s
}
func (m *Metadata) Numbers(key string) []float64 {
	s, _ := valueOf[[]float64](m, key, "a list of numbers")
	return s
}

// Err returns the error of the first key that was asked for as what it is not.
func (m *Metadata) Err() error { return m.err }

// IsList reports whether there is a list of numbers of this name.
func (m *Metadata) IsList(key string) bool { _, is := m.values[key].([]float64); return is }

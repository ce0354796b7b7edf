package weights

import (
	"fmt"
	"math"
)

// ggufMeta are the metadata of one file. A key that is there with another type than is asked for is not taken as absent:
// err keeps the first such key, and whoever has asked for what he needs looks at it.
type ggufMeta struct {
	values map[string]any
	err    error
}

// valueOf returns a key's value; ok is false if there is none, or one of another type.
func valueOf[T any](m *ggufMeta, key, wanted string) (value T, ok bool) {
	raw, there := m.values[key]
	if value, ok = raw.(T); there && !ok {
		m.refuse(key, raw, wanted)
	}
	return value, ok
}

func (m *ggufMeta) refuse(key string, value any, wanted string) {
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

// number returns a number, missing if there is none of this name.
func (m *ggufMeta) number(key string, missing float64) float64 {
	switch v := m.values[key].(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	case nil:
	default:
		m.refuse(key, v, "a number")
	}
	return missing
}

// count returns a whole number that is not negative, 0 if there is none of this name.
func (m *ggufMeta) count(key string) int {
	const wanted = "a whole number from 0 to 2147483647"
	n, ok := valueOf[int64](m, key, wanted)
	if ok && (n < 0 || n > math.MaxInt32) {
		m.refuse(key, n, wanted)
		return 0
	}
	return int(n)
}

// id returns the id of a token, -1 if there is none of this name or if it can be that of no token.
func (m *ggufMeta) id(key string) int32 {
	n, ok := valueOf[int64](m, key, "the id of a token")
	if !ok || n < 0 || n > math.MaxInt32 {
		return -1
	}
	return int32(n)
}

func (m *ggufMeta) text(key string) string { s, _ := valueOf[string](m, key, "a text"); return s }
func (m *ggufMeta) flag(key string) bool   { b, _ := valueOf[bool](m, key, "true or false"); return b }
func (m *ggufMeta) texts(key string) []string {
	s, _ := valueOf[[]string](m, key, "a list of texts")
	return s
}
func (m *ggufMeta) numbers(key string) []float64 {
	s, _ := valueOf[[]float64](m, key, "a list of numbers")
	return s
}

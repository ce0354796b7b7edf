package text

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// jsonReader walks through JSON that json.Valid has accepted. It exists because vocabularies are megabytes of strings,
// which encoding/json takes several passes and allocations for; everything small goes through encoding/json.
type jsonReader struct {
	data string
	at   int
}

var errJSONType = errors.New("value has the wrong type")

// peek returns the first byte of the next value or delimiter, or 0 at the end.
func (r *jsonReader) peek() byte {
	for r.at < len(r.data) {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			r.at++
		default:
			return c
		}
	}
	return 0
}

// object calls each for every key of the object that follows; each must consume the value.
func (r *jsonReader) object(each func(key string) error) error {
	if r.peek() != '{' {
		return errJSONType
	}
	r.at++
	for r.peek() != '}' {
		key, err := r.text()
		if err != nil {
			return err
		}
		if err := each(key); err != nil {
			return err
		}
	}
	r.at++
	return nil
}

// array calls each for every element of the array that follows; each must consume it.
func (r *jsonReader) array(each func() error) error {
	if r.peek() != '[' {
		return errJSONType
	}
	r.at++
	for r.peek() != ']' {
		if err := each(); err != nil {
			return err
		}
	}
	r.at++
	return nil
}

// text returns the string that follows. It shares memory with the data where nothing is escaped.
func (r *jsonReader) text() (string, error) {
	if r.peek() != '"' {
		return "", errJSONType
	}
	start := r.at + 1
	end, escaped := start, false
	for ; end < len(r.data) && r.data[end] != '"'; end++ {
		if r.data[end] == '\\' {
			escaped = true
			end++
		}
	}
	if end >= len(r.data) {
		return "", errJSONType
	}
	r.at = end + 1
	if escaped {
		var s string
		err := json.Unmarshal([]byte(r.data[start-1:r.at]), &s)
		return s, err
	}
	if s := r.data[start:end]; utf8.ValidString(s) {
		return s, nil
	}
	return "", errors.New("string is not UTF-8")
}

// tokenID returns the token id that follows.
func (r *jsonReader) tokenID() (int32, error) {
	r.peek()
	start, id := r.at, int32(0)
	for ; r.at < len(r.data) && r.data[r.at] >= '0' && r.data[r.at] <= '9'; r.at++ {
		if id = id*10 + int32(r.data[r.at]-'0'); id > maxTokenID {
			return 0, fmt.Errorf("token id is above %d", maxTokenID)
		}
	}
	if r.at == start || r.at < len(r.data) && strings.IndexByte(".eE", r.data[r.at]) >= 0 {
		return 0, errJSONType
	}
	return id, nil
}

// skip passes over the value that follows and returns it.
func (r *jsonReader) skip() (string, error) {
	first := r.peek()
	start := r.at
	switch first {
	case 0, '}', ']':
		return "", errJSONType
	case '"':
		_, err := r.text()
		return r.data[start:r.at], err
	case '{', '[':
		return r.skipNested()
	}
	for r.at < len(r.data) && strings.IndexByte(" \t\r\n,]}", r.data[r.at]) < 0 {
		r.at++
	}
	return r.data[start:r.at], nil
}

func (r *jsonReader) skipNested() (string, error) {
	start, depth := r.at, 0
	for ; r.at < len(r.data); r.at++ {
		switch r.data[r.at] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				r.at++
				return r.data[start:r.at], nil
			}
		case '"':
			for r.at++; r.at < len(r.data) && r.data[r.at] != '"'; r.at++ {
				if r.data[r.at] == '\\' {
					r.at++
				}
			}
		}
	}
	return "", errJSONType
}

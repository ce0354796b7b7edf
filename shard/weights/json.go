package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strings"

	"lockstep/protocol/regular"
)

// maxJSONBytes bounds the configurations and indices of a model directory, which are read whole.
const maxJSONBytes = 16 << 20

// readJSON reads a file of a model directory and reports whether it is there.
func readJSON(dir fs.FS, name string, into any) (found bool, err error) {
	data, err := regular.ReadFS(dir, name, maxJSONBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, parseJSON(name, asGoReadsIt(data), into)
}

// byteOrderMark may begin a file of JSON, and says nothing in UTF-8.
var byteOrderMark = []byte("\ufeff")

// parseJSON unmarshals the content of a file; its errors name file and key, or without a name the key alone.
func parseJSON(name string, data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var mismatch *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &mismatch):
		name = strings.Trim(name+": "+mismatch.Field, ": ")
		return fmt.Errorf("%s is a JSON %s, and %s is wanted: fetch the file anew, or correct it", name, mismatch.Value,
			wanted(mismatch.Type))
	case err != nil && otherEncoding(data):
		return fmt.Errorf("%s is written in UTF-16 or UTF-32, or is no text: write it in UTF-8", name)
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: %w (byte %d): fetch the file anew, or correct it", name, err, syntax.Offset)
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// otherEncoding reports whether JSON begins in UTF-16 or UTF-32: with their byte order mark, or a zero in a character.
func otherEncoding(data []byte) bool {
	start := data[:min(len(data), 4)]
	return bytes.HasPrefix(start, []byte("\xff\xfe")) || bytes.HasPrefix(start, []byte("\xfe\xff")) || bytes.IndexByte(start, 0) >= 0
}

// wanted says in JSON's words what a Go type is read from.
func wanted(kind reflect.Type) string {
	switch kind.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number that is not too large"
}

// pythonNumber finds strings, which stay as they are, and what Python writes for numbers.
var pythonNumber = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b|(-?\d+)\.0+\b`)

// asGoReadsIt takes out what Python's json module writes and reads, and Go's does not: a byte order mark; numbers that are
// none, which become null; and the fraction of whole numbers, as in 512.0.
func asGoReadsIt(data []byte) []byte {
	data = bytes.TrimPrefix(data, byteOrderMark)
	return pythonNumber.ReplaceAllFunc(data, func(part []byte) []byte {
		switch {
		case part[0] == '"':
			return part
		case bytes.ContainsAny(part, "NI"):
			return []byte("null")
		}
		whole, _, _ := bytes.Cut(part, []byte("."))
		return whole
	})
}

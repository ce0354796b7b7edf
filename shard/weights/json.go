package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

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

// parseJSON unmarshals the content of a file; its errors name file and key.
func parseJSON(name string, data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var mismatch *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return fmt.Errorf("%s: %s is a %s, which does not fit %v", name, mismatch.Field, mismatch.Value, mismatch.Type)
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: %w (byte %d): fetch the file anew, or correct it", name, err, syntax.Offset)
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// pythonNumber finds strings, which stay as they are, and what Python writes for numbers.
var pythonNumber = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b|(-?\d+)\.0+\b`)

// asGoReadsIt takes out what Python's json module writes and reads, and Go's does not: a byte order mark; numbers that are
// none, which become null; and the fraction of whole numbers, as in 512.0.
func asGoReadsIt(data []byte) []byte {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
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

package wire

import (
	"bytes"
	"encoding/json"
	"io"
	"unicode/utf8"

	"lockstep/router/request"
)

// Object reads one JSON object and nothing behind it; numbers keep their spelling, as json.Number.
func Object(data []byte) (map[string]any, *request.Refusal) {
	if !utf8.Valid(data) {
		return nil, &request.Refusal{Class: request.Malformed, Message: "The request body is not valid UTF-8."}
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err == nil && object != nil {
		if _, err := decoder.Token(); err == io.EOF {
			return object, nil
		}
	}
	return nil, &request.Refusal{Class: request.Malformed, Message: "Request body is not a valid JSON object."}
}

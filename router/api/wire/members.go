package wire

import (
	"encoding/json"
	"unicode/utf8"

	"lockstep/protocol/ordered"
)

// maxBodyDepth is how many arrays and objects may stand within one another in a body, as for encoding/json.
const maxBodyDepth = 10_000

// Members reads one object in UTF-8 in its order; ok is false for anything else.
func Members(data []byte) (list []ordered.Member, ok bool) {
	list, err := ordered.Members(data, maxBodyDepth)
	return list, err == nil && utf8.Valid(data)
}

// Find finds a member by its name, nil if there is none.
func Find(list []ordered.Member, name string) json.RawMessage {
	for i := range list {
		if list[i].Name == name {
			return list[i].Value
		}
	}
	return nil
}

// AppendMembers appends an object.
func AppendMembers(b []byte, list []ordered.Member) []byte {
	b = append(b, '{')
	for i, m := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(AppendText(b, m.Name), ':'), m.Value...)
	}
	return append(b, '}')
}

package wire

import (
	"unicode/utf8"
)

const (
	// quotedBytes bounds what a message quotes of a request's value, messageBytes a whole message: it may be a template's own,
	// or that of a library.
	quotedBytes  = 100
	messageBytes = 1024
)

// Quoted is a value of a request as far as a message or a log line shows it.
func Quoted[T ~string](value T) string { return shortened(string(value), quotedBytes) }

// Bounded is a message as far as it is told and logged.
func Bounded(message string) string { return shortened(message, messageBytes) }

// shortened cuts between characters, and shows that it did.
func shortened(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}

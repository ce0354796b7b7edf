package jinja

import (
	"cmp"
	"fmt"
	"time"
)

const (
	// MaxSourceBytes bounds a template's source.
	MaxSourceBytes = 1 << 20
	// maxParseDepth bounds how deep a template may nest: its brackets, its blocks, and the operators of a chain.
	maxParseDepth = 500

	// maxTokens bounds the tokens of a source.
	maxTokens = 1 << 18
	// maxArguments bounds the parameters of a macro, and the arguments by name of a call.
	maxArguments = 1000

	// DefaultSteps is about a second of work.
	DefaultSteps = 10_000_000
	// DefaultOutputBytes is longer than any model's context.
	DefaultOutputBytes = 4 << 20
	// DefaultMemoryBytes counts what is freed again as well.
	DefaultMemoryBytes = 64 << 20
	// DefaultDepth is below where the reference gives up.
	DefaultDepth = 200

	// maxRange is how long a range may be; the reference's sandbox has the same bound.
	maxRange = 100_000
	// maxIntegerDigits bounds whole numbers; Python has the same bound.
	maxIntegerDigits = 4300
	// bytesPerStep is how many bytes one step reads or writes.
	bytesPerStep = 32
	// valueBytes is what a value takes beside its text.
	valueBytes = 16
)

// Limits bound one call of Render. Zero stands for the default.
type Limits struct {
	Steps       int // operations, in proportion to the work of each
	OutputBytes int // of the text
	MemoryBytes int // of all values made, whether or not they are freed again
	Depth       int // of calls within calls, and of values within values
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Steps:       cmp.Or(l.Steps, DefaultSteps),
		OutputBytes: cmp.Or(l.OutputBytes, DefaultOutputBytes),
		MemoryBytes: cmp.Or(l.MemoryBytes, DefaultMemoryBytes),
		Depth:       cmp.Or(l.Depth, DefaultDepth),
	}
}

// Options of one call of Render.
type Options struct {
	Limits Limits
	Done   <-chan struct{} // when it is closed, a LimitError ends the rendering; nil: never
	Now    time.Time       // what strftime_now tells, in its own zone; zero stands for time.Now()
}

// Error is a template that does not parse or does not run. Message is worded as the reference words it where that is
// known.
type Error struct {
	Line    int // of the source, from 1; 0 where it is not known
	Message string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return "template: " + e.Message
	}
	return fmt.Sprintf("template: line %d: %s", e.Line, e.Message)
}

// RaisedError is the template's own refusal, by raise_exception.
type RaisedError struct {
	Message string
}

func (e *RaisedError) Error() string { return "template refuses: " + e.Message }

// LimitError tells which bound of Limits, or of the language, a template or its input broke.
type LimitError struct {
	Limit string
}

func (e *LimitError) Error() string { return "template exceeds its limit of " + e.Limit }

func failf(format string, values ...any) error {
	return &Error{Message: fmt.Sprintf(format, values...)}
}

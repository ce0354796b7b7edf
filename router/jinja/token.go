package jinja

import "strings"

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenData
	tokenBlockBegin
	tokenBlockEnd
	tokenVariableBegin
	tokenVariableEnd
	tokenName
	tokenString
	tokenInteger
	tokenFloat
	tokenOperator
)

// kindWords are what messages call the kinds.
var kindWords = [...]string{
	"end of template", "template data / text", "begin of statement block", "end of statement block",
	"begin of print statement", "end of print statement", "name", "string", "integer", "float", "operator",
}

type token struct {
	kind  tokenKind
	line  int
	text  string // of data, a name, a string or an operator
	whole int64  // of an integer
	float float64
}

func (t *token) operator(text string) bool { return t.kind == tokenOperator && t.text == text }

func (t *token) name(text string) bool { return t.kind == tokenName && t.text == text }

// describe is the token's name in messages.
func (t *token) describe() string {
	if t.kind == tokenName || t.kind == tokenOperator {
		return t.text
	}
	return kindWords[t.kind]
}

// operators, the longer before those they begin with.
var operators = strings.Fields("// ** == != >= <= + - / * % ~ [ ] ( ) { } > < = . : | , ;")

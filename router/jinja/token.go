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
	switch t.kind {
	case tokenName, tokenOperator:
		return t.text
	case tokenString:
		return "string"
	case tokenInteger:
		return "integer"
	case tokenFloat:
		return "float"
	}
	return describeKind(t.kind)
}

func describeKind(kind tokenKind) string {
	switch kind {
	case tokenData:
		return "template data / text"
	case tokenBlockBegin:
		return "begin of statement block"
	case tokenBlockEnd:
		return "end of statement block"
	case tokenVariableBegin:
		return "begin of print statement"
	case tokenVariableEnd:
		return "end of print statement"
	case tokenName:
		return "name"
	}
	return "end of template"
}

// operators, the longer before those they begin with.
var operators = strings.Fields("// ** == != >= <= + - / * % ~ [ ] ( ) { } > < = . : | , ;")

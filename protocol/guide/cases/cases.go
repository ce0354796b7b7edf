// Package cases reads the guides of the reference data, golden/guided, for tests and measurements.
package cases

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"

	"lockstep/protocol/guide"
)

// Case is a schema, regular expression or grammar, and texts that it accepts or not.
type Case struct {
	ID         string
	Schema     json.RawMessage
	SchemaText *string `json:"schema_text"` // one that is no JSON value
	Regex      *string
	Grammar    *string
	WhiteSpace guide.WhiteSpace `json:"ws"`
	Additional string           // open: where a schema says nothing of other keys, they are allowed
	Refuse     guide.Reason     // empty: it compiles
	Instances  []Instance
}

// Instance is a text.
type Instance struct {
	Text   string
	Accept bool
	DeadAt *int `json:"dead_at"` // how many of its bytes can be the begin of a text that is accepted
}

// Source is what compiles to the case's guide.
func (c *Case) Source() guide.Source {
	switch {
	case c.Regex != nil:
		return guide.Source{Kind: guide.Regex, Text: *c.Regex}
	case c.Grammar != nil:
		return guide.Source{Kind: guide.Grammar, Text: *c.Grammar}
	}
	source := guide.Source{Kind: guide.Schema, Text: string(c.Schema), WhiteSpace: c.WhiteSpace, Open: c.Additional == "open"}
	if c.SchemaText != nil {
		source.Text = *c.SchemaText
	}
	return source
}

// Read reads a file of cases, one JSON value each.
func Read(path string) (cases []Case, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for decoder := json.NewDecoder(bufio.NewReader(file)); ; {
		var c Case
		switch err := decoder.Decode(&c); {
		case errors.Is(err, io.EOF):
			return cases, nil
		case err != nil:
			return nil, err
		}
		cases = append(cases, c)
	}
}

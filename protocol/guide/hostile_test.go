package guide_test

import (
	"encoding/json"
	"testing"
	"time"

	"lockstep/protocol/guide"
	"lockstep/protocol/outside"
)

// hostileCase is one that must not hurt.
type hostileCase struct {
	ID         string
	Schema     json.RawMessage
	SchemaText *string `json:"schema_text"`
	Regex      *string
	Grammar    *string
}

func (c *hostileCase) source() guide.Source {
	switch {
	case c.Regex != nil:
		return guide.Source{Kind: guide.Regex, Text: *c.Regex}
	case c.Grammar != nil:
		return guide.Source{Kind: guide.Grammar, Text: *c.Grammar}
	case c.SchemaText != nil:
		return guide.Source{Kind: guide.Schema, Text: *c.SchemaText}
	}
	return guide.Source{Kind: guide.Schema, Text: string(c.Schema)}
}

// TestHostile compiles what was made to hurt. What it took is told: run with -v.
func TestHostile(t *testing.T) {
	for _, c := range outside.Lines[hostileCase](t, outside.Shared(t, "golden", "guided", "hostile_cases.jsonl")) {
		start := time.Now()
		program, err := guide.Compile(c.source())
		took := time.Since(start)
		if err != nil {
			t.Logf("%-35s %6.1f ms, refused: %.100v", c.ID, took.Seconds()*1000, err)
			continue
		}
		t.Logf("%-35s %6.1f ms, %d KB", c.ID, took.Seconds()*1000, program.Bytes()>>10)
		if program.Bytes() > 64<<20 {
			t.Errorf("%s: %d bytes", c.ID, program.Bytes())
		}
	}
}

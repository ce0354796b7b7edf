package guide_test

import (
	"testing"
	"time"

	"lockstep/protocol/guide"
	"lockstep/protocol/guide/cases"
	"lockstep/protocol/outside"
)

// TestHostile compiles what was made to hurt. What it took is told: run with -v.
func TestHostile(t *testing.T) {
	for _, c := range outside.Lines[cases.Case](t, outside.Shared(t, "golden", "guided", "hostile_cases.jsonl")) {
		start := time.Now()
		program, err := guide.Compile(c.Source())
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

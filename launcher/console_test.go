package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"lockstep/shard"
)

func TestProgressStaysBelowTheLog(t *testing.T) {
	var out bytes.Buffer
	c := &console{out: &out, terminal: true}
	c.Progress("50%")
	c.Write([]byte("line\n"))
	c.Progress("")
	if got, want := out.String(), "\r\x1b[K50%\r\x1b[Kline\n50%\r\x1b[K"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out.Reset()
	c.terminal = false
	c.Progress("50%")
	if out.Len() > 0 {
		t.Errorf("progress without a terminal: %q", out.String())
	}
}

// A child's entries keep level and fields; what is no entry (a panic) is kept for the error message.
func TestForwardLog(t *testing.T) {
	in := strings.NewReader(`{"level":"warn","time":"x","message":"hot","celsius":90}` + "\n" +
		"panic: oh\n\ngoroutine 1\n" + strings.Repeat("x", 2*maxLogLine) + "\n" + `{"level":"debug","message":"unseen"}` + "\n" + "cut")
	var out bytes.Buffer
	tail := forwardLog(in, zerolog.New(&out).Level(zerolog.InfoLevel).With().Int("rank", 1).Logger())
	var entry map[string]any
	if err := json.Unmarshal(out.Bytes(), &entry); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	want := map[string]any{"level": "warn", "message": "hot", "celsius": 90.0, "rank": 1.0}
	if !reflect.DeepEqual(entry, want) {
		t.Errorf("got %v, want %v", entry, want)
	}
	if len(tail) != 4 || tail[0] != "panic: oh" || len(tail[2]) != maxLogLine || tail[3] != "cut" {
		t.Errorf("got %d lines of tail", len(tail))
	}
}

// The line of a start fits a terminal, and has a bar while weights are packed.
func TestProgressLine(t *testing.T) {
	u := newUnit("shards", 2, 0)
	for _, c := range []struct {
		phases [2]string
		share  float64
		want   string
	}{
		{[2]string{shard.PhaseReading, shard.PhasePacking}, 0.25, "a-model-of-some-kin…: reading the files"},
		{[2]string{shard.PhaseMemory, shard.PhasePacking}, 0.756, "a-model-of-some-kin…: packing the weights [###############-----]  76%"},
		{[2]string{shard.PhasePacking, shard.PhasePacking}, 1, "a-model-of-some-kin…: packing the weights [####################] 100%"},
		{[2]string{shard.PhaseWarmUp, shard.PhaseMemory}, 1, "a-model-of-some-kin…: computing the first steps"},
	} {
		u.phases = c.phases[:]
		got := progressLine("a-model-of-some-kind-Instruct", u.phase(), c.share)
		if got != c.want || utf8.RuneCountInString(got) >= 80 {
			t.Errorf("%v: got %q, want %q", c.phases, got, c.want)
		}
	}
}

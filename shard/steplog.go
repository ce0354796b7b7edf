package shard

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"lockstep/shard/schedule"
)

// StepRecord is what one step computed and how long it took: what a model of step times is fitted to.
type StepRecord struct {
	Step uint64 `json:"step"`
	schedule.Cost
	Yields   int     `json:"yields"`             // tokens chosen
	Drafted  int     `json:"drafted,omitempty"`  // tokens that were guessed
	Accepted int     `json:"accepted,omitempty"` // guesses that were right and wanted: these are of Yields too
	Ahead    bool    `json:"ahead,omitempty"`    // it was planned before the tokens of the step before were known
	Seconds  float64 `json:"seconds"`
	// GapSeconds lie between the end of the step before and the begin of this one: frames are sent and messages handled.
	// 0 behind an idle time, which is no cost of a step.
	GapSeconds float64 `json:"gap_seconds"`
}

// Add counts what a piece of work computes.
func (r *StepRecord) Add(w *schedule.Work) {
	r.Cost.Add(w.Start, w.Count)
	if w.Reaches {
		r.Yields++
	}
}

// stepLog writes records of steps to a file; nil writes none. It only observes: when the file cannot be written it says so
// once and writes no more.
type stepLog struct {
	path   string
	file   *os.File
	buffer *bufio.Writer
	log    zerolog.Logger
}

// stepLogPatience bounds a write to what is no file but has a reader.
const stepLogPatience = time.Second

func openStepLog(path string, log zerolog.Logger) (*stepLog, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NONBLOCK, 0o644) // a pipe must have a reader already
	if err != nil {
		return nil, fmt.Errorf("open the step log: %w", err)
	}
	return &stepLog{path: path, file: file, buffer: bufio.NewWriter(file), log: log}, nil
}

// write adds a record; flush brings what was written to the file.
func (l *stepLog) write(record StepRecord) {
	l.do(func() error { return json.NewEncoder(l.buffer).Encode(record) })
}

func (l *stepLog) flush() {
	l.do(func() error { return l.buffer.Flush() })
}

func (l *stepLog) close() {
	l.flush()
	l.do(func() error { return l.file.Close() })
}

// do writes, unless the log is nil or was given up.
func (l *stepLog) do(write func() error) {
	if l == nil || l.file == nil {
		return
	}
	_ = l.file.SetWriteDeadline(time.Now().Add(stepLogPatience)) // files have none
	if err := write(); err != nil {
		l.log.Warn().Err(err).Str("file", l.path).Msg("the step log cannot be written and ends here; the server goes on")
		l.file.Close()
		l.file = nil
	}
}

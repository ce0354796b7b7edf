package shard

import (
	"bufio"
	"encoding/json"
	"os"

	"lockstep/shard/schedule"
)

// StepRecord is what one step computed and how long it took: what a model of step times is fitted to. A pair is a token
// that is computed and a position that it attends to.
type StepRecord struct {
	Step          uint64  `json:"step"`
	PrefillTokens int     `json:"prefill_tokens"` // of sequences of which the step computes several tokens
	PrefillPairs  int     `json:"prefill_pairs"`
	Decodes       int     `json:"decodes"` // sequences of which it computes one token
	DecodePairs   int     `json:"decode_pairs"`
	Yields        int     `json:"yields"` // tokens chosen
	Seconds       float64 `json:"seconds"`
	// GapSeconds lie between the end of the step before and the begin of this one: frames are sent and messages handled.
	// 0 behind an idle time, which is no cost of a step.
	GapSeconds float64 `json:"gap_seconds"`
}

// Add counts what a piece of work computes.
func (r *StepRecord) Add(w *schedule.Work) {
	pairs := w.Count*w.Start + w.Count*(w.Count+1)/2
	if w.Count == 1 {
		r.Decodes++
		r.DecodePairs += pairs
	} else {
		r.PrefillTokens += w.Count
		r.PrefillPairs += pairs
	}
	if w.Reaches {
		r.Yields++
	}
}

// stepLog writes records of steps to a file; nil writes none.
type stepLog struct {
	file   *os.File
	buffer *bufio.Writer
}

func openStepLog(path string) (*stepLog, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &stepLog{file: file, buffer: bufio.NewWriter(file)}, nil
}

// write adds a record; flush brings what was written to the file.
func (l *stepLog) write(record StepRecord) error {
	if l == nil {
		return nil
	}
	return json.NewEncoder(l.buffer).Encode(record)
}

func (l *stepLog) flush() error {
	if l == nil {
		return nil
	}
	return l.buffer.Flush()
}

func (l *stepLog) close() error {
	if l == nil {
		return nil
	}
	if err := l.flush(); err != nil {
		return err
	}
	return l.file.Close()
}

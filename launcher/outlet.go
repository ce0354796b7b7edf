package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// outletBytes is how much text may wait for a reader; what comes while so much waits is dropped and counted.
	outletBytes = 1 << 20
	// flushTimeout is how long the end of the program waits for what reads its last words.
	flushTimeout = time.Second
)

// outlet passes text on to a file that may block or fail (a pipe that nobody reads, a full disk, a stopped terminal)
// without its writers ever waiting or failing for it. It is safe for concurrent use.
type outlet struct {
	file io.Writer
	// notice writes that so many lines were dropped, in the form of the others; nil: nothing is said. It is set before the
	// first Write.
	notice func(lines int) []byte

	mutex   sync.Mutex
	waiting []byte
	dropped int // lines since the last notice
	closed  bool

	wake chan struct{} // holds one token while there is news for run; closed by Close
	done chan struct{} // closed when run has ended
}

func newOutlet(file io.Writer) *outlet {
	o := &outlet{file: file, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go o.run()
	return o
}

// Write takes text, whole lines at best, or drops and counts it. It never waits and never fails.
func (o *outlet) Write(text []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.closed || len(o.waiting)+len(text) > outletBytes {
		o.dropped += countLines(text)
		return len(text), nil
	}
	o.waiting = append(o.waiting, text...)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return len(text), nil
}

func countLines(text []byte) int { return max(1, bytes.Count(text, []byte("\n"))) }

// Close waits, at most flushTimeout, until what waits is written or lost. Later text is dropped.
func (o *outlet) Close() {
	o.mutex.Lock()
	o.closed = true
	close(o.wake)
	o.mutex.Unlock()
	select {
	case <-o.done:
	case <-time.After(flushTimeout):
	}
}

func (o *outlet) run() {
	defer close(o.done)
	var spare []byte
	torn := false // the last line written lacks its end
	for range o.wake {
		for {
			o.mutex.Lock()
			text, dropped := o.waiting, o.dropped
			o.waiting = spare[:0]
			o.mutex.Unlock()
			if len(text) == 0 && dropped == 0 {
				break
			}
			written := o.pass(text, &torn)
			lost := 0
			if written < len(text) {
				lost = countLines(text[written:])
			} else if dropped > 0 && o.notice != nil {
				note := o.notice(dropped)
				if o.pass(note, &torn) == len(note) {
					lost = -dropped
				}
			}
			o.mutex.Lock()
			o.dropped += lost
			more := len(o.waiting) > 0
			o.mutex.Unlock()
			if spare = text; !more {
				break
			}
		}
	}
}

// pass writes text and returns how much of it went through.
func (o *outlet) pass(text []byte, torn *bool) int {
	if *torn && len(text) > 0 {
		if n, _ := o.file.Write([]byte("\n")); n < 1 {
			return 0
		}
		*torn = false
	}
	written, _ := o.file.Write(text)
	*torn = written > 0 && written < len(text) && text[written-1] != '\n'
	return written
}

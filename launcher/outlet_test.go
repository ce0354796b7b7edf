package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// sink is a file that takes what allow says; -1: all of it.
type sink struct {
	mutex sync.Mutex
	allow int
	got   bytes.Buffer
	gate  chan struct{} // each write takes one token; nil: none is needed
}

func (s *sink) Write(text []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.allow >= 0 && len(text) > s.allow {
		s.got.Write(text[:s.allow])
		return s.allow, errors.New("no space left on device")
	}
	return s.got.Write(text)
}

func noted(o *outlet) *outlet {
	o.notice = func(lines int) []byte { return fmt.Appendf(nil, "%d dropped\n", lines) }
	return o
}

// While nothing is taken, writers go on; what does not fit is counted, and said once something is taken again.
func TestOutletDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &sink{allow: -1, gate: make(chan struct{})}
		o := noted(newOutlet(file))
		o.Write([]byte("first\n"))
		synctest.Wait() // the first line waits at the gate
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for range outletBytes/len(line) + 7 {
			o.Write(line)
		}
		close(file.gate)
		synctest.Wait()
		o.Write([]byte("last\n"))
		o.Close()
		got := strings.TrimPrefix(file.got.String(), "first\n"+strings.Repeat(string(line), outletBytes/len(line)))
		if got != "7 dropped\nlast\n" {
			t.Errorf("got %.100q after what was taken", got)
		}
	})
}

// A file that fails loses lines, not the program; when it works again it begins with a line of its own.
func TestOutletGoesOnAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &sink{allow: 3}
		o := noted(newOutlet(file))
		o.Write([]byte("torn line\n"))
		synctest.Wait()
		file.allow = 0
		o.Write([]byte("lost\n"))
		synctest.Wait()
		file.allow = -1
		o.Write([]byte("whole\n"))
		o.Close()
		if got, want := file.got.String(), "tor\nwhole\n2 dropped\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// The end of the program waits a moment for its last words, but not for ever.
func TestOutletCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &sink{allow: -1, gate: make(chan struct{})}
		o := newOutlet(file)
		o.Write([]byte("never taken\n"))
		o.Close() // of the bubble's time flushTimeout passes here
		o.Write([]byte("too late\n"))
		close(file.gate)
		<-o.done
		if got := file.got.String(); got != "never taken\n" {
			t.Errorf("got %q", got)
		}
	})
}

package main

import (
	"bytes"
	"io"
	"os"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// console is the launcher's standard error: log lines, and on a terminal one line of progress below them that overwrites
// itself. It is safe for concurrent use, and nobody waits for who reads it.
type console struct {
	out      io.Writer
	outlet   *outlet // what out is; nil in tests
	terminal bool

	mutex    sync.Mutex
	progress string
}

func newConsole(file *os.File) *console {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	o := newOutlet(file)
	return &console{out: o, outlet: o, terminal: err == nil}
}

// Close gives the last lines a moment to get out.
func (c *console) Close() { c.outlet.Close() }

// Write writes whole log lines above the progress line.
func (c *console) Write(lines []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.progress == "" {
		return c.out.Write(lines)
	}
	var all bytes.Buffer
	all.WriteString("\r\x1b[K")
	all.Write(lines)
	all.WriteString(c.progress)
	_, err := c.out.Write(all.Bytes())
	return len(lines), err
}

// Progress replaces the progress line; empty removes it. Without a terminal it does nothing.
func (c *console) Progress(line string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.terminal || line == c.progress {
		return
	}
	c.progress = line
	io.WriteString(c.out, "\r\x1b[K"+line)
}

// newLogger writes to the console, as JSON lines or for people. level has been checked.
func newLogger(c *console, jsonLines bool, level string) zerolog.Logger {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		parsed = zerolog.InfoLevel
	}
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000000Z07:00"
	to := func(out io.Writer) zerolog.Logger {
		if !jsonLines {
			out = zerolog.ConsoleWriter{Out: out, TimeFormat: "15:04:05.000", NoColor: !c.terminal}
		}
		return zerolog.New(out).Level(parsed).With().Timestamp().Logger()
	}
	if c.outlet != nil {
		c.outlet.notice = func(lines int) []byte {
			var out bytes.Buffer
			log := to(&out)
			log.Warn().Int("lines", lines).Msg("lines of the log were dropped: nothing took them from standard error for a while")
			return out.Bytes()
		}
	}
	return to(c)
}

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
// itself. It is safe for concurrent use.
type console struct {
	out      io.Writer
	terminal bool

	mutex    sync.Mutex
	progress string
}

func newConsole(file *os.File) *console {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return &console{out: file, terminal: err == nil}
}

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
	var out io.Writer = c
	if !jsonLines {
		out = zerolog.ConsoleWriter{Out: c, TimeFormat: "15:04:05.000", NoColor: !c.terminal}
	}
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		parsed = zerolog.InfoLevel
	}
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000000Z07:00"
	return zerolog.New(out).Level(parsed).With().Timestamp().Logger()
}

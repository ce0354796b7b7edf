package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"lockstep/shard"
)

const (
	// maxLogLine bounds a line of a child's log; the rest of a longer one is dropped.
	maxLogLine = 64 << 10
	// tailLines is how many of the lines that are no log entries (a panic, say) are kept for the error message.
	tailLines = 60
)

// spawner starts children from one thread that lives as long as the launcher: the kernel's parent-death signal comes when
// the thread that made the child ends.
type spawner struct {
	requests  chan func()
	deathRead *os.File
	deathHeld *os.File // never written: its end is the children's sign
}

func newSpawner() (*spawner, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("death pipe: %w", err)
	}
	s := &spawner{requests: make(chan func()), deathRead: read, deathHeld: write}
	go func() {
		runtime.LockOSThread()
		for request := range s.requests {
			request()
		}
	}()
	return s, nil
}

// process is one running child.
type process struct {
	rank    int
	command *exec.Cmd
}

// event is what a child tells or what becomes of it.
type event struct {
	unit        *unit
	incarnation uint64
	rank        int
	status      *shard.Status // nil when it has exited
	clean       bool
	reason      string
}

// start runs a child. weights may be nil. Every event of the child goes to events, the exit last.
func (s *spawner) start(origin event, arguments []string, config childConfig, memory, weights *os.File, log zerolog.Logger,
	events chan<- event) (*process, error) {
	config.Weights = weights != nil
	inherited, err := configMemory(config)
	if err != nil {
		return nil, err
	}
	defer inherited.Close()
	statusRead, statusWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer statusWrite.Close()
	logRead, logWrite, err := os.Pipe()
	if err != nil {
		statusRead.Close()
		return nil, err
	}
	defer logWrite.Close()

	command := &exec.Cmd{
		Path: "/proc/self/exe", // this build, even if the file has been replaced
		Args: append([]string{"lockstep"}, arguments...),
		Env:  append(ofSystem(os.Environ()), childMark+"=1"), Stderr: logWrite,
		ExtraFiles:  []*os.File{inherited, statusWrite, memory, s.deathRead, weights},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	}
	started := make(chan error)
	s.requests <- func() { started <- command.Start() }
	if err := <-started; err != nil {
		statusRead.Close()
		logRead.Close()
		return nil, fmt.Errorf("start %s: %w", strings.Join(command.Args, " "), err)
	}
	p := &process{rank: origin.rank, command: command}
	go p.watch(origin, statusRead, logRead, log, events)
	return p, nil
}

// configMemory writes the configuration to an anonymous file.
func configMemory(config childConfig) (*os.File, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("lockstep configuration", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("configuration for a child: %w", err)
	}
	file := os.NewFile(uintptr(fd), "configuration")
	if _, err = file.Write(data); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("configuration for a child: %w", err)
	}
	return file, nil
}

// watch passes on what the child says and, once it is gone, why.
func (p *process) watch(origin event, status, logs *os.File, log zerolog.Logger, events chan<- event) {
	var readers sync.WaitGroup
	var said string // the child's own account of its end
	var tail []string
	readers.Go(func() {
		defer status.Close()
		for decoder := json.NewDecoder(status); ; {
			var s shard.Status
			if decoder.Decode(&s) != nil {
				return
			}
			if s.Error != "" {
				said = s.Error
				continue
			}
			e := origin
			e.status = &s
			events <- e
		}
	})
	readers.Go(func() {
		defer logs.Close()
		tail = forwardLog(logs, log)
	})
	err := p.command.Wait()
	readers.Wait()
	e := origin
	e.clean, e.reason = err == nil, said
	if e.reason == "" {
		e.reason = "exit status 0"
		if err != nil {
			e.reason = err.Error()
		}
		if len(tail) > 0 {
			e.reason += "\n" + strings.Join(tail, "\n")
		}
	}
	events <- e
}

// signal sends a signal; a child that is gone is no error.
func (p *process) signal(signal os.Signal) {
	_ = p.command.Process.Signal(signal)
}

// forwardLog re-emits a child's JSON lines at their level until they end, and returns the last lines that were none.
func forwardLog(in io.Reader, log zerolog.Logger) (tail []string) {
	reader := bufio.NewReaderSize(in, maxLogLine)
	for {
		line, err := reader.ReadSlice('\n')
		if len(bytes.TrimSpace(line)) > 0 && !forwardLine(line, log) {
			tail = append(tail, strings.TrimRight(string(line), "\n"))
			if len(tail) > tailLines {
				tail = tail[1:]
			}
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = reader.ReadSlice('\n')
		}
		if err != nil {
			return tail
		}
	}
}

func forwardLine(line []byte, log zerolog.Logger) bool {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var fields map[string]any
	if decoder.Decode(&fields) != nil {
		return false
	}
	text, _ := fields[zerolog.LevelFieldName].(string)
	level, err := zerolog.ParseLevel(text)
	if err != nil {
		level = zerolog.InfoLevel
	}
	message, _ := fields[zerolog.MessageFieldName].(string)
	for _, name := range []string{zerolog.LevelFieldName, zerolog.MessageFieldName, zerolog.TimestampFieldName} {
		delete(fields, name)
	}
	log.WithLevel(level).Fields(fields).Msg(message)
	return true
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"lockstep/launcher/demo"
	"lockstep/router"
	"lockstep/shard"
	"lockstep/shard/collective"
)

// childMark is set in the environment of children, and only there. Their arguments are for `ps`: the configuration comes
// whole through an inherited file.
const childMark = "LOCKSTEP_CHILD"

// drainSignal asks a child to finish what runs and end.
const drainSignal = unix.SIGUSR1

// The files that a child inherits.
const (
	configFile  = 3 + iota // childConfig as JSON
	statusFile             // the child writes shard.Status as JSON lines
	memoryFile             // what the unit's processes share with the launcher; shards also with each other
	deathFile              // ends when the launcher is gone
	weightsFile            // a shard's packed weights, which outlive it; see childConfig.Weights
)

// maxConfigBytes bounds the configuration; a longer one is refused.
const maxConfigBytes = 1 << 20

// childConfig is everything that a child needs to know; exactly one of Shard and Router is set.
type childConfig struct {
	LogLevel string         `json:"log_level"`
	Shard    *shard.Config  `json:"shard,omitempty"`
	Router   *router.Config `json:"router,omitempty"`
	// Weights says that weightsFile is there.
	Weights bool `json:"weights,omitempty"`
}

// runChild is a shard or a router; it returns the exit code.
func runChild() int {
	os.Unsetenv(childMark)
	_ = os.WriteFile("/proc/self/comm", []byte("lockstep"), 0) // not "exe", which was run
	for _, fd := range []int{configFile, statusFile, memoryFile, deathFile} {
		unix.CloseOnExec(fd)
	}
	go dieWithLauncher()
	// Signals to the whole node, as of ctrl-C or a service manager, are the launcher's, which drains its children in order.
	signal.Ignore(os.Interrupt, unix.SIGHUP, unix.SIGTERM)
	ctx, stop := signal.NotifyContext(context.Background(), drainSignal)
	defer stop()

	report := statusWriter()
	config, err := readConfig()
	if err == nil {
		zerolog.TimeFieldFormat = time.RFC3339Nano
		level, _ := zerolog.ParseLevel(config.LogLevel)
		err = runPart(ctx, config, report, zerolog.New(os.Stderr).Level(level).With().Timestamp().Logger())
	}
	if err != nil {
		report(shard.Status{Error: err.Error()})
		return 1
	}
	return 0
}

func runPart(ctx context.Context, config childConfig, report func(shard.Status), log zerolog.Logger) error {
	memory := os.NewFile(memoryFile, "memory")
	switch {
	case config.Shard != nil:
		var weights *os.File
		if config.Weights {
			unix.CloseOnExec(weightsFile)
			weights = os.NewFile(weightsFile, "weights")
		}
		return shard.Run(ctx, *config.Shard, memory, weights, demo.Files(), report, log)
	case config.Router != nil:
		beats := uint32(0)
		return router.Run(ctx, *config.Router, log, router.Signs{
			Ready: func(url string) { report(shard.Status{Ready: true, Text: url}) },
			Beat: func() {
				beats = max(beats+1, 1)
				_ = collective.WriteBeat(memory, 0, beats) // who cannot show that he lives is started again
			},
		})
	}
	return errors.New("neither a shard nor a router is configured")
}

func readConfig() (config childConfig, err error) {
	file := os.NewFile(configFile, "configuration")
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxConfigBytes+1))
	switch {
	case err != nil:
		return config, fmt.Errorf("read the inherited configuration: %w", err)
	case len(data) > maxConfigBytes:
		return config, fmt.Errorf("the inherited configuration exceeds %d bytes", maxConfigBytes)
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return config, fmt.Errorf("the inherited configuration: %w", err)
	}
	return config, nil
}

// statusWriter returns the function that reports to the launcher; it may be called from any goroutine.
func statusWriter() func(shard.Status) {
	file := os.NewFile(statusFile, "status")
	var mutex sync.Mutex
	return func(status shard.Status) {
		line, err := json.Marshal(status)
		if err != nil {
			return
		}
		mutex.Lock()
		defer mutex.Unlock()
		file.Write(append(line, '\n')) // if the launcher is gone, so are we soon
	}
}

// dieWithLauncher ends the process when the launcher is gone. PR_SET_PDEATHSIG does so too; this also works where the
// signal was lost.
func dieWithLauncher() {
	io.Copy(io.Discard, os.NewFile(deathFile, "death pipe"))
	unix.Kill(unix.Getpid(), unix.SIGKILL)
}

// Command check examines a machine with an NVIDIA card and no network, by one command of eleven minutes: whether what the emulation
// says of the card is so, and how fast it is. None of this needs a network, a toolkit or Go there.
//
//	go run ./scripts/gpu/check build DIRECTORY [FURTHER MODELS…]   a folder to carry, here (make gpu-check)
//	cd DIRECTORY && sh run.sh                                      all steps, there
//	cd DIRECTORY && LIMIT=5m sh run.sh bindings vectors            some of them, in less time
//	go run ./scripts/gpu/check dry                                 every step that the emulation can run, here
//
// Results are in report.md, a table for each step, and results.jsonl, in $OUT or ./out. Each step is a process with a time limit of its
// own, what it has found is written at once, and none stops the next.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lockstep/shard/gpu"
	"lockstep/shard/gpu/driver"
)

// check is what the command was asked for.
type check struct {
	dir      string // with models and adapters
	out      string
	library  string // of the driver
	emulated bool   // in place of a card
	quick    bool   // the least that shows that a step works
	limit    time.Duration
}

func main() {
	c := &check{}
	flag.StringVar(&c.dir, "dir", ".", "the folder that build has made")
	flag.StringVar(&c.out, "out", os.Getenv("OUT"), "folder for results; empty: $OUT, or ./out, dry's bin/gpu-check-dry")
	flag.StringVar(&c.library, "library", driver.DefaultLibrary, "the driver's library")
	flag.BoolVar(&c.emulated, "emulated", false, "compute on the emulation in place of a card")
	flag.BoolVar(&c.quick, "quick", false, "only show that steps work")
	flag.DurationVar(&c.limit, "limit", 11*time.Minute, "time of all steps together")
	flag.Parse()
	if c.out == "" && flag.Arg(0) == "dry" {
		c.out = filepath.Join("bin", "gpu-check-dry")
	} else if c.out == "" {
		c.out = "out"
	}
	if err := c.command(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "check:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func (c *check) command(args []string) error {
	if len(args) == 0 {
		return errors.New("want build DIRECTORY, run [STEP…], dry or step NAME")
	}
	switch command, rest := args[0], args[1:]; {
	case command == "build" && len(rest) > 0:
		return build(rest[0], rest[1:])
	case command == "run":
		return c.run(rest)
	case command == "dry":
		return c.dry()
	case command == "step" && len(rest) == 1:
		return c.step(rest[0])
	}
	return fmt.Errorf("no command %v: want build DIRECTORY, run [STEP…], dry or step NAME", args)
}

// open opens the first card that can compute.
func (c *check) open() (gpu.Device, error) {
	if c.emulated {
		return emulate()
	}
	cards, err := driver.Cards(c.library)
	if err == nil {
		cards, err = driver.Choose(cards, nil)
	}
	if err != nil {
		return nil, err
	}
	return driver.Open(driver.Options{Library: c.library, UUID: cards[0].UUID, Shared: true})
}

// step runs a step in this process.
func (c *check) step(name string) error {
	for _, s := range steps {
		if s.name != name {
			continue
		}
		if s.run == nil {
			return fmt.Errorf("step %s is a program of its own: check run %s", name, name)
		}
		r, err := openReport(c.out, name)
		if err != nil {
			return err
		}
		return s.run(c, r)
	}
	return fmt.Errorf("no step %s", name)
}

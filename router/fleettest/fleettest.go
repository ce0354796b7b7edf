// Package fleettest starts real shard groups for tests of the router: one rank on the simulated backend, with the demo model's
// tokenizer, each in a process of its own that a test can stop and kill. What a group never does by itself (losing frames,
// wrong accounts) is what the scripts of fleet/core are for.
package fleettest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/shard"
	"lockstep/shard/sim"
)

// configVariable holds a child's configuration.
const configVariable = "LOCKSTEP_FLEETTEST"

// Main is what every TestMain calls first whose tests start groups: in a process that is to be a group, it is that and does
// not return.
func Main() {
	text := os.Getenv(configVariable)
	if text == "" {
		return
	}
	go func() { // which ends with the parent
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	var config shard.Config
	err := json.Unmarshal([]byte(text), &config)
	if err == nil {
		_, here, _, _ := runtime.Caller(0)
		demo := os.DirFS(filepath.Join(filepath.Dir(here), "../../launcher/demo/model"))
		err = shard.Run(context.Background(), config, nil, nil, demo, func(s shard.Status) {
			if s.Ready {
				fmt.Println("ready")
			}
		}, zerolog.Nop())
	}
	fmt.Fprintln(os.Stderr, "fleettest:", err)
	os.Exit(1)
}

// Options of a group. A zero means what stands behind it.
type Options struct {
	Name         string        // "group-1"
	Incarnation  uint64        // 1
	ModelID      string        // "demo"
	ChatTemplate string        // the demo model's
	StepTime     time.Duration // of every step: 1 ms
	CacheTokens  int           // 16384
	MaxSequences int           // 256
	Prefill      int           // prompt tokens of a step: 512
	Adapters     []shard.Adapter
}

func (o Options) config(natsURL string) shard.Config {
	o.StepTime = cmp.Or(o.StepTime, time.Millisecond)
	limits := shard.DefaultLimits()
	limits.CacheTokens, limits.MaxSequences = cmp.Or(o.CacheTokens, 16384), cmp.Or(o.MaxSequences, 256)
	limits.PrefillTokens, limits.MaxRequests = cmp.Or(o.Prefill, limits.PrefillTokens), 256
	return shard.Config{
		Group: protocol.GroupRef{Group: cmp.Or(o.Name, "group-1"), Incarnation: max(o.Incarnation, 1)}, Node: "test", Shards: 1, Threads: 1,
		NATSURLs: []string{natsURL}, ModelID: cmp.Or(o.ModelID, "demo"), ChatTemplate: o.ChatTemplate, Backend: "sim",
		Adapters: o.Adapters,
		Sim:      sim.Config{StepModel: sim.StepModel{Name: o.StepTime.String(), Base: o.StepTime.Seconds()}},
		Limits:   limits, Restarted: true,
	}
}

// Group is a group, and what a listener on the wire sees of it. Its methods are safe for concurrent use.
type Group struct {
	t       testing.TB
	ref     protocol.GroupRef
	process *exec.Cmd
	stdin   io.Closer
	conn    *nats.Conn // the listener's
	end     sync.Once

	mu         sync.Mutex // guards all below
	dispatched int
	cancelled  map[uint64]bool
	load       protocol.Load // as announced last
}

// Start starts a group, waits until it serves, and ends it with the test.
func Start(t testing.TB, natsURL string, o Options) *Group {
	t.Helper()
	config := o.config(natsURL)
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	g := &Group{t: t, ref: config.Group, process: exec.Command(os.Args[0]), cancelled: map[uint64]bool{}}
	if g.conn, err = nats.Connect(natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.conn.Close)
	g.listen(protocol.AnnounceSubject(g.ref.Group), g.announced)
	g.listen(g.ref.Dispatch(protocol.AnyRouter), g.asked)
	g.listen(g.ref.Cancel(protocol.AnyRouter), g.told)
	if err := g.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	g.process.Env = append(os.Environ(), configVariable+"="+string(text))
	g.process.Stderr = os.Stderr
	g.stdin, _ = g.process.StdinPipe()
	stdout, _ := g.process.StdoutPipe()
	if err := g.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("group %s does not start: %q, %v", g.ref, line, err)
	}
	return g
}

func (g *Group) listen(subject string, handle nats.MsgHandler) {
	if _, err := g.conn.Subscribe(subject, func(m *nats.Msg) {
		g.mu.Lock()
		defer g.mu.Unlock()
		handle(m)
	}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *Group) announced(m *nats.Msg) {
	var a protocol.Announcement
	if json.Unmarshal(m.Data, &a) == nil && a.GroupRef == g.ref {
		g.load = a.Load
	}
}

func (g *Group) asked(m *nats.Msg) {
	var d protocol.Dispatch
	if json.Unmarshal(m.Data, &d) == nil {
		g.dispatched += len(d.Requests)
	}
}

func (g *Group) told(m *nats.Msg) {
	var c protocol.Cancel
	if json.Unmarshal(m.Data, &c) == nil {
		for _, id := range c.IDs {
			g.cancelled[id] = true
		}
	}
}

// Ref names the group.
func (g *Group) Ref() protocol.GroupRef { return g.ref }

// Dispatched is how many requests it has been sent, and Cancelled how many of them were taken back.
func (g *Group) Dispatched() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dispatched
}

func (g *Group) Cancelled() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.cancelled)
}

// Holds is how many requests it holds, as it said last: no older than an announcement.
func (g *Group) Holds() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.load.Running + g.load.Waiting
}

// Pause stops the process as it stands, until Continue.
func (g *Group) Pause()    { g.signal(syscall.SIGSTOP) }
func (g *Group) Continue() { g.signal(syscall.SIGCONT) }

func (g *Group) signal(signal syscall.Signal) {
	if err := g.process.Process.Signal(signal); err != nil {
		g.t.Errorf("%s: %v", g.ref, err)
	}
}

func (g *Group) kill() {
	g.end.Do(func() {
		g.process.Process.Kill()
		g.stdin.Close()
		g.process.Wait()
	})
}

// Kill kills the process. With tell its launcher's word of that goes out, else nobody's.
func (g *Group) Kill(tell bool) {
	g.kill()
	if !tell {
		return
	}
	data, err := json.Marshal(protocol.Down{GroupRef: g.ref, Reason: "killed by a test"})
	if err == nil {
		err = g.conn.Publish(protocol.DownSubject(g.ref.Group), data)
	}
	if err == nil {
		err = g.conn.Flush()
	}
	if err != nil {
		g.t.Error(err)
	}
}

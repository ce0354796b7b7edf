package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lockstep/scripts/serving"
)

// faultsTest is seeded streams under faults: their tokens must be those of a quiet server.
type faultsTest struct {
	streams, tokens int
	want            [][]int // tokens of each stream, undisturbed
	took            time.Duration
}

// site is what is disturbed: one server, or two nodes and a router.
type site struct {
	front *server // who is asked
	nodes []*server
	open  func() error // starts all of it anew
}

// close ends all of it, whatever state it is in.
func (s *site) close() {
	for _, each := range append([]*server{s.front}, s.nodes...) {
		if each != nil {
			for _, pid := range each.children("") {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			each.Command.Process.Kill()
			each.Command.Wait()
		}
	}
}

// fault is one row of the table.
type fault struct {
	name    string
	disturb func(s *site) error
	// again starts what the fault has ended; nil: it comes back by itself.
	again func(s *site) error
}

const (
	clusterKey = "the secret of the fault trials"
	gossipPort = "17946"
	// pause is how long stopped processes stand still before they may go on.
	pause = 17 * time.Second
)

func (f *faultsTest) run() error {
	fmt.Printf("%d seeded streams of %d tokens each; a row is one fault, at a third of the streams' length\n\n", f.streams, f.tokens)
	fmt.Println("| server | fault | streams with wrong tokens | failed | longest pause of any stream | of the half that paused least | " +
		"groups lost, requests resumed, ledger mismatches |")
	fmt.Println("|---|---|---|---|---|---|---|")
	if err := f.oneGroup(); err != nil {
		return err
	}
	return f.twoNodes()
}

func (f *faultsTest) oneGroup() error {
	s := &site{}
	s.open = func() (err error) {
		s.front, err = start("--num-shard", "2", "--threads", "1", "--max-batch-total-tokens", "32768", "--log-level", "error")
		return err
	}
	var rows []fault
	for _, rank := range []string{"0", "1"} {
		rows = append(rows, fault{name: "kill -9 of rank " + rank,
			disturb: func(s *site) error { return s.front.signal(syscall.SIGKILL, "--rank "+rank) }},
			fault{name: "rank " + rank + " stands still",
				disturb: func(s *site) error { return s.front.signal(syscall.SIGSTOP, "--rank "+rank) }})
	}
	rows = append(rows, fault{name: fmt.Sprintf("all shards stand still for %v", pause), disturb: func(s *site) error {
		pids := s.front.children("--rank")
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGSTOP)
		}
		time.AfterFunc(pause, func() {
			for _, pid := range pids {
				syscall.Kill(pid, syscall.SIGCONT) // those that were started again are others
			}
		})
		return nil
	}})
	return f.table("one group of 2", s, rows)
}

func (f *faultsTest) twoNodes() error {
	s := &site{}
	node := func(i int) error {
		host := fmt.Sprintf("127.0.0.%d", 2+i)
		started, err := launch("node", "--hostname", host, "--gossip-address", host+":"+gossipPort, "--join", "127.0.0.2:"+gossipPort,
			"--join", "127.0.0.3:"+gossipPort,
			"--node-name", fmt.Sprint("node", i), "--cluster-key", clusterKey, "--num-shard", "1", "--threads", "1",
			"--max-batch-total-tokens", "32768", "--log-level", "error")
		if err == nil {
			s.nodes[i] = started
		}
		return err
	}
	s.open = func() (err error) {
		s.nodes = make([]*server, 2)
		for i := range s.nodes {
			if err := node(i); err != nil {
				return err
			}
		}
		s.front, err = launch("router", "--hostname", "127.0.0.5", "--port", "0", "--gossip-address", "127.0.0.5:"+gossipPort, "--join",
			"127.0.0.2:"+gossipPort,
			"--node-name", "router", "--cluster-key", clusterKey, "--log-level", "error")
		return err
	}
	restart := func(s *site) error {
		s.nodes[0].Command.Process.Kill()
		s.nodes[0].Command.Wait()
		return node(0)
	}
	whole := func(signal syscall.Signal) func(s *site) error {
		return func(s *site) error {
			for _, pid := range append(s.nodes[0].children(""), s.nodes[0].Command.Process.Pid) {
				syscall.Kill(pid, signal)
			}
			return nil
		}
	}
	return f.table("2 nodes, router apart", s, []fault{
		{name: "kill -9 of a node", disturb: whole(syscall.SIGKILL), again: restart},
		{name: "a node stands still", disturb: whole(syscall.SIGSTOP), again: restart},
		{name: "kill -9 of a node's shard", disturb: func(s *site) error { return s.nodes[0].signal(syscall.SIGKILL, "--rank 0") }},
		{name: "a node's shard stands still", disturb: func(s *site) error { return s.nodes[0].signal(syscall.SIGSTOP, "--rank 0") }},
		{name: "rolling restart of both nodes", disturb: func(s *site) error {
			for i := range s.nodes {
				s.nodes[i].Command.Process.Signal(syscall.SIGTERM)
				s.nodes[i].Command.Wait()
				if err := node(i); err != nil {
					return err
				}
				if err := s.known(2); err != nil {
					return err
				}
			}
			return nil
		}},
	})
}

// table tries faults one after another, each on a whole site.
func (f *faultsTest) table(name string, s *site, rows []fault) error {
	defer s.close()
	fresh := func() error {
		if err := s.open(); err != nil {
			return err
		}
		return s.known(max(1, len(s.nodes)))
	}
	if err := fresh(); err != nil {
		return err
	}
	if _, err := f.round(s, nil, nil); err != nil {
		return err
	}
	for i, row := range rows {
		if err := s.known(max(1, len(s.nodes))); err != nil {
			fmt.Printf("| %s | | started anew: after the last fault, %v | | | | |\n", name, err)
			s.close()
			if err := fresh(); err != nil {
				return fmt.Errorf("before row %d: %w", i, err)
			}
		}
		before, err := s.front.Metrics()
		if err != nil {
			return err
		}
		result, err := f.round(s, row.disturb, f.want)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		after, err := s.front.Metrics()
		if err != nil {
			return err
		}
		more := func(metric string) float64 { return after[metric] - before[metric] }
		fmt.Printf("| %s | %s | %d of %d | %d | %v | %v | %.0f, %.0f, %.0f |\n", name, row.name, result.wrong, f.streams, result.failed,
			result.longest.Round(time.Millisecond), result.other.Round(time.Millisecond), more("lockstep_groups_lost_total"),
			more("lockstep_requests_resumed_total"), more("lockstep_ledger_mismatches_total"))
		if row.again != nil {
			if err := row.again(s); err != nil {
				return err
			}
		}
	}
	return nil
}

type roundResult struct {
	wrong, failed int
	longest       time.Duration // longest pause of any stream
	other         time.Duration // longest pause of the half of the streams that paused least
}

// round runs all streams at once. Without want it learns what their tokens are.
func (f *faultsTest) round(s *site, disturb func(*site) error, want [][]int) (result roundResult, err error) {
	answers, failures := make([]*answer, f.streams), make([]error, f.streams)
	var group sync.WaitGroup
	begin := time.Now()
	for i := range f.streams {
		group.Go(func() {
			seed := uint64(i)
			answers[i], failures[i] = s.front.generate(fmt.Sprintf("Once upon a time number %d", i),
				parameters{MaxNewTokens: f.tokens, DoSample: true, Seed: &seed, IgnoreEOS: true}, 0)
		})
	}
	if disturb != nil {
		time.Sleep(f.took / 3)
		if err := disturb(s); err != nil {
			return result, err
		}
	}
	group.Wait()
	if want == nil {
		f.took, f.want = time.Since(begin), nil
		for _, a := range answers {
			f.want = append(f.want, a.ids)
		}
		return result, errors.Join(failures...)
	}
	var pauses []time.Duration
	for i, a := range answers {
		switch {
		case failures[i] != nil || a.status != 200 || a.body != "":
			result.failed++
		case !slices.Equal(a.ids, want[i]):
			result.wrong++
		}
		if a != nil && len(a.gaps) > 0 {
			pauses = append(pauses, max(a.first, slices.Max(a.gaps)))
		}
	}
	result.longest, result.other = serving.Percentile(pauses, 100), serving.Percentile(pauses, 50)
	return result, nil
}

// known waits until the front has so many groups.
func (s *site) known(groups int) error {
	for deadline := time.Now().Add(2 * pause); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var load struct {
			Groups []any `json:"groups"`
		}
		if err := s.front.Get("/token_load?groups", &load); err == nil && len(load.Groups) == groups {
			return nil
		}
	}
	return fmt.Errorf("%d groups are not there", groups)
}

// signal sends a signal to the children whose arguments contain a text.
func (s *server) signal(signal syscall.Signal, text string) error {
	pids := s.children(text)
	if len(pids) == 0 {
		return fmt.Errorf("no process %q", text)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil {
			return err
		}
	}
	return nil
}

// children are the processes of a server whose arguments contain a text, without the launcher.
func (s *server) children(text string) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.Command.Process.Pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(data)) {
			arguments, _ := os.ReadFile("/proc/" + field + "/cmdline")
			if pid, err := strconv.Atoi(field); err == nil && strings.Contains(strings.ReplaceAll(string(arguments), "\x00", " "), text) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

package main_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/protocol/outside"
)

// cluster starts nodes and a router on loopback addresses of their own; they all join the one on 127.0.0.2.
type cluster struct{ gossipPort string }

func newCluster(t testing.TB) cluster { return cluster{strconv.Itoa(freePort(t))} }

func (c cluster) startNode(t testing.TB, host string) *server {
	t.Helper()
	return serve(t, "node", "--hostname", host, "--gossip-address", host+":"+c.gossipPort, "--join", "127.0.0.2:"+c.gossipPort,
		"--node-name", "node-"+host[len(host)-1:], "--cluster-key", "a secret of the tests", "--threads", "1", "--max-batch-total-tokens",
		"8192")
}

func (c cluster) startRouter(t testing.TB, host string) *server {
	t.Helper()
	return serve(t, "router", "--hostname", host, "--port", strconv.Itoa(freePort(t)), "--gossip-address", host+":"+c.gossipPort,
		"--join", "127.0.0.2:"+c.gossipPort, "--node-name", "router-"+host[len(host)-1:], "--cluster-key", "a secret of the tests")
}

// knows waits until the router has found as many incarnations of a group.
func (s *server) knows(node string, incarnations int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the router knows %d incarnations of %s", incarnations, node), func() bool {
		found := map[string]bool{}
		for line := range strings.Lines(s.logged()) {
			if strings.Contains(line, "group found") {
				for _, field := range strings.Fields(line) {
					if name, ok := strings.CutPrefix(field, "group="); ok && strings.HasPrefix(name, node+"/") {
						found[name] = true
					}
				}
			}
		}
		return len(found) >= incarnations
	})
}

// burst sends requests at once and wants the same text from all.
func (s *server) burst(count int, want string) {
	s.t.Helper()
	var done sync.WaitGroup
	for range count {
		done.Go(func() {
			if got, err := s.generate("Once upon a time", 60); err != nil || got != want {
				s.t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
	done.Wait()
}

// A node joins a router's mesh, is killed, and is used again when it is back.
func TestNodeComesBack(t *testing.T) {
	c := newCluster(t)
	node := c.startNode(t, "127.0.0.2")
	router := c.startRouter(t, "127.0.0.5")
	want := router.mustGenerate("Once upon a time", 60)
	node.command.Process.Kill()
	node.exit()
	c.startNode(t, "127.0.0.2")
	router.knows("node-2", 2)
	router.burst(2, want)
}

// Three nodes and a router: one node is killed under load, the rest serve on without a lost token, it comes back and is
// used again.
func TestThreeNodes(t *testing.T) {
	outside.Slow(t)
	c := newCluster(t)
	nodes := map[string]*server{}
	for _, host := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		nodes[host] = c.startNode(t, host)
	}
	router := c.startRouter(t, "127.0.0.5")
	for _, name := range []string{"node-2", "node-3", "node-4"} {
		router.knows(name, 1)
	}
	want := router.mustGenerate("Once upon a time", 60)
	router.burst(24, want)

	started := time.Now()
	var load sync.WaitGroup
	load.Go(func() { router.burst(24, want) })
	time.Sleep(50 * time.Millisecond)
	nodes["127.0.0.2"].command.Process.Kill() // the seed of all others
	nodes["127.0.0.2"].exit()
	load.Wait()
	t.Logf("24 requests done %v after they were sent, one node killed meanwhile", time.Since(started))

	nodes["127.0.0.2"] = c.startNode(t, "127.0.0.2")
	router.knows("node-2", 2)
	for _, host := range []string{"127.0.0.3", "127.0.0.4"} { // only the one that came back is left
		nodes[host].command.Process.Signal(syscall.SIGTERM)
		if code := nodes[host].exit(); code != 0 {
			t.Errorf("node on %s: exit code %d", host, code)
		}
	}
	router.burst(8, want)
	router.command.Process.Signal(syscall.SIGTERM)
	if code := router.exit(); code != 0 {
		t.Errorf("router: exit code %d", code)
	}
}

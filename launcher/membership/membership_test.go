package membership_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"lockstep/launcher/membership"
)

type node struct {
	*membership.Membership
	mutex   sync.Mutex
	members map[string]membership.Member
	log     strings.Builder
}

func (n *node) Write(line []byte) (int, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return n.log.Write(line)
}

// said reports whether the log has a warning with a text.
func (n *node) said(text string) bool {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	for line := range strings.Lines(n.log.String()) {
		if strings.Contains(line, `"level":"warn"`) && strings.Contains(line, text) {
			return true
		}
	}
	return false
}

func (n *node) sees(name string) (membership.Member, bool) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	member, ok := n.members[name]
	return member, ok
}

func open(t *testing.T, name, host string, port int, seeds ...string) *node {
	t.Helper()
	return openWith(t, membership.Config{Name: name, Host: host, Port: port, Seeds: seeds})
}

func openWith(t *testing.T, config membership.Config) *node {
	t.Helper()
	n := &node{}
	if config.Key == "" {
		config.Key = "secret"
	}
	config.Meta = membership.Meta{Role: "node", Route: ":4000"}
	var err error
	n.Membership, err = membership.Open(config, zerolog.New(n), func(all []membership.Member) {
		n.mutex.Lock()
		defer n.mutex.Unlock()
		n.members = map[string]membership.Member{}
		for _, member := range all {
			n.members[member.Name] = member
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", what)
}

// freePort is a port that is free on an address.
func freePort(t *testing.T, host string) int {
	t.Helper()
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// A member that dies without a word keeps its place for a while, is forgotten then, and is a member again when it joins.
func TestDeadMembersAreForgotten(t *testing.T) {
	port := freePort(t, "127.0.0.7")
	first := openWith(t, membership.Config{Name: "first", Host: "127.0.0.7", Port: port, ForgetTime: time.Second})
	defer first.Close()
	for range 2 {
		second := open(t, "second", "127.0.0.8", port, fmt.Sprintf("127.0.0.7:%d", port))
		eventually(t, "first sees second", func() bool { _, ok := first.sees("second"); return ok })
		second.Abandon()
		eventually(t, "first takes second for dead", func() bool { return first.Alive() == 1 })
		if _, ok := first.sees("second"); !ok {
			t.Error("a member lost its place as soon as it did not answer")
		}
		eventually(t, "first has forgotten second", func() bool { _, ok := first.sees("second"); return !ok })
	}
}

// The seed comes up after the node that joins it, drains, leaves and comes back.
func TestJoinDrainLeaveAndComeBack(t *testing.T) {
	port := freePort(t, "127.0.0.5")
	second := open(t, "second", "127.0.0.6", port, fmt.Sprintf("127.0.0.5:%d", port))
	defer second.Close()
	for range 2 {
		first := open(t, "first", "127.0.0.5", port)
		eventually(t, "second sees first's route", func() bool {
			member, ok := second.sees("first")
			return ok && member.Route == "127.0.0.5:4000" && !member.Draining
		})
		eventually(t, "first sees second", func() bool { _, ok := first.sees("second"); return ok })
		if err := first.Update(func(meta *membership.Meta) { meta.Draining = true }); err != nil {
			t.Fatal(err)
		}
		eventually(t, "second sees first drain", func() bool { member, ok := second.sees("first"); return ok && member.Draining })
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "first is gone", func() bool { _, ok := second.sees("first"); return !ok })
	}
}

// What keeps a node out is told on the side of those who are in: a name that is taken, or another key.
func TestWhyNodesDoNotMeet(t *testing.T) {
	port := freePort(t, "127.0.0.13")
	seed := fmt.Sprintf("127.0.0.13:%d", port)
	first := open(t, "first", "127.0.0.13", port)
	defer first.Close()
	twin := openWith(t, membership.Config{Name: "first", Host: "127.0.0.14", Port: port, Seeds: []string{seed}})
	defer twin.Abandon()
	eventually(t, "a name that is taken is told of", func() bool { return first.said("same name") || twin.said("same name") })
	stranger := openWith(t, membership.Config{Name: "stranger", Host: "127.0.0.15", Port: port, Seeds: []string{seed},
		Key: "another secret"})
	defer stranger.Abandon()
	eventually(t, "another key is told of", func() bool { return first.said("another cluster key") })
}

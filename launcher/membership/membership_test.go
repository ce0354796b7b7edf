package membership_test

import (
	"fmt"
	"net"
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
}

func (n *node) sees(name string) (membership.Member, bool) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	member, ok := n.members[name]
	return member, ok
}

func open(t *testing.T, name, host string, port int, seeds ...string) *node {
	t.Helper()
	n := &node{}
	config := membership.Config{Name: name, Host: host, Port: port, Seeds: seeds, Key: "secret", Meta: membership.Meta{Role: "node", Route: ":4000"}}
	var err error
	n.Membership, err = membership.Open(config, zerolog.Nop(), func(all []membership.Member) {
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

// The seed comes up after the node that joins it, drains, leaves and comes back.
func TestJoinDrainLeaveAndComeBack(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.5:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
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

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNATSUsers(t *testing.T) {
	withoutEnvironment(t)
	seed := filepath.Join(t.TempDir(), "seed")
	c, err := parse([]string{"nats-users", "--cluster-key", "0123456789abcdef", "--watcher", seed, "n1", "n2"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := c.natsUsers.run(&out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(seed)
	info, _ := os.Stat(seed)
	if err != nil || !strings.HasPrefix(string(text), "SU") || info.Mode().Perm() != 0o600 {
		t.Errorf("got %q with mode %v, %v", text, info.Mode(), err)
	}
	if got := out.String(); strings.Count(got, "nkey: U") != 7 || strings.Contains(got, strings.TrimSpace(string(text))) ||
		strings.Contains(got, "0123456789abcdef") {
		t.Errorf("got %s", got)
	}
	if err := c.natsUsers.run(io.Discard); err != nil {
		t.Errorf("a second time: %v", err)
	}
	for want, spoil := range map[string]func(*natsUsersFlags){
		"file exists":             func(f *natsUsersFlags) { f.ClusterKey += "another" }, // whose seed is another, too
		"want at least 16":        func(f *natsUsersFlags) { f.ClusterKey = "short" },
		"needs the nodes'":        func(f *natsUsersFlags) { f.ClusterKey = "" },
		`node name "a.b": want 1`: func(f *natsUsersFlags) { f.Node = []string{"a.b"} },
	} {
		f := c.natsUsers
		spoil(&f)
		if err := f.run(io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Beyond this machine a node has a secret, or is told that it needs none.
func TestClusterNeedsSecret(t *testing.T) {
	withoutEnvironment(t)
	for arguments, refused := range map[string]bool{
		"node":                                 true, // 0.0.0.0
		"node --hostname 127.0.0.3":            false,
		"node --hostname ::1":                  false,
		"node --hostname ::":                   true,
		"node --insecure":                      false,
		"serve":                                false, // no other machine
		"serve --join 10.0.0.1":                true,
		"serve --gossip-address 10.0.0.1:7946": true,
		"router --join 10.0.0.1":               true,
		"router --join 10.0.0.1 --cluster-key 0123456789abcdef": false,
		"router --nats-url nats://10.0.0.1:4222":                true,
		"router --nats-url 10.0.0.1:4222":                       true,
		"router --nats-url nats":                                true,
		"router --nats-url nats://@10.0.0.1:4222":               true,
		"router --nats-url nats://:@10.0.0.1:4222":              true,
		"router --nats-url nats://127.0.0.1:1,nats://10.0.0.1":  true,
		"router --nats-url nats://user:word@10.0.0.1:4222":      false,
		"router --nats-url nats://127.0.0.1:4222":               false,
		"router --nats-url nats://localhost":                    false,
	} {
		_, err := parse(strings.Fields(arguments), io.Discard)
		if got := err != nil && strings.Contains(err.Error(), "--insecure"); got != refused {
			t.Errorf("%s: refused %v (%v), want %v", arguments, got, err, refused)
		}
	}
}

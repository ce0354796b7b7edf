package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withoutEnvironment hides the environment's settings from parse.
func withoutEnvironment(t *testing.T) {
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "HOSTNAME", "PORT", "MODEL_ID", "NUM_SHARD", "LOG_LEVEL", "JSON_OUTPUT", "REVISION", "API_KEY":
			t.Setenv(name, value) // restores it afterwards
			os.Unsetenv(name)
		}
	}
}

func TestParse(t *testing.T) {
	withoutEnvironment(t)
	t.Setenv("NUM_SHARD", "3")
	t.Setenv("HOSTNAME", "0123456789ab") // a container's
	c, err := parse([]string{"-p", "8080", "--max-input-tokens", "100", "--max-total-tokens", "200", "-g", "5", "--cors-allow-origin", "a", "--cors-allow-origin", "b"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.role != "serve" || c.NumShard != 3 || c.Port != 8080 || c.MaxInputLength != 100 || c.Hostname != "0.0.0.0" || c.Graceful != 5 ||
		len(c.CORSAllowOrigin) != 2 || c.MaxConcurrentRequests != 128 || c.MaxBestOf != 2 || c.MaxStopSequences != 4 || c.PayloadLimit != 2000000 {
		t.Errorf("got %+v", c)
	}
	t.Setenv("LOCKSTEP_ADMISSION", "past-future")
	t.Setenv("LOCKSTEP_DISABLE_PREFIX_CACHE", "true")
	c, err = parse([]string{"--overload", "wait", "--max-queue-size", "7", "--queue-timeout", "1.5", "--tgi-version", "3"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	l := launcher{command: c}
	if r := l.routerConfig(); r.Admission != "past-future" || r.Overload != "wait" || r.MaxQueueSize != 7 || r.QueueTimeout != 1.5 || r.TGIVersion != "3" || !c.DisablePrefixCache {
		t.Errorf("got %+v", r)
	}
	c, err = parse([]string{"node", "--hostname", "127.0.0.3", "--join", "127.0.0.2"}, io.Discard)
	if err != nil || c.GossipAddress != "127.0.0.3:7946" || !strings.HasSuffix(c.NodeName, "-127-0-0-3") {
		t.Errorf("got %+v, %v", c, err)
	}
}

// Every refusal says what is wrong and, where there is one, the way out.
func TestRefusals(t *testing.T) {
	withoutEnvironment(t)
	directory := t.TempDir()
	file := filepath.Join(directory, "model.bin")
	os.WriteFile(file, nil, 0o600)
	for _, test := range []struct{ arguments, want string }{
		{"--nope", "unknown flag --nope"},
		{"--port x", "--port"},
		{"--tgi-version 2", "--tgi-version must be one of"},
		{"--admission aggressive", "--admission must be one of"},
		{"--overload panic", "--overload must be one of"},
		{"--max-queue-size 0", "--max-queue-size must be > 0, got 0"},
		{"--queue-timeout=-1", "--queue-timeout must lie between 0 and 86400 seconds, got -1"},
		{"--port 70000", "--port must lie between 0 and 65535, got 70000"},
		{"--quantize awq", "--quantize (QUANTIZE) cannot be honoured: only formats stored in the files (GGUF) are computed"},
		{"--speculate 2", "--speculate"},
		{"--revision main", "--revision (REVISION) cannot be honoured"},
		{"--trust-remote-code", "no model code is ever executed"},
		{"--dtype float16", "the type that their files have"},
		{"--kv-cache-dtype fp8_e5m2", "--kv-cache-dtype"},
		{"--api-key @/does/not/exist", "--api-key"},
		{"--listen mindie", "DIALECT=HOST:PORT"},
		{"--listen klingon=127.0.0.1:1", "want one of the dialects"},
		{"--listen mindie=127.0.0.1:1,tsl=x", "is not tls=FOLDER"},
		{"--tls-cert x", "belong together"},
		{"--tls-client-ca x", "need --tls-cert"},
		{"--max-connections 0", "--max-connections"},
		{"--lora-adapters a", "LoRA"},
		{"--otlp-endpoint http://x", "--otlp-endpoint"},
		{"--cuda-memory-fraction 0.5", "--cpu-memory-fraction is its sibling"},
		{"--usage-stats on", "--usage-stats"},
		{"--ngrok", "--ngrok"},
		{"--rope-factor 2", "--rope-factor"},
		{"--max-input-length 5 --max-input-tokens 5", "not both"},
		{"--max-input-length 5 --max-total-tokens 5", "--max-input-length (5) must be < --max-total-tokens (5)"},
		{"--max-total-tokens 9 --max-batch-total-tokens 8", "must be <= --max-batch-total-tokens (8)"},
		{"--validation-workers 0", "--validation-workers must be > 0"},
		{"--sharded true --num-shard 1", "--sharded true asks for several shards"},
		{"--sharded false --num-shard 2", "--sharded false asks for one shard"},
		{"--num-shard 65", "--num-shard must be at most 64"},
		{"--num-shard=-1", "--num-shard must not be negative"},
		{"--cpu-memory-fraction 1.5", "--cpu-memory-fraction"},
		{"--hostname example.org", "not an IP address"},
		{"--kernels neon", "--kernels"},
		{"--model-id /no/such/model", "no such file or directory"},
		{"--model-id " + directory, "has no config.json"},
		{"--model-id " + file, "neither a directory nor a .gguf file"},
		{"--node-name a.b", "--node-name"},
		{"--gossip-address here", "--gossip-address"},
		{"--nats-url nats://x --join y", "--nats-url replaces the embedded NATS server"},
		{"router", "--join"},
		{"shard --group g --rank 0", "shards are started by the launcher"},
		{"node --port 3000", "unknown flag --port"},
		{"dance", "unexpected argument dance"},
	} {
		_, err := parse(strings.Fields(test.arguments), io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.arguments, err, test.want)
		}
	}
}

// What TGI's users set out of habit and the server does anyway is accepted.
func TestHarmlessFlagsAreAccepted(t *testing.T) {
	withoutEnvironment(t)
	t.Setenv("TRUST_REMOTE_CODE", "false")
	if _, err := parse(strings.Fields("--cuda-memory-fraction 1.0 --usage-stats off --disable-grammar-support --max-top-n-tokens 5"), io.Discard); err != nil {
		t.Error(err)
	}
}

func TestEnvironmentIsRefusedToo(t *testing.T) {
	withoutEnvironment(t)
	t.Setenv("QUANTIZE", "gptq")
	if _, err := parse(nil, io.Discard); err == nil || !strings.Contains(err.Error(), "QUANTIZE") {
		t.Errorf("got %v", err)
	}
}

func TestShareOut(t *testing.T) {
	for _, test := range []struct {
		cpus, quota, ranks, threads int
		wantThreads                 int
		wantPinned                  bool
	}{
		{2, 2, 2, 0, 1, true},
		{8, 8, 2, 0, 4, true},
		{8, 8, 3, 0, 2, true},
		{8, 4, 2, 0, 2, false}, // a container's quota: any core may serve it
		{2, 2, 4, 0, 1, false},
		{8, 8, 2, 16, 16, false},
	} {
		cpus := make([]int, test.cpus)
		for i := range cpus {
			cpus[i] = i
		}
		threads, pins := shareOut(cpus, test.quota, test.ranks, test.threads)
		if threads != test.wantThreads || (pins != nil) != test.wantPinned {
			t.Errorf("%+v: got %d threads, pins %v", test, threads, pins)
		}
	}
}

package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lockstep/router/request"
	"lockstep/shard"
	"lockstep/shard/machine"
)

// withoutEnvironment hides the environment's settings from parse.
func withoutEnvironment(t *testing.T) {
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if slices.Contains(variables(), name) {
			t.Setenv(name, value) // restores it afterwards
			os.Unsetenv(name)
		}
	}
}

func TestParse(t *testing.T) {
	withoutEnvironment(t)
	t.Setenv("NUM_SHARD", "3")
	t.Setenv("HOSTNAME", "0123456789ab") // a container's
	c, err := parse([]string{"-p", "8080", "--max-input-tokens", "100", "--max-total-tokens", "200", "-g", "5", "--cors-allow-origin", "a",
		"--cors-allow-origin", "b"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.role != "serve" || c.NumShard != 3 || c.Port != 8080 || c.MaxInputLength != 100 || c.Hostname != "0.0.0.0" || c.Graceful != 5 ||
		len(c.CORSAllowOrigin) != 2 || c.MaxConcurrentRequests != 128 || c.MaxBestOf != 2 || c.MaxStopSequences != 4 ||
		c.PayloadLimit != 0 {
		t.Errorf("got %+v", c)
	}
	t.Setenv("LOCKSTEP_ADMISSION", "past-future")
	t.Setenv("LOCKSTEP_DISABLE_PREFIX_CACHE", "true")
	c, err = parse([]string{"--overload", "wait", "--max-queue-size", "7", "--queue-timeout", "1.5", "--tgi-version", "3"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	l := launcher{command: c}
	if r := l.routerConfig(); r.Admission != "past-future" || r.Overload != "wait" || r.MaxQueueSize != 7 || r.QueueTimeout != 1.5 ||
		r.TGIVersion != "3" || !c.DisablePrefixCache {
		t.Errorf("got %+v", r)
	}
	c, err = parse([]string{"node", "--hostname", "127.0.0.3", "--join", "127.0.0.2"}, io.Discard)
	if err != nil || c.GossipAddress != "127.0.0.3:7946" || !strings.HasSuffix(c.NodeName, "-127-0-0-3") {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestParseAdapters(t *testing.T) {
	withoutEnvironment(t)
	c, err := parse([]string{"--backend", "sim", "--lora-adapters", "a=/x/y=z, org/b", "--lora-adapters", "c=d"}, io.Discard)
	want := []shard.Adapter{{Name: "a", Path: "/x/y=z"}, {Name: "org/b", Path: "org/b"}, {Name: "c", Path: "d"}}
	if err != nil || !reflect.DeepEqual(c.adapters, want) {
		t.Errorf("got %v, %v, want %v", c.adapters, err, want)
	}
}

// refusals are command lines that cannot run, and what is said of them.
var refusals = []struct{ arguments, want string }{
	{"--nope", "unknown flag --nope"},
	{"--port x", "--port"},
	{"--tgi-version 2", "--tgi-version must be one of"},
	{"--admission aggressive", "--admission must be one of"},
	{"--overload panic", "--overload must be one of"},
	{"--max-queue-size 0", "--max-queue-size must be > 0, got 0"},
	{"--queue-timeout=-1", "--queue-timeout must lie between 0 and 86400 seconds, got -1"},
	{"--port 70000", "--port must lie between 0 and 65535, got 70000"},
	{"--quantize int3", "--quantize must be one of \"awq\","},
	{"--quantize int8 --backend sim", "--quantize is of weights"},
	{"--speculate 8", "--speculate must lie between 0 and 7, got 8"},
	{"--speculate=-1", "--speculate must lie between 0 and 7, got -1"},
	{"--speculate 2 --kernels ptx", "--speculate guesses tokens on CPUs only"},
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
	{"--lora-adapters a", "no directory with an adapter_config.json"},
	{"--lora-adapters a=/x --backend cpu", "fetches no adapters by name"},
	{"--lora-adapters a=", "--lora-adapters"},
	{"--lora-adapters a=/x,a=/y --backend sim", "two adapters are called"},
	{"--lora-adapters None=/x --backend sim", "cannot be called"},
	{"--lora-adapters a= --backend sim", "want NAME=PATH"},
	{"--lora-adapters=", "--lora-adapters has an empty value"},
	{"--otlp-endpoint http://x", "--otlp-endpoint"},
	{"--cuda-memory-fraction 0.5", "--cpu-memory-fraction is its sibling"},
	{"--usage-stats on", "--usage-stats"},
	{"--ngrok", "--ngrok"},
	{"--rope-factor 2", "--rope-factor"},
	{"--max-input-length 5 --max-input-tokens 6", "not both"},
	{"--max-input-length 5 --max-total-tokens 5", "--max-input-length (5) must be < --max-total-tokens (5)"},
	{"--max-total-tokens 17 --max-batch-total-tokens 16", "must be <= --max-batch-total-tokens (16)"},
	{"--max-total-tokens 1", "--max-total-tokens must be at least 2"},
	{"--max-batch-total-tokens 8", "--max-batch-total-tokens must be at least 16"},
	{"--num-shard 0", "--num-shard must be > 0; leave it out"},
	{"--max-batch-size 0", "--max-batch-size must be > 0"},
	{"--threads 0", "--threads must be > 0"},
	{"--max-input-length 0", "--max-input-length must be > 0"},
	{"--api-key=", "--api-key has an empty value"},
	{"--api-key a --api-key=", "--api-key has an empty value"},
	{"--api-key a,,b", "--api-key has an empty value"},
	{"--cluster-key=", "--cluster-key has an empty value"},
	{"--tls-cert=", "--tls-cert has an empty value"},
	{"--tls-client-ca=", "--tls-client-ca has an empty value"},
	{"--model-id=", "--model-id has an empty value"},
	{"--nats-url=", "--nats-url has an empty value"},
	{"--join=", "--join has an empty value"},
	{"--log-level loud", "--log-level \"loud\": want trace"},
	{"--watermark-gamma 0.25", "watermarks have TGI's default gamma"},
	{"--max-top-n-tokens 65", "--max-top-n-tokens must lie between 0 and 64, got 65"},
	{"--validation-workers 0", "--validation-workers must be > 0"},
	{"--sharded true --num-shard 1", "--sharded true asks for several shards"},
	{"--sharded false --num-shard 2", "--sharded false asks for one shard"},
	{"--num-shard 65", "--num-shard must be at most 64"},
	{"--num-shard=-1", "--num-shard must not be negative"},
	{"--cpu-memory-fraction 1.5", "--cpu-memory-fraction"},
	{"--hostname example.org", "not an IP address"},
	{"--kernels neon", "--kernels"},
	{"--backend tpu", "--backend"},
	{"--backend sim --kernels go", "--kernels go chooses how the CPU computes, and --backend sim does not"},
	{"--step-model 10ms", "--step-model tells how long the steps of --backend sim take"},
	{"--backend sim --step-model=-1s", "--step-model: steps of -1s: want 0s to 1h"},
	{"--backend sim --step-model /dev/zero", "--step-model"},
	{"--max-batch-total-tokens 15", "--max-batch-total-tokens must be at least 16, a block of the KV cache, got 15"},
	{"--model-id /no/such/model", "no such file or directory"},
	{"--node-name a.b", "--node-name"},
	{"--gossip-address here", "--gossip-address"},
	{"--nats-url nats://x --join y", "--nats-url replaces the embedded NATS server"},
	{"router", "--join"},
	{"shard --group g --rank 0", "shards are started by the launcher"},
	{"node --port 3000", "unknown flag --port"},
	{"dance", "unexpected argument dance"},
}

// Every refusal says what is wrong and, where there is one, the way out.
func TestRefusals(t *testing.T) {
	withoutEnvironment(t)
	directory := t.TempDir()
	file := filepath.Join(directory, "model.bin")
	os.WriteFile(file, nil, 0o600)
	dangling := filepath.Join(directory, "m.gguf")
	os.Symlink("gone", dangling)
	configured := t.TempDir()
	os.Symlink("gone", filepath.Join(configured, "config.json"))
	if _, err := parse([]string{"--model-id", configured}, io.Discard); err != nil { // there is a config.json: the shards say what it is
		t.Error(err)
	}
	for _, test := range append([]struct{ arguments, want string }{
		{"--model-id " + directory, "has no config.json"},
		{"--model-id " + dangling, "this is a link to a file that is not there"},
		{"--model-id " + file, "neither a directory nor a .gguf file"},
	}, refusals...) {
		_, err := parse(strings.Fields(test.arguments), io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.arguments, err, test.want)
		}
	}
	for _, arguments := range [][]string{{"--api-key", ""}, {"-p", " "}, {"serve", "--cluster-key", ""},
		{"certs", "folder", "--password", ""}, {"certs", "folder", "--password="}} {
		if _, err := parse(arguments, io.Discard); err == nil {
			t.Errorf("%q was taken", arguments)
		}
	}
}

// What TGI's users set out of habit and the server does anyway is accepted.
func TestHarmlessFlagsAreAccepted(t *testing.T) {
	withoutEnvironment(t)
	t.Setenv("TRUST_REMOTE_CODE", "false")
	if _, err := parse(strings.Fields("--cuda-memory-fraction 1.0 --usage-stats off --max-top-n-tokens 5"),
		io.Discard); err != nil {
		t.Error(err)
	}
}

// variables are all that the commands read, by reflection.
func variables() (names []string) {
	var visit func(reflect.Type)
	visit = func(t reflect.Type) {
		for i := range t.NumField() {
			if name := t.Field(i).Tag.Get("env"); name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
			if t.Field(i).Type.Kind() == reflect.Struct {
				visit(t.Field(i).Type)
			}
		}
	}
	visit(reflect.TypeFor[commandLine]())
	return names
}

// A variable that is empty, or blank, is one that is not set, whichever it is.
func TestEmptyVariables(t *testing.T) {
	withoutEnvironment(t)
	names := variables()
	if len(names) < 60 {
		t.Fatalf("found only %d variables: %v", len(names), names)
	}
	for _, arguments := range [][]string{{"serve"}, {"node", "--insecure"}, {"router", "--join", "10.0.0.1", "--insecure"}} {
		want, err := parse(arguments, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"", " "} {
			for _, name := range names {
				t.Setenv(name, value)
			}
			got, err := parse(arguments, io.Discard)
			if err != nil {
				t.Fatalf("%v with %q: %v", arguments, value, err)
			}
			warned := strings.Join(got.warnings, "\n")
			for _, name := range []string{"API_KEY", "LOCKSTEP_TLS_CERT", "LOCKSTEP_TLS_CLIENT_CA", "LOCKSTEP_CLUSTER_KEY"} {
				if !strings.Contains(warned, name+" is set and empty") {
					t.Errorf("%v: no warning of %s in %s", arguments, name, warned)
				}
			}
			got.warnings = nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%v with %q: got %+v, want %+v", arguments, value, got, want)
			}
		}
	}
}

// An environment that TGI's launcher takes starts the server. What is ignored is said once; what would give other tokens
// is refused.
func TestEnvironmentOfTGI(t *testing.T) {
	for _, test := range []struct{ variables, refused, warned string }{
		{"LOG_LEVEL=info,text_generation_router=debug", "", ""},
		{"LOG_LEVEL=loud", "", `"loud" is none of`},
		{"HUGGINGFACE_HUB_CACHE=/data MASTER_ADDR=localhost MASTER_PORT=29500 SHARD_UDS_PATH=/tmp/x", "",
			"HUGGINGFACE_HUB_CACHE in the environment is ignored: nothing is downloaded yet"},
		{"REVISION=main DTYPE=float16 CUDA_GRAPHS=1,2,4 SPECULATE=2 USAGE_STATS=on", "", "DTYPE in the environment is ignored"},
		{"TRUST_REMOTE_CODE=1 NGROK=false", "", "TRUST_REMOTE_CODE in the environment is ignored: no model code is ever executed"},
		{"JSON_OUTPUT=on", "", ""},
		{"MAX_INPUT_LENGTH=100 MAX_INPUT_TOKENS=100", "", ""},
		{"CUDA_GRAPHS=0 CUDA_MEMORY_FRACTION=1.0 WATERMARK_GAMMA=0.5 WATERMARK_DELTA=2.0", "", ""},
		{"QUANTIZE=gptq", "", ""},
		{"ROPE_SCALING=dynamic", "tokens would be others", ""},
		{"LORA_ADAPTERS=a", "no directory with an adapter_config.json", ""},
		{"LORA_ADAPTERS=a=/x,org/b LOCKSTEP_BACKEND=sim", "", ""},
		{"TOKENIZER_CONFIG_PATH=/x", "prompts of chats would be others", ""},
		{"WATERMARK_GAMMA=0.25", "default gamma, 0.5", ""},
		{"NUM_SHARD=0", "NUM_SHARD must be > 0", ""},
		{"MAX_BATCH_SIZE=0", "MAX_BATCH_SIZE must be > 0", ""},
		{"API_KEY=,", "API_KEY has an empty value", ""},
	} {
		t.Run(test.variables, func(t *testing.T) {
			withoutEnvironment(t)
			for _, pair := range strings.Fields(test.variables) {
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			c, err := parse(nil, io.Discard)
			switch {
			case test.refused != "":
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("got %v, want %q", err, test.refused)
				}
			case err != nil:
				t.Error(err)
			case test.warned == "" && len(c.warnings) > 0, !strings.Contains(strings.Join(c.warnings, "\n"), test.warned):
				t.Errorf("got warnings %q, want %q", c.warnings, test.warned)
			}
			if strings.HasPrefix(test.variables, "JSON_OUTPUT") && !c.JSONOutput {
				t.Error("JSON_OUTPUT=on is off")
			}
		})
	}
}

// Of a filter, what applies to everything is the level; the flag is no place for anything else.
func TestLogLevel(t *testing.T) {
	for filter, want := range map[string]string{"debug": "debug", "WARN": "warn", "info,text_generation_router=debug": "info",
		"hyper=off, debug":             "debug",
		"text_generation_router=trace": "info", "off": "disabled", "warning": "warn", "info,[span{x=1}]=trace,error": "error",
		"nonsense": "info"} {
		if got, _ := logLevel(filter); got != want {
			t.Errorf("%q: got %q, want %q", filter, got, want)
		}
	}
}

func TestShareOut(t *testing.T) {
	for _, test := range []struct {
		cores, perCore, quota, ranks, threads int
		want                                  parts
	}{
		{2, 1, 0, 2, 0, parts{threads: 1, cpus: [][]int{{0}, {1}}}},
		{4, 1, 0, 2, 0, parts{threads: 2, cpus: [][]int{{0, 1}, {2, 3}}}},
		{4, 1, 4, 2, 0, parts{threads: 2, cpus: [][]int{{0, 1}, {2, 3}}}},
		{5, 1, 0, 2, 0, parts{threads: 2, cpus: [][]int{{0, 1}, {2, 3}}}},
		{4, 2, 0, 2, 0, parts{threads: 2, cpus: [][]int{{0, 4, 1, 5}, {2, 6, 3, 7}}}}, // a thread for each core
		{4, 2, 0, 2, 4, parts{threads: 4}},                                            // or as many as asked for
		{4, 2, 0, 2, 5, parts{threads: 5, crowded: true}},
		{8, 1, 4, 2, 0, parts{threads: 2}}, // a container's quota: any core may serve it
		{8, 2, 1, 1, 0, parts{threads: 1}},
		{8, 1, 4, 2, 3, parts{threads: 3, crowded: true}},
		{2, 1, 0, 4, 0, parts{threads: 1, crowded: true}},
		{8, 1, 0, 2, 16, parts{threads: 16, crowded: true}},
	} {
		c := computer{quota: test.quota}
		for i := range test.cores {
			core := machine.Core{}
			for thread := range test.perCore {
				core.CPUs = append(core.CPUs, i+thread*test.cores)
			}
			c.cores = append(c.cores, core)
		}
		if got := c.shareOut(test.ranks, test.threads); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%+v: got %+v", test, got)
		}
	}
}

// The limits of requests come from the flags as they are, zeros too; two depend on the version of TGI where they are not given.
func TestLimits(t *testing.T) {
	withoutEnvironment(t)
	with := func(change func(*request.Limits)) request.Limits {
		l := request.DefaultLimits()
		change(&l)
		return l
	}
	for arguments, want := range map[string]request.Limits{
		"": request.DefaultLimits(),
		"--max-stop-sequences 0 --max-best-of 7 --validation-workers 3": with(func(l *request.Limits) {
			l.MaxStopSequences, l.MaxBestOf, l.ValidationWorkers = 0, 7, 3
		}),
		"--max-top-n-tokens 64":       with(func(l *request.Limits) { l.MaxTopNTokens = 64 }),
		"--max-concurrent-requests 9": with(func(l *request.Limits) { l.MaxConcurrentRequests, l.MaxClientBatchSize = 9, 9 }),
		"--tgi-version 3":             with(func(l *request.Limits) { l.MaxClientBatchSize, l.PayloadLimit = 4, 2_000_000 }),
		"--tgi-version 3 --max-client-batch-size 8 --payload-limit 10": with(func(l *request.Limits) {
			l.MaxClientBatchSize,
				l.PayloadLimit = 8, 10
		}),
	} {
		c, err := parse(strings.Fields(arguments), io.Discard)
		if got := c.limits(); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", arguments, got, err, want)
		}
	}
}

// Numbers that no sum survives, and those that are none, are refused; a switch that weakens wants a clear yes; and a variable
// that is empty beside its flag opens nothing.
func TestOddValues(t *testing.T) {
	withoutEnvironment(t)
	for _, arguments := range []string{"--payload-limit 9223372036854775807", "--max-queue-size 9223372036854775807",
		"--max-concurrent-requests 9223372036854775807",
		"--cpu-memory-fraction nan", "--queue-timeout nan", "--waiting-served-ratio inf", "--listen tgi=4475", "--listen tgi=host:"} {
		if _, err := parse(strings.Fields(arguments), io.Discard); err == nil ||
			!strings.Contains(err.Error(), strings.Fields(arguments)[0]) {
			t.Errorf("%s: got %v", arguments, err)
		}
	}
	t.Setenv("API_KEY", "")
	if c, err := parse([]string{"--api-key", "x"}, io.Discard); err != nil || len(c.warnings) > 0 {
		t.Errorf("a key is given: %q, %v", c.warnings, err)
	}
	t.Setenv("LOCKSTEP_NATS_PORT", "tcp://10.0.0.1:4222") // of a service lockstep-nats
	if c, err := parse([]string{"--api-key", "x"}, io.Discard); err != nil || c.NATSPort != 0 || len(c.warnings) != 1 {
		t.Errorf("Kubernetes' variable: %q, %v", c.warnings, err)
	}
	os.Unsetenv("LOCKSTEP_NATS_PORT")
	t.Setenv("API_KEY", "")
	if c, err := parse(nil, io.Discard); err != nil || len(c.warnings) != 1 {
		t.Errorf("no key is given: %q, %v", c.warnings, err)
	}
	for text, want := range map[string]bool{"nope": false, "x": false, "0": false, "yes": true, "1": true, "TRUE": true} {
		t.Setenv("LOCKSTEP_INSECURE", text)
		if c, err := parse(nil, io.Discard); err != nil || c.Insecure != want {
			t.Errorf("LOCKSTEP_INSECURE=%s: got %v, %v", text, c.Insecure, err)
		}
	}
}

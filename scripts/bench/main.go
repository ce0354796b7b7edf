// Command bench compares Lockstep with other servers of language models, on the same weights in the same run: llama.cpp's
// llama-server and vLLM for CPUs. All servers live at once and one of them is loaded at a time, in an order that rotates from round to
// round; before each sample the machine's read bandwidth and vector peak are probed, and what other processes took of the processors
// during it is told. At the end stands how near each server comes to what those probes allow (limit.go).
//
//	make build && scripts/get-model smollm2
//	go run ./scripts/bench [-rounds 3] [-peers llama.cpp,vllm] [-workloads 1,4,16,64,prefill,prefix]
//	  [-servers 'lockstep bf16; lockstep q8_0 --threads 1; /old/lockstep bf16; llama.cpp q8_0; vllm bf16']
//
// A server is a program, its weights and further flags of its own. Programs are lockstep (bin/lockstep, or the path of another
// build), llama.cpp and vllm. Weights are bf16 (the fetched file, widened), q8_0 (made of these) and q4_1 (as fetched); vLLM has bf16
// only. Peers that are not there are left out; -peers names those that may be built or installed, in the user's cache folder: that
// takes python3 with pip, for llama.cpp cmake and a C++ compiler, and up to an hour.
//
// Workloads: so many clients, each with a prompt of 200 tokens of its own and 64 tokens of answer; prefill: one client, 512 tokens and
// one of answer; prefix: 16 clients whose prompts begin with 400 tokens that the server has seen, and 16 tokens of answer; copy, edit,
// code, prose: one client with that task, as chats ask it, and 200 tokens of answer (what --speculate is worth).
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"lockstep/scripts/machine"
	"lockstep/shard/cpu"
)

const defaultServers = "lockstep bf16; lockstep q8_0; lockstep q4_1; llama.cpp bf16; llama.cpp q8_0; llama.cpp q4_1; vllm bf16"

func main() {
	log.SetFlags(0)
	var b bench
	servers := flag.String("servers", defaultServers, "what is compared, with ; between them")
	peers := flag.String("peers", "", "peers that are built or installed where they are missing: llama.cpp, vllm")
	workloads := flag.String("workloads", "1,4,16,64,prefill,prefix", "what the servers do")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds")
	flag.IntVar(&b.retries, "retries", 1, "how often a sample is repeated that others have disturbed")
	flag.DurationVar(&b.patience, "patience", 20*time.Second, "how long each sample waits at most for others to leave the processors alone")
	flag.StringVar(&b.model, "model", "SmolLM2-135M-Instruct.Q4_1.gguf", "fetched model, a Llama")
	flag.StringVar(&b.text, "text", "docs/architecture.md", "text of which prompts are made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, *servers, *peers, *workloads); ctx.Err() != nil {
		log.Fatal("interrupted")
	} else if err != nil {
		log.Fatal(err)
	}
}

// bench is a comparison.
type bench struct {
	rounds, retries int
	patience        time.Duration
	model, text     string
	folder          string // below the user's cache folder
	contestants     []*contestant
	loads           []workload
	probe           *machine.Probe
	prompts         prompts
	counts          work
}

func (b *bench) run(ctx context.Context, servers, peers, workloads string) (err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	b.folder = filepath.Join(cache, "lockstep")
	if b.loads, err = parseWorkloads(workloads); err != nil {
		return err
	}
	if b.contestants, err = parseServers(servers); err != nil {
		return err
	}
	if err := b.install(ctx, peers); err != nil {
		return err
	}
	if b.prompts, err = newPrompts(filepath.Join(b.folder, b.model), b.text); err != nil {
		return err
	}
	if b.counts, err = workOf(filepath.Join(b.folder, b.model)); err != nil {
		return err
	}
	defer b.stop()
	if err := b.start(ctx); err != nil {
		return err
	}
	kernels := cpu.Best()
	b.probe = machine.NewProbe(kernels, runtime.NumCPU(), probeBytes)
	fmt.Printf("\n%s, %d processors, %s kernels, %s; %s\n", machine.Processor(), runtime.NumCPU(), kernels.Name(),
		time.Now().Format(time.DateOnly), quoted(os.Args[1:]))
	for _, c := range b.contestants {
		fmt.Printf("- %s: %s\n", c.name, c.version)
	}
	err = b.measure(ctx)
	b.report(os.Stdout) // of an interrupted run what there is
	return err
}

// quoted is a command's arguments as a shell takes them.
func quoted(arguments []string) string {
	var line strings.Builder
	for _, a := range arguments {
		if line.WriteByte(' '); strings.ContainsAny(a, " ;") {
			a = "'" + a + "'"
		}
		line.WriteString(a)
	}
	return "bench" + line.String()
}

// start starts all servers, one after the other, and answers a few requests with each so that what happens once has happened.
func (b *bench) start(ctx context.Context) error {
	var started []*contestant
	for _, c := range b.contestants {
		if reason := b.missing(c); reason != "" {
			fmt.Printf("%s is left out: %s\n", c.name, reason)
			continue
		}
		if err := b.prepare(c.weights, c.program == vllmName); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Printf("starting %s\n", c.name)
		if err := b.launch(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		started = append(started, c)
		if _, err := b.load(ctx, c, workload{name: "warm-up", clients: 4, requests: 2, prompt: 200, tokens: 8}, 0); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if b.contestants = started; len(started) == 0 {
		return fmt.Errorf("there is no server to measure")
	}
	return nil
}

// stop ends all servers that live.
func (b *bench) stop() {
	done := make(chan struct{})
	live := slices.DeleteFunc(slices.Clone(b.contestants), func(c *contestant) bool { return c.server == nil })
	for _, c := range live {
		go func() {
			c.server.Stop() // that it had to be killed changes no figure
			done <- struct{}{}
		}()
	}
	for range live {
		<-done
	}
}

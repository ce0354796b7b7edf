// Command speed measures the engine beside the machine's own limits, in one run: the read bandwidth and the peak of the
// vector unit, then for each model the decode of one and of sixteen sequences and the prefill of 512 tokens, as shares of
// what those limits allow; and two shards of one thread against one shard of two threads; of a model with adapters also the
// decode of sixteen sequences with ten of them.
//
//	go run ./scripts/speed [-rounds 3] [-numerics f32] [-models smollm2-bf16,smollm2-q4_1,llama-1b]
//	go run ./scripts/speed -loading 1 -models llama-1b
//	go run ./scripts/speed -neighbours 1 -models smollm2-bf16
//	go run ./scripts/speed -accuracy FILE -models smollm2-q4_1,smollm2-q4_1+widened
//
// The second measures the memory and time that loading takes, for one model, since a process has one peak; the third what is left
// of the speed of several groups beside processes that keep a core busy each; the fourth how far the arithmetics are from the
// exact one on the first 1,024 tokens of a text.
// smollm2-q4_1 and qwen2.5-coder-q4_k_m are the files that scripts/get-model brings; the others have random weights in the shape
// of their name. Behind a name, +widened brings a fetched model into bf16, +int8 and +int4 quantise at load as --quantize does,
// and +adapters adds ten random ones of rank 16.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"lockstep/scripts/machine"
	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

const (
	threads     = 2
	prefill     = 512
	context     = 128 // positions before the decode steps that are timed
	decodeSteps = 32
	readBytes   = 1 << 30
	batch       = 16
	blockTokens = 16
	blockCount  = batch*(context+decodeSteps+16)/blockTokens + 64
	gigabyte    = 1e9
)

func main() {
	rounds := flag.Int("rounds", 3, "rounds; the median of each figure is printed")
	names := flag.String("models", "smollm2-bf16,smollm2-q4_1,llama-1b", "which models")
	textFile := flag.String("accuracy", "", "a text: tell how far the arithmetics are from the exact one on it, in place of all else")
	kernelName := flag.String("kernels", "", "kernel path; empty: the best")
	flag.StringVar(&numerics, "numerics", "", "arithmetic, one of "+strings.Join(host.Numerics, ", ")+"; empty: the fastest that suits")
	loading := flag.Int("loading", 0, "measure how one rank of so many loads each model in place of all else; 0: do not")
	neighbours := flag.Int("neighbours", 0, "measure each model beside so many busy processes in place of all else; 0: do not")
	spin := flag.Bool("spin", false, "be such a process")
	flag.Parse()
	if *spin {
		spinForEver()
	}
	runtime.GOMAXPROCS(4*threads + 2) // both groups live at once; in the server each rank has a process of its own
	kernels := cpu.Best()
	if *kernelName != "" {
		var err error
		if kernels, err = cpu.Named(*kernelName); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Printf("%s, %s kernels, %d threads, %s\n", machine.Processor(), kernels.Name(), threads, time.Now().Format(time.DateOnly))
	for _, name := range strings.Split(*names, ",") {
		var err error
		switch {
		case *loading > 0:
			err = measureLoading(name, *loading, kernels)
		case *neighbours > 0:
			err = measureNeighbours(name, kernels, *rounds, *neighbours)
		case *textFile != "":
			err = measureAccuracy(name, kernels, *textFile)
		default:
			err = measure(name, kernels, *rounds)
		}
		if err != nil {
			log.Fatalf("%s: %v", name, err)
		}
	}
}

// numerics is what is asked for.
var numerics string

// options are how a backend computes here.
func options(kernels *cpu.Kernels) host.Options {
	return host.Options{Kernels: kernels, Numerics: numerics, Progress: func(float64) {}}
}

// figures of one round; rates are tokens per second.
type figures struct {
	bandwidth, peak                  float64 // bytes/s, FLOP/s
	decode1, decode16, prefillTokens float64
	adapted16                        float64 // ten adapters and the base
	shards1, shardsPrefill           float64 // two shards of one thread
}

func measure(name string, kernels *cpu.Kernels, rounds int) error {
	source, err := openModel(name)
	if err != nil {
		return err
	}
	defer source.cleanup()
	defer source.Close()
	one, err := newGroup(source, 1, threads, options(kernels))
	if err != nil {
		return err
	}
	defer one.close()
	two, err := newGroup(source, 2, 1, options(kernels))
	if err != nil {
		return err
	}
	defer two.close()
	var all []figures
	probe := machine.NewProbe(kernels, threads, readBytes)
	for range rounds {
		var f figures
		f.bandwidth, f.peak = probe.Limits()
		f.decode1, f.decode16, f.prefillTokens = one.decode(1, 0), one.decode(batch, 0), one.prefill()
		f.shards1, f.shardsPrefill = two.decode(1, 0), two.prefill()
		if len(source.adapters) > 0 {
			f.adapted16 = one.decode(batch, len(source.adapters))
		}
		all = append(all, f)
	}
	report(name, source, all)
	return nil
}

func report(name string, source *opened, all []figures) {
	median := func(value func(f figures) float64) float64 {
		var values []float64
		for _, f := range all {
			values = append(values, value(f))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	bytes, flops := perToken(source)
	fmt.Printf("\n%s: %.0f MB read and %.2f GFLOP computed for a token; median of %d rounds\n", name, bytes/1e6, flops/1e9, len(all))
	line := func(what string, value float64, unit, share string, ratio float64) {
		fmt.Printf("  %-34s %8.1f %-9s %5.0f%% %s\n", what, value, unit, 100*ratio, share)
	}
	fmt.Printf("  %-34s %8.1f GB/s, vector peak %.0f GFLOP/s (f32 FMA)\n", "read bandwidth",
		median(func(f figures) float64 { return f.bandwidth })/gigabyte, median(func(f figures) float64 { return f.peak })/1e9)
	line("decode, batch 1", median(func(f figures) float64 { return f.decode1 }), "tokens/s", "of the bandwidth",
		median(func(f figures) float64 { return f.decode1 * bytes / f.bandwidth }))
	line("decode, batch 16", median(func(f figures) float64 { return f.decode16 }), "tokens/s", "of batch 1",
		median(func(f figures) float64 { return f.decode16 / f.decode1 }))
	if len(source.adapters) > 0 {
		line("decode, batch 16, ten adapters", median(func(f figures) float64 { return f.adapted16 }), "tokens/s", "of the base alone",
			median(func(f figures) float64 { return f.adapted16 / f.decode16 }))
	}
	line("prefill of 512", median(func(f figures) float64 { return f.prefillTokens }), "tokens/s", "of the vector peak",
		median(func(f figures) float64 { return f.prefillTokens * flops / f.peak }))
	line("2 shards of 1 thread, batch 1", median(func(f figures) float64 { return f.shards1 }), "tokens/s", "of 1 shard of 2 threads",
		median(func(f figures) float64 { return f.shards1 / f.decode1 }))
	line("2 shards of 1 thread, prefill", median(func(f figures) float64 { return f.shardsPrefill }), "tokens/s", "of 1 shard of 2 threads",
		median(func(f figures) float64 { return f.shardsPrefill / f.prefillTokens }))
}

// perToken is what a token costs at least: the weights' bytes, and two operations for each weight of a layer (the head is
// left out: a prefill computes it once). Of experts, two count.
func perToken(source *opened) (bytes, flops float64) {
	part, err := source.Part(0, 1)
	if err != nil {
		log.Fatal(err)
	}
	linear := func(share float64, linears ...*model.Linear) {
		for _, l := range linears {
			flops += 2 * share * float64(l.Rows.Size()*l.Columns.Size())
			bytes += share * float64(l.Rows.Size()*l.Encoding.RowBytes(l.Columns.Size()))
		}
	}
	for _, stage := range part.Stages {
		switch s := stage.(type) {
		case *model.Project:
			linear(1, &s.Query, &s.Key, &s.Value)
		case *model.Join:
			linear(1, &s.Weight)
		case *model.Gate:
			linear(1, s.Gate, &s.Up)
		case *model.Experts:
			for i := range s.Experts {
				e := &s.Experts[i]
				linear(float64(s.Routing.Chosen)/float64(len(s.Experts)), &e.Gate, &e.Up, &e.Down)
			}
		case *model.Head:
			layers := flops
			linear(1, &s.Weight)
			flops = layers
		}
	}
	return bytes, flops
}

// group is the ranks of a model as threads of this process; what they share is what processes would.
type group struct {
	steps    []chan []model.Chunk
	done     chan error
	vocab    int32
	finished sync.WaitGroup
	memory   *os.File
	consume  func(model.Scores)
}

func newGroup(source *opened, ranks, threads int, options host.Options) (*group, error) {
	memory, err := collective.NewMemory("speed")
	if err != nil {
		return nil, err
	}
	g := &group{done: make(chan error, ranks), vocab: int32(source.Config.Vocabulary), memory: memory, consume: func(model.Scores) {}}
	for rank := range ranks {
		steps := make(chan []model.Chunk)
		g.steps = append(g.steps, steps)
		g.finished.Go(func() {
			var cpus []int
			for i := range threads { // as the launcher shares them out
				if ranks*threads <= runtime.NumCPU() {
					cpus = append(cpus, rank*threads+i)
				}
			}
			team := workers.New(threads, cpus)
			defer team.Close()
			part, err := source.Part(rank, ranks, source.adapters...)
			var b *host.Backend
			if err == nil {
				b, err = host.Load(part, team, options)
			}
			if err == nil {
				reduce, gather := b.ExchangeFloats(prefill)
				sizes := collective.Sizes{Ranks: ranks, ReduceFloats: reduce, GatherFloats: gather, PlanBytes: 64,
					Crowded: ranks*threads > runtime.NumCPU()}
				var shared *collective.Group
				if shared, err = collective.Open(memory, rank, sizes); err == nil {
					defer shared.Close()
					err = b.Attach(shared, blockCount, prefill)
				}
				defer b.Close() // before the group, whose memory it fills
			}
			g.done <- err
			for chunks := range steps {
				g.done <- b.Forward(chunks, g.consume)
			}
		})
	}
	return g, g.wait()
}

func (g *group) wait() error {
	var first error
	for range g.steps {
		if err := <-g.done; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (g *group) close() {
	for _, steps := range g.steps {
		close(steps)
	}
	g.finished.Wait()
	g.memory.Close()
}

func (g *group) step(chunks []model.Chunk) time.Duration {
	start := time.Now()
	for _, steps := range g.steps {
		steps <- chunks
	}
	if err := g.wait(); err != nil {
		log.Fatal(err)
	}
	return time.Since(start)
}

func (g *group) tokens(count, seed int) []int32 {
	out := make([]int32, count)
	for i := range out {
		out[i] = int32(seed*7919+i*104729) % g.vocab
		if out[i] < 0 {
			out[i] += g.vocab
		}
	}
	return out
}

func blocks(sequence, tokens int) []int32 {
	var out []int32
	for i := range (tokens + blockTokens - 1) / blockTokens {
		out = append(out, int32(sequence*((tokens+blockTokens-1)/blockTokens)+i))
	}
	return out
}

// prefill returns tokens per second of one prompt.
func (g *group) prefill() float64 {
	chunk := model.Chunk{PromptTokens: prefill, Tokens: g.tokens(prefill, 1), Blocks: blocks(0, prefill), Logits: model.LogitsLast}
	best := g.step([]model.Chunk{chunk})
	for range 2 {
		best = min(best, g.step([]model.Chunk{chunk}))
	}
	return prefill / best.Seconds()
}

// decode returns tokens per second of all sequences together, of which the first use an adapter each.
func (g *group) decode(sequences, adapters int) float64 {
	chunks := make([]model.Chunk, sequences)
	for i := range chunks {
		chunks[i] = model.Chunk{PromptTokens: context, Tokens: g.tokens(context, i), Blocks: blocks(i, context+decodeSteps),
			Logits: model.LogitsNone}
		if i < adapters {
			chunks[i].Adapter = i + 1
		}
		g.step(chunks[i : i+1])
	}
	var total time.Duration
	for step := range decodeSteps {
		for i := range chunks {
			chunks[i].Start, chunks[i].Tokens, chunks[i].Logits = context+step, g.tokens(1, step+i), model.LogitsLast
		}
		total += g.step(chunks)
	}
	return float64(sequences*decodeSteps) / total.Seconds()
}

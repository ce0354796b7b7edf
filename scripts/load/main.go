// Command load drives a whole server, bin/lockstep, as its clients do, and prints what they saw.
//
//	make build
//	go run ./scripts/load prefix [-model FILE] [-clients 64] [-requests 4] [-tokens 32] [-rounds 2]
//	go run ./scripts/load overload [-connections 2000] [-leavers 500]
//	go run ./scripts/load replay -trace FILE [-requests 100] [-rate R] [-model FILE] [-policy past-future]
//	  [-capacity 32768] [-scale 1] [-compare]
//	go run ./scripts/load faults [-binary FILE] [-streams 30] [-tokens 400]
//	go run ./scripts/load siege [-binary FILE] [-bodies 800] [-connections 8192]
//	go run ./scripts/load guided [-model FILE] [-streams 64] [-tokens 96] [-rounds 5]
//	go run ./scripts/load aiperf [-clients 4] [-requests 64] [-prompt 100] [-tokens 64] [-rounds 3] [-model FILE -tokenizer FOLDER]
//
// prefix: clients whose prompts begin with one system prompt of 400 tokens, with the prefix cache and without, in turn.
// overload: more connections at once than are allowed, and clients that leave at random moments.
// aiperf: AIPerf drives the server over OpenAI's chats and prints its tables; then a client of our own sends the same bodies.
// faults: seeded streams while a process of the server dies or stands still, one table row for each fault.
// guided: sequences that guides constrain beside unguided ones of the same lengths, in turn.
// siege: what a client without a key, an unread log and idle connections can do to a server.
// replay: a trace's requests at their moments, and with -compare the simulator's result for the same requests.
package main

import (
	"flag"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: load prefix|overload|faults|guided|siege|aiperf|replay [flags]")
	}
	test := tests[os.Args[1]]
	if test == nil {
		log.Fatalf("%q: want prefix, overload, faults, guided, siege, aiperf or replay", os.Args[1])
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	run := test(flags)
	flags.Parse(os.Args[2:])
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// tests define their flags and return what runs them.
var tests = map[string]func(*flag.FlagSet) func() error{
	"prefix":   prefixFlags,
	"overload": overloadFlags,
	"faults":   faultsFlags,
	"guided":   guidedFlags,
	"siege":    siegeFlags,
	"aiperf":   aiperfFlags,
	"replay":   replayFlags,
}

func prefixFlags(flags *flag.FlagSet) (run func() error) {
	var p prefixTest
	flags.StringVar(&p.model, "model", "", "model; empty: the demo model")
	flags.IntVar(&p.clients, "clients", 64, "clients at once")
	flags.IntVar(&p.requests, "requests", 4, "requests of each client, one after another")
	flags.IntVar(&p.tokens, "tokens", 32, "tokens that each request generates")
	flags.IntVar(&p.rounds, "rounds", 2, "rounds with and without cache, in turn")
	return p.run
}

func overloadFlags(flags *flag.FlagSet) (run func() error) {
	var o overloadTest
	flags.IntVar(&o.connections, "connections", 2000, "connections at once")
	flags.IntVar(&o.leavers, "leavers", 500, "clients that leave at random moments")
	return o.run
}

func faultsFlags(flags *flag.FlagSet) (run func() error) {
	var f faultsTest
	flags.StringVar(&binary, "binary", binary, "build to measure")
	flags.IntVar(&f.streams, "streams", 30, "streams at once")
	flags.IntVar(&f.tokens, "tokens", 400, "tokens of each")
	return f.run
}

func guidedFlags(flags *flag.FlagSet) (run func() error) {
	var g guidedTest
	flags.StringVar(&binary, "binary", binary, "build to measure")
	flags.StringVar(&g.model, "model", "", "model; empty: the demo model")
	flags.IntVar(&g.streams, "streams", 64, "sequences at once")
	flags.IntVar(&g.tokens, "tokens", 96, "tokens of each")
	flags.IntVar(&g.rounds, "rounds", 5, "rounds of both, in turn")
	return g.run
}

func siegeFlags(flags *flag.FlagSet) (run func() error) {
	var s siegeTest
	flags.StringVar(&binary, "binary", binary, "build to measure")
	flags.IntVar(&s.bodies, "bodies", 800, "bodies of 1.9 MB at once, without a key")
	flags.IntVar(&s.connections, "connections", 8192, "idle connections")
	flags.StringVar(&s.only, "only", "", "measure only what has this text in its name")
	return s.run
}

func aiperfFlags(flags *flag.FlagSet) (run func() error) {
	var a aiperfTest
	flags.StringVar(&a.model, "model", "", "model; empty: the demo model")
	flags.StringVar(&a.tokenizer, "tokenizer", "launcher/demo/model", "folder with the model's tokenizer.json")
	flags.IntVar(&a.clients, "clients", 4, "requests at once")
	flags.IntVar(&a.requests, "requests", 64, "requests in all")
	flags.IntVar(&a.prompt, "prompt", 100, "tokens of each prompt, before the template")
	flags.IntVar(&a.tokens, "tokens", 64, "tokens that each request generates")
	flags.IntVar(&a.rounds, "rounds", 3, "rounds of both, in turn")
	return a.run
}

func replayFlags(flags *flag.FlagSet) (run func() error) {
	var r replayTest
	flags.StringVar(&r.trace, "trace", "", "trace as lockstep simulate takes it")
	flags.IntVar(&r.requests, "requests", 100, "requests; the trace is cut or repeated")
	flags.Float64Var(&r.rate, "rate", 0, "requests a second to which the time of those that are sent is scaled; 0: as recorded")
	flags.StringVar(&r.model, "model", "", "model; empty: the demo model")
	flags.StringVar(&r.policy, "policy", "past-future", "admission: conservative, peak or past-future")
	flags.IntVar(&r.capacity, "capacity", 32768, "size of the KV cache in tokens")
	flags.Float64Var(&r.scale, "scale", 1, "divides the lengths of prompts and outputs")
	flags.BoolVar(&r.compare, "compare", false, "simulate the same requests, with step times fitted to this run")
	flags.StringVar(&r.stepLog, "step-log", "", "new file for the run's step log; empty: it is not kept")
	flags.StringVar(&r.fit, "fit", "", "step log of another run, to which step times are fitted instead")
	return r.run
}

// Command load drives a whole server, bin/lockstep, as its clients do, and prints what they saw.
//
//	make build
//	go run ./scripts/load prefix [-model FILE] [-clients 64] [-requests 4] [-tokens 32] [-rounds 2]
//	go run ./scripts/load overload [-connections 2000] [-leavers 500]
//
// prefix: clients whose prompts begin with one system prompt of 400 tokens, with the prefix cache and without, in turn.
// overload: more connections at once than are allowed, and clients that leave at random moments.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: load prefix|overload [flags]")
	}
	var err error
	switch flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError); os.Args[1] {
	case "prefix":
		var p prefixTest
		flags.StringVar(&p.model, "model", "", "model; empty: the demo model")
		flags.IntVar(&p.clients, "clients", 64, "clients at once")
		flags.IntVar(&p.requests, "requests", 4, "requests of each client, one after another")
		flags.IntVar(&p.tokens, "tokens", 32, "tokens that each request generates")
		flags.IntVar(&p.rounds, "rounds", 2, "rounds with and without cache, in turn")
		flags.Parse(os.Args[2:])
		err = p.run()
	case "overload":
		var o overloadTest
		flags.IntVar(&o.connections, "connections", 2000, "connections at once")
		flags.IntVar(&o.leavers, "leavers", 500, "clients that leave at random moments")
		flags.Parse(os.Args[2:])
		err = o.run()
	default:
		err = fmt.Errorf("%q: want prefix or overload", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}

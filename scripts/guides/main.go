// Command guides compares what guided decoding costs here with llguidance and xgrammar, of whose Python packages it makes a virtual
// environment in the user's cache folder where that is missing (some gigabytes: xgrammar wants torch).
//
//	scripts/get-tokenizers && LOCKSTEP_SHARED=../shared go run ./scripts/guides [-peers llguidance,xgrammar] [-hostile]
//
// All read the same schemas, those of golden/guided/schema_cases.jsonl that have texts, with any white space and their own rule for
// additional properties, against Llama-3's vocabulary, and then walk the texts that the schemas accept, token by token, in one
// tokenisation. Times are of the CPU, of one thread, in one run, one after another: a schema's until its first mask is there, and for each
// token the time to take it and to find the mask behind it. Everybody keeps what they found out about a schema for its next text, and
// nothing for the next schema but what belongs to the vocabulary. What Go's garbage collector does on other threads is not in our times.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	log.SetFlags(0)
	cache, _ := os.UserCacheDir()
	cache = filepath.Join(cache, "lockstep")
	var c comparison
	shared := flag.String("shared", os.Getenv("LOCKSTEP_SHARED"), "the reference data; default: LOCKSTEP_SHARED")
	tokenizer := flag.String("tokenizer", filepath.Join(cache, "tokenizers", "llama3.json"), "what scripts/get-tokenizers brings")
	hostile := flag.Bool("hostile", false, "measure what was made to hurt, instead: golden/guided/hostile_cases.jsonl, walked at random")
	peers := flag.String("peers", "llguidance,xgrammar", "who is compared with; none: only Lockstep")
	flag.StringVar(&c.folder, "folder", filepath.Join(cache, "guides"), "where the peers' virtual environment is or comes")
	flag.BoolVar(&c.verbose, "v", false, "name the schemas at which masks or texts differ")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.run(ctx, *shared, *tokenizer, *peers, *hostile); err != nil {
		log.Fatal(err)
	}
}

// comparison is one run.
type comparison struct {
	folder  string
	verbose bool
	work    work
}

func (c *comparison) run(ctx context.Context, shared, tokenizer, peers string, hostile bool) error {
	var err error
	if c.work, err = readWork(shared, tokenizer); err != nil {
		return err
	}
	if hostile {
		return c.printHostile(shared)
	}
	own, alone, err := c.measureOwn()
	if err != nil {
		return err
	}
	all := []answers{own}
	for name := range strings.SplitSeq(peers, ",") {
		if name == "" {
			continue
		}
		a, err := c.measurePeer(ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, a)
	}
	c.print(all, alone)
	return nil
}

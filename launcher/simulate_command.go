package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"lockstep/launcher/simulate"
	"lockstep/router/admission"
	"lockstep/shard/sim"
)

// simulateFlags choose what is simulated. Several rates or policies give a table, a single one the whole result.
type simulateFlags struct {
	Trace         string    `placeholder:"FILE" help:"Azure CSV or Mooncake JSONL, also .gz, or - for standard input; or uniform:A-B:C-D for made-up prompts of A to B and outputs of C to D tokens."`
	Requests      int       `placeholder:"N" help:"Requests: the trace is cut or repeated. Default: all of it once; 10000 made-up ones."`
	Rate          []float64 `placeholder:"R,…" help:"Requests a second, to which the trace's time is scaled. Default: as recorded."`
	Policy        []string  `default:"conservative" placeholder:"P,…" help:"Admission: conservative, peak, past-future or aggressive (the baseline that looks at the present only)."`
	Groups        int       `default:"1" help:"Shard groups."`
	Capacity      int       `default:"120000" placeholder:"TOKENS" help:"KV cache of a group."`
	BlockTokens   int       `default:"16" help:"Positions of a KV block."`
	PrefillTokens int       `default:"2048" help:"Prompt tokens that a step computes at most."`
	MaxSequences  int       `default:"256" help:"Sequences of a group that run at once."`
	MaxNewTokens  int       `default:"2048" help:"What clients ask for, while the trace says what comes. 0: clients know the output exactly."`
	NoPrefixCache bool      `help:"Compute every prompt whole."`
	Goodput       []string  `sep:";" default:"ttft:10000,max_itl:1500;ttft:2000,tpot:100" placeholder:"O;…" help:"Objectives as ttft:MS,tpot:MS,e2el:MS,max_itl:MS."`
	Clients       int       `placeholder:"N" help:"A closed loop: so many clients, each sends its next request when its last one has ended."`
	QueueTimeout  float64   `default:"0" placeholder:"SECONDS" help:"How long a request waits before it is refused; 0: for ever."`
	History       int       `placeholder:"N" help:"Ended lengths that past-future draws from."`
	Reserve       int       `placeholder:"PERCENT" help:"Capacity that past-future and aggressive keep free; -1: none."`
	DecodeWeight  float64   `placeholder:"W" help:"Cost of a held token in units of a token to prefill, in the choice of a group."`
	Seed          uint64    `default:"1" help:"Seed of past-future's draws and of made-up traces."`
	StepModel     string    `placeholder:"TIME|FILE" help:"How long a step takes: a time (10ms), or a model that --fit wrote. Default: Llama-2-7B on an A100, as a roofline."`
	Fit           string    `placeholder:"FILE" help:"Instead of simulating: fit a model of step times to the step log of a real run (lockstep serve --step-log) and write it to standard output."`
	JSON          bool      `name:"json" help:"Print a line of JSON for each simulation."`
}

// run simulates and prints to out.
func (f *simulateFlags) run(out io.Writer) error {
	if f.Fit != "" {
		return f.fit(out)
	}
	if f.Trace == "" {
		return errors.New("give --trace FILE, or --fit FILE")
	}
	options, objectives, err := f.options()
	if err != nil {
		return err
	}
	count := f.Requests
	if count == 0 {
		count = 10000
	}
	trace, err := simulate.ReadTrace(f.Trace, count, f.Seed)
	if err != nil {
		return err
	}
	rates := f.Rate
	if len(rates) == 0 {
		rates = []float64{0}
	}
	table := len(rates)*len(f.Policy) > 1
	if table && !f.JSON {
		simulate.WriteTableHead(out, objectives)
	}
	for _, rate := range rates {
		options.Requests = simulate.Stretch(trace, f.Requests, rate)
		for _, policy := range f.Policy {
			options.Admission.Policy = admission.Policy(policy)
			result, err := simulate.Run(options)
			if err != nil {
				return err
			}
			switch {
			case f.JSON:
				if err := json.NewEncoder(out).Encode(result.Summary(objectives)); err != nil {
					return err
				}
			case table:
				result.WriteTableRow(out, objectives)
			default:
				result.Write(out, objectives)
			}
		}
	}
	return nil
}

func (f *simulateFlags) options() (options simulate.Options, objectives []simulate.Objective, err error) {
	options = simulate.Options{Groups: f.Groups, CapacityTokens: f.Capacity, BlockTokens: f.BlockTokens, PrefillTokens: f.PrefillTokens,
		MaxSequences: f.MaxSequences, MaxNewTokens: f.MaxNewTokens, PrefixCache: !f.NoPrefixCache, QueueTimeout: f.QueueTimeout,
		Clients:   f.Clients,
		StepModel: sim.DefaultStepModel,
		Admission: admission.Config{Seed: f.Seed, History: f.History, ReservePercent: f.Reserve, DecodeWeight: f.DecodeWeight}}
	for _, policy := range f.Policy {
		options.Admission.Policy, options.Admission.QueueLimit = admission.Policy(policy), 1
		if _, err := admission.New(options.Admission); err != nil {
			return options, nil, err
		}
	}
	for _, text := range f.Goodput {
		objective, err := simulate.ParseObjective(text)
		if err != nil {
			return options, nil, err
		}
		objectives = append(objectives, objective)
	}
	for _, rate := range f.Rate {
		if !(rate > 0) {
			return options, nil, fmt.Errorf("--rate %v: want more than 0 requests a second", rate)
		}
	}
	if f.Requests < 0 || f.Clients < 0 {
		return options, nil, fmt.Errorf("--requests %d and --clients %d must not be negative", f.Requests, f.Clients)
	}
	options.StepModel, err = sim.ParseStepModel(f.StepModel)
	return options, objectives, err
}

// fit writes the model to out and what it leaves unexplained to standard error.
func (f *simulateFlags) fit(out io.Writer) error {
	records, err := simulate.ReadStepLog(f.Fit)
	if err != nil {
		return err
	}
	model, median, p90, err := simulate.Fit(strings.TrimSuffix(f.Fit, ".jsonl"), records)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "fitted to %d steps; the relative error is %.1f%% in the median and %.1f%% at the 90th percentile\n",
		len(records), 100*median, 100*p90)
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(model)
}

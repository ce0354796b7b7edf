package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lockstep/launcher/simulate"
	"lockstep/router/admission"
	"lockstep/scripts/serving"
	"lockstep/shard"
)

// replayTest sends a trace's requests to a real server, each at its moment, whatever became of the others.
type replayTest struct {
	trace, model, policy string
	requests             int
	rate, scale          float64
	capacity             int
	compare              bool
	stepLog, fit         string
}

const (
	// Sizes of the server that the simulation repeats: the defaults of lockstep serve, and the engine's block.
	prefillTokens = 512
	maxSequences  = 128
	blockTokens   = 16
	// sampleInterval lies between two looks at the server's metrics.
	sampleInterval = 250 * time.Millisecond
	traceSeed      = 1
	admissionSeed  = 1 // as the router has it
)

func (r *replayTest) run() error {
	folder, err := os.MkdirTemp("", "lockstep-load-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if r.stepLog == "" {
		r.stepLog = filepath.Join(folder, "steps.jsonl")
	} else if _, err := os.Stat(r.stepLog); err == nil {
		return fmt.Errorf("%s exists: a step log must be of one run", r.stepLog)
	}
	trace, err := r.readTrace()
	if err != nil {
		return err
	}
	arguments := []string{"--log-level", "warn", "--max-batch-total-tokens", fmt.Sprint(r.capacity), "--max-batch-prefill-tokens",
		fmt.Sprint(prefillTokens),
		"--max-batch-size", fmt.Sprint(maxSequences), "--admission", r.policy, "--max-concurrent-requests", fmt.Sprint(r.requests + 1),
		"--step-log", r.stepLog}
	if r.model != "" {
		arguments = append(arguments, "--model-id", r.model)
	}
	s, err := start(arguments...)
	if err != nil {
		return err
	}
	requests, measured, before, err := r.measure(s, trace)
	if stopped := s.Stop(); err == nil && stopped != nil {
		err = fmt.Errorf("the server's end: %w\n%s", stopped, s.Log.String())
	}
	if err != nil {
		return err
	}
	records, err := simulate.ReadStepLog(r.stepLog)
	if err != nil {
		return err
	}
	records = records[before:]
	gaps := 0.0
	for i := range records {
		measured.BusySeconds += records[i].Seconds + records[i].GapSeconds
		gaps += records[i].GapSeconds
	}
	measured.Steps = len(records)
	measured.Write(os.Stdout, nil)
	fmt.Printf("between steps: %.3f ms on average, %.1f%% of the time that the group was busy\n", 1000*gaps/float64(len(records)),
		100*gaps/measured.BusySeconds)
	if r.compare {
		return r.simulate(requests, measured, records)
	}
	return nil
}

// readTrace reads the trace with its lengths divided.
func (r *replayTest) readTrace() ([]simulate.Request, error) {
	if r.trace == "" || r.requests < 1 || r.rate < 0 || !(r.scale > 0) {
		return nil, errors.New("want -trace FILE, at least one request, no negative rate and a scale above 0")
	}
	trace, err := simulate.ReadTrace(r.trace, r.requests, traceSeed)
	if err != nil {
		return nil, err
	}
	for i := range trace {
		trace[i].PromptTokens = max(1, int(math.Round(float64(trace[i].PromptTokens)/r.scale)))
		trace[i].OutputTokens = max(1, int(math.Round(float64(trace[i].OutputTokens)/r.scale)))
		if r.scale != 1 {
			trace[i].Hashes = nil // they name pieces of the undivided length
		}
	}
	return trace, nil
}

// fitting leaves out what the model cannot take, and cuts and scales what is left.
func (r *replayTest) fitting(s *server, trace []simulate.Request) ([]simulate.Request, error) {
	var info struct {
		Longest int `json:"max_total_tokens"`
	}
	if err := s.Get("/info", &info); err != nil {
		return nil, err
	}
	var short []simulate.Request
	for _, request := range trace {
		if request.PromptTokens+request.OutputTokens <= min(info.Longest, r.capacity) {
			short = append(short, request)
		}
	}
	if len(short) == 0 {
		return nil, fmt.Errorf("no request of the trace fits %d tokens", min(info.Longest, r.capacity))
	}
	first := short[0].Arrival
	for i := range short {
		short[i].Arrival -= first
	}
	requests := simulate.Stretch(short[:min(r.requests, len(short))], r.requests, r.rate)
	fmt.Printf("%d of the trace's %d requests are left out, as they are too long; %d are sent\n", len(trace)-len(short), len(trace),
		len(requests))
	return requests, nil
}

// measure replays, and says how many steps the log had before.
func (r *replayTest) measure(s *server, trace []simulate.Request) (requests []simulate.Request, result *simulate.Result, steps int,
	err error) {
	if requests, err = r.fitting(s, trace); err != nil {
		return nil, nil, 0, err
	}
	smith, err := newWordsmith(s)
	if err != nil {
		return nil, nil, 0, err
	}
	prompts, wanted := make([]string, len(requests)), 0
	for i := range requests {
		prompts[i] = smith.prompt(requests[i], i)
		wanted += requests[i].PromptTokens
	}
	if _, err := s.drained(); err != nil {
		return nil, nil, 0, err
	}
	earlier, err := simulate.ReadStepLog(r.stepLog)
	if err != nil {
		return nil, nil, 0, err
	}
	before, err := s.Metrics()
	if err != nil {
		return nil, nil, 0, err
	}
	if result, err = r.replay(s, requests, prompts); err != nil {
		return nil, nil, 0, err
	}
	if _, err := s.drained(); err != nil {
		return nil, nil, 0, err
	}
	after, err := s.Metrics()
	if err != nil {
		return nil, nil, 0, err
	}
	result.Evictions = int(after["lockstep_group_parked_total"] - before["lockstep_group_parked_total"])
	result.CachedTokens = int(after["lockstep_prefix_hit_tokens_total"] - before["lockstep_prefix_hit_tokens_total"])
	fmt.Printf("the server counted %.0f prompt tokens, the trace has %d; %.0f ledger mismatches\n",
		after["tgi_request_input_length_sum"]-before["tgi_request_input_length_sum"],
		wanted, after["lockstep_ledger_mismatches_total"]-before["lockstep_ledger_mismatches_total"])
	return requests, result, len(earlier), nil
}

// replay sends every request at its moment and waits for all.
func (r *replayTest) replay(s *server, requests []simulate.Request, prompts []string) (*simulate.Result, error) {
	last := requests[len(requests)-1].Arrival
	result := simulate.NewMeasured(r.policy, float64(len(requests))/max(last, math.SmallestNonzeroFloat64))
	answers, failures, late := make([]*answer, len(requests)), make([]error, len(requests)), make([]time.Duration, len(requests))
	stop, watched := make(chan struct{}), make(chan error, 1)
	go func() { watched <- watch(s, result, r.capacity, stop) }()
	var group sync.WaitGroup
	begin := time.Now()
	for i := range requests {
		group.Go(func() {
			moment := begin.Add(time.Duration(requests[i].Arrival * float64(time.Second)))
			time.Sleep(time.Until(moment))
			late[i] = time.Since(moment)
			// Not ignore_eos: it tells admission how long the output will be, which the simulated one does not know.
			wanted := requests[i].OutputTokens
			a, err := s.generate(prompts[i], parameters{MaxNewTokens: wanted, MinNewTokens: wanted}, 0)
			if err == nil && len(a.ids) != wanted {
				err = fmt.Errorf("request %d: %d tokens, want %d: %s", i+1, len(a.ids), wanted, a.body)
			}
			answers[i], failures[i] = a, err
		})
	}
	group.Wait()
	result.Duration = time.Since(begin).Seconds()
	close(stop)
	if err := errors.Join(append(failures, <-watched)...); err != nil {
		return nil, err
	}
	for i, a := range answers {
		moments := append(make([]float64, 0, len(a.ids)), a.first.Seconds())
		for j, gap := range a.gaps {
			moments = append(moments, moments[j]+gap.Seconds())
		}
		result.Observe(requests[i].PromptTokens, moments)
	}
	fmt.Printf("%.2f requests a second over %.1f s; sent late by %v (median), %v (max)\n", result.Rate, last,
		serving.Percentile(late, 50).Round(time.Microsecond), serving.Percentile(late, 100).Round(time.Microsecond))
	return result, nil
}

// watch samples the load until stop is closed.
func watch(s *server, result *simulate.Result, capacity int, stop chan struct{}) error {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-ticker.C:
		}
		metrics, err := s.Metrics()
		if err != nil {
			return err
		}
		held := metrics["lockstep_group_held_tokens"]
		result.Sample(held/float64(capacity), metrics["lockstep_ledger_requests"],
			math.Abs(metrics["lockstep_ledger_tokens"]-held)/float64(capacity))
	}
}

// simulate runs the same requests in the simulator and prints both results.
func (r *replayTest) simulate(requests []simulate.Request, measured *simulate.Result, records []shard.StepRecord) (err error) {
	name := "this run"
	if r.fit != "" {
		name = "another run"
		if records, err = simulate.ReadStepLog(r.fit); err != nil {
			return err
		}
	}
	model, median, p90, err := simulate.Fit(name, records)
	if err != nil {
		return err
	}
	fmt.Printf("step model %+v, fitted to %d steps; relative error %.1f%% (median), %.1f%% (p90)\n", model, len(records), 100*median,
		100*p90)
	simulated, err := simulate.Run(simulate.Options{Requests: requests, Groups: 1, CapacityTokens: r.capacity, BlockTokens: blockTokens,
		PrefillTokens: prefillTokens,
		MaxSequences:  maxSequences, PrefixCache: true, StepModel: model,
		Admission: admission.Config{Policy: admission.Policy(r.policy), Seed: admissionSeed}})
	if err != nil {
		return err
	}
	simulate.WriteComparison(os.Stdout, measured, simulated)
	return nil
}

package simulate

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/router/admission"
	"lockstep/shard"
	"lockstep/shard/schedule"
	"lockstep/shard/sim"
)

const azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9805900,396,109\n"
const mooncake = `{"timestamp": 3000, "input_length": 1100, "output_length": 5, "hash_ids": [7, 8, 9]}
{"timestamp": 0, "input_length": 600, "output_length": 50, "hash_ids": [7, 10]}
`

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadTrace(t *testing.T) {
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	zip.Write([]byte(azure))
	zip.Close()
	for name, data := range map[string][]byte{"a.csv": []byte(azure), "a.csv.gz": zipped.Bytes()} {
		got, err := ReadTrace(write(t, name, data), 0, 0)
		if err != nil || len(got) != 2 || got[0].PromptTokens != 374 || got[0].Arrival != 0 || math.Abs(got[1].Arrival-4.3) > 1e-5 ||
			got[1].OutputTokens != 109 {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	got, err := ReadTrace(write(t, "m.jsonl", []byte(mooncake)), 0, 0)
	if err != nil || len(got) != 2 || got[0].PromptTokens != 600 || got[1].Arrival != 3 || len(got[1].Hashes) != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "head only": "TIMESTAMP,ContextTokens,GeneratedTokens\n", "no number": azure + "2023-11-16 18:15:46.6805900,x,1\n",
		"no moment": azure + "yesterday,1,1\n", "no output": azure + "2023-11-16 18:15:46.6805900,1,0\n", "two columns": "1,2\n",
		"cut":      `{"timestamp": 0,`,
		"negative": `{"timestamp": 0, "input_length": -1, "output_length": 5}`,
	} {
		if got, err := ReadTrace(write(t, "bad", []byte(bad)), 0, 0); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
	for _, bad := range []string{"uniform:5-1:1-2", "uniform:1-2", "uniform:0-1:1-1", "/does/not/exist"} {
		if _, err := ReadTrace(bad, 10, 1); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func TestStretch(t *testing.T) {
	trace := []Request{{Arrival: 0, Hashes: []uint32{1}}, {Arrival: 1, Hashes: []uint32{2}}}
	got := Stretch(trace, 5, 4)
	if len(got) != 5 || got[4].Arrival != 1 || got[1].Arrival != 0.25 || got[0].Hashes[0] != 1 || got[2].Hashes[0] == 1 ||
		trace[0].Hashes[0] != 1 {
		t.Errorf("got %+v", got)
	}
	if got := Stretch(trace, 1, 0); len(got) != 1 || got[0].Arrival != 0 {
		t.Errorf("got %+v", got)
	}
}

// The traces of the reference data are read whole.
func TestRealTraces(t *testing.T) {
	for name, want := range map[string]int{"azure_conv_2023.csv.xz": 19366, "mooncake_conversation_trace.jsonl.xz": 12031} {
		unpacked, err := exec.Command(outside.Tool(t, "xz"), "-dc", outside.Shared(t, "traces", name)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if trace, err := ReadTrace(write(t, "trace", unpacked), 0, 0); err != nil || len(trace) != want {
			t.Errorf("%s: %d requests, want %d; %v", name, len(trace), want, err)
		}
	}
}

func options(trace string, t *testing.T) Options {
	t.Helper()
	requests, err := ReadTrace(trace, 300, 1)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Requests: requests, Groups: 2, CapacityTokens: 8000, BlockTokens: 16, PrefillTokens: 512, MaxSequences: 32,
		PrefixCache: true,
		StepModel:   sim.DefaultStepModel, MaxNewTokens: 600, Admission: admission.Config{Policy: admission.Conservative, Seed: 3}}
}

func run1(t *testing.T, o Options) *Result {
	t.Helper()
	r, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A lone request takes the steps that its prompt and output need, and their modelled time.
func TestLoneRequest(t *testing.T) {
	o := options("uniform:1000-1000:3-3", t)
	o.Requests = o.Requests[:1]
	r := run1(t, o)
	m := o.StepModel
	first := m.Seconds(&schedule.Cost{PrefillTokens: 512, PrefillPairs: 512 * 513 / 2})
	second := m.Seconds(&schedule.Cost{PrefillTokens: 488, PrefillPairs: 1000*1001/2 - 512*513/2})
	third, fourth := m.Seconds(&schedule.Cost{Decodes: 1, DecodePairs: 1001}), m.Seconds(&schedule.Cost{Decodes: 1, DecodePairs: 1002})
	if got, want := r.ttft.mean(), first+second; math.Abs(got-want) > 1e-6 {
		t.Errorf("got a first token after %v s, want %v", got, want)
	}
	if got, want := r.tpot.mean(), (third+fourth)/2; math.Abs(got-want) > 1e-6 {
		t.Errorf("got %v s a token, want %v", got, want)
	}
	if r.Steps != 4 || r.Completed != 1 || r.OutputTokens != 3 {
		t.Errorf("got %+v", r)
	}
}

// Whatever the policy, all requests end, nothing is left (Run checks), and equal options give equal results.
func TestPolicies(t *testing.T) {
	for _, policy := range []admission.Policy{admission.Conservative, admission.Peak, admission.PastFuture, admission.Aggressive} {
		o := options("uniform:20-400:50-500", t)
		o.Requests = Stretch(o.Requests, 0, 8)
		o.Admission.Policy = policy
		first, second := run1(t, o), run1(t, o)
		summary := func(r *Result) string {
			text, err := json.Marshal(r.Summary([]Objective{{TTFT: 2000}}))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		if summary(first) != summary(second) {
			t.Errorf("%s: two runs differ:\n%s\n%s", policy, summary(first), summary(second))
		}
		if first.Completed != len(o.Requests) || first.Refused != 0 {
			t.Errorf("%s: %d of %d requests ended, %d refused", policy, first.Completed, len(o.Requests), first.Refused)
		}
		if policy == admission.Conservative && first.Evictions > 0 {
			t.Errorf("%s evicted %d times", policy, first.Evictions)
		}
		if policy == admission.Aggressive && first.Evictions == 0 {
			t.Errorf("%s never evicted: the load proves nothing", policy)
		}
	}
}

func TestClosedLoopAndTimeout(t *testing.T) {
	o := options("uniform:20-400:50-500", t)
	o.Clients = 3
	if r := run1(t, o); r.Completed != len(o.Requests) || r.running.percentile(100) > 3 {
		t.Errorf("%d requests ended, %v ran at once", r.Completed, r.running.percentile(100))
	}
	o = options("uniform:20-400:50-500", t)
	o.Requests, o.QueueTimeout = Stretch(o.Requests, 0, 100), 1
	if r := run1(t, o); r.Refused == 0 || r.Completed+r.Refused != len(o.Requests) {
		t.Errorf("%d ended, %d refused of %d", r.Completed, r.Refused, len(o.Requests))
	}
	o.Requests[0].PromptTokens = 9000 // more than a group has
	if r := run1(t, o); r.Completed+r.Refused != len(o.Requests) {
		t.Errorf("%d ended, %d refused of %d", r.Completed, r.Refused, len(o.Requests))
	}
}

// Prompts with equal hashes share blocks, and only with the cache on.
func TestPrefixes(t *testing.T) {
	o := options("uniform:1024-1024:5-9", t)
	for i := range o.Requests {
		o.Requests[i].Hashes = []uint32{0, uint32(i + 1)}
	}
	if r := run1(t, o); r.CachedTokens != 512*(len(o.Requests)-1) && r.CachedTokens != 512*(len(o.Requests)-2) {
		t.Errorf("%d tokens found in the caches of %d requests that share 512", r.CachedTokens, len(o.Requests))
	}
	o.PrefixCache = false
	if r := run1(t, o); r.CachedTokens != 0 {
		t.Errorf("%d tokens found without a cache", r.CachedTokens)
	}
}

func TestRefusesOptions(t *testing.T) {
	for name, spoil := range map[string]func(o *Options){
		"no requests": func(o *Options) { o.Requests = nil }, "no groups": func(o *Options) { o.Groups = 0 },
		"no room": func(o *Options) { o.CapacityTokens = 1 }, "policy": func(o *Options) { o.Admission.Policy = "wild" },
	} {
		o := options("uniform:10-20:5-9", t)
		if spoil(&o); func() bool { _, err := Run(o); return err == nil }() {
			t.Errorf("%s was not refused", name)
		}
	}
}

// A fit finds the model that made the records, with noise and pauses, and no negative durations.
func TestFit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	truth := sim.StepModel{Base: 0.004, PrefillToken: 1e-3, PrefillPair: 2e-8, Decode: 2e-4, DecodePair: 3e-7}
	var lines bytes.Buffer
	for i := range 2000 {
		r := shard.StepRecord{Cost: schedule.Cost{Decodes: random.IntN(64)}}
		r.DecodePairs = r.Decodes * random.IntN(2000)
		if i%3 == 0 {
			r.PrefillTokens = 1 + random.IntN(512)
			r.PrefillPairs = r.PrefillTokens * random.IntN(4000)
		}
		r.Seconds = truth.Seconds(&r.Cost) * (1 + 0.02*random.NormFloat64())
		if i%500 == 7 {
			r.Seconds += 0.5
		}
		if err := json.NewEncoder(&lines).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	path := write(t, "steps.jsonl", lines.Bytes())
	records, err := ReadStepLog(path)
	if err != nil {
		t.Fatal(err)
	}
	got, median, p90, err := Fit("test", records)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]float64{{got.Base, truth.Base}, {got.PrefillToken, truth.PrefillToken}, {got.PrefillPair, truth.PrefillPair},
		{got.Decode, truth.Decode}, {got.DecodePair, truth.DecodePair}} {
		if math.Abs(pair[0]-pair[1]) > 0.05*pair[1] {
			t.Errorf("got %+v, want %+v", got, truth)
			break
		}
	}
	if median > 0.03 || p90 > 0.06 {
		t.Errorf("relative errors of %v and %v are left", median, p90)
	}
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := sim.ReadStepModel(write(t, "model.json", data)); err != nil || back != got {
		t.Errorf("read back %+v, %v", back, err)
	}
	for _, bad := range []string{"{", `{"base": 0}`} {
		if _, err := sim.ReadStepModel(write(t, "model.json", []byte(bad))); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	if _, _, _, err := Fit("few", records[:5]); err == nil {
		t.Error("five steps were enough")
	}
	for i := range records { // only decodes of one size: what they say nothing of stays 0
		records[i] = shard.StepRecord{Cost: schedule.Cost{Decodes: 4, DecodePairs: 400}, Seconds: 0.01}
	}
	if got, _, _, err := Fit("flat", records); err != nil || math.Abs(got.Seconds(&records[0].Cost)-0.01) > 1e-6 || got.PrefillToken != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestObjectives(t *testing.T) {
	o, err := ParseObjective("ttft:2000, tpot:100")
	if err != nil || o != (Objective{TTFT: 2000, TPOT: 100}) || o.String() != "ttft:2000,tpot:100" {
		t.Fatalf("got %+v, %v", o, err)
	}
	for _, bad := range []string{"", "ttft", "ttft:x", "speed:3", "ttft:-1"} {
		if _, err := ParseObjective(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	r := Result{Duration: 2, outcomes: []outcome{{ttft: 1.9, tpot: 0.09}, {ttft: 2.1, tpot: 0.01}, {ttft: 0.1, tpot: 0.11}, {ttft: 0.1}}}
	if got := r.Goodput(o); got != 1 {
		t.Errorf("got a goodput of %v, want 1", got)
	}
}

func TestStatistics(t *testing.T) {
	s, h := newSample(), histogram{}
	for i := range 1001 {
		s.add(float64(i) / 1000)
		h.add(float64(i) / 1000)
	}
	for _, p := range []float64{50, 90, 99} {
		if got := s.percentile(p); math.Abs(got-p/100) > 1e-9 {
			t.Errorf("percentile %v of the sample is %v", p, got)
		}
		if got := h.percentile(p); math.Abs(got-p/100) > 0.006*p/100 {
			t.Errorf("percentile %v of the histogram is %v", p, got)
		}
	}
	if math.Abs(s.mean()-0.5) > 1e-9 || math.Abs(h.mean()-0.5) > 1e-9 || math.Abs(s.deviation()-h.deviation()) > 1e-6 {
		t.Errorf("means %v and %v, deviations %v and %v", s.mean(), h.mean(), s.deviation(), h.deviation())
	}
}

func TestReports(t *testing.T) {
	o := options("uniform:20-400:50-500", t)
	r := run1(t, o)
	var text bytes.Buffer
	r.Write(&text, []Objective{{TTFT: 2000, TPOT: 100}})
	for _, want := range []string{"Serving Benchmark Result", "Successful requests:", "Request goodput (req/s), ttft:2000,tpot:100:",
		"P99 ITL (ms):", "Evictions:", "Mean token-load error"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in\n%s", want, text.String())
		}
	}
	text.Reset()
	WriteTableHead(&text, nil)
	r.WriteTableRow(&text, nil)
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 3 || strings.Count(lines[0], "|") != strings.Count(lines[2], "|") || len(lines[0]) != len(lines[2]) {
		t.Errorf("no table:\n%s", text.String())
	}
}

package simulate

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// sample is a set of values; percentiles interpolate as numpy does.
type sample struct {
	values []float64
	sorted bool
	sum    float64
}

func newSample() *sample { return &sample{} }

func (s *sample) add(value float64) {
	s.values, s.sorted, s.sum = append(s.values, value), false, s.sum+value
}

func (s *sample) mean() float64 {
	if len(s.values) == 0 {
		return 0
	}
	return s.sum / float64(len(s.values))
}

func (s *sample) deviation() float64 {
	mean, sum := s.mean(), 0.0
	for _, v := range s.values {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(max(len(s.values), 1)))
}

func (s *sample) percentile(p float64) float64 {
	if len(s.values) == 0 {
		return 0
	}
	if !s.sorted {
		slices.Sort(s.values)
		s.sorted = true
	}
	place := p / 100 * float64(len(s.values)-1)
	low := int(place)
	high := min(low+1, len(s.values)-1)
	return s.values[low] + (s.values[high]-s.values[low])*(place-float64(low))
}

// histogram counts values in buckets whose bounds grow by half a percent, from a microsecond up: gaps between tokens are
// too many to keep.
type histogram struct {
	counts       []uint64
	count        uint64
	sum, squares float64
}

const (
	histogramFloor  = 1e-6
	histogramGrowth = 1.005
)

var logGrowth = math.Log(histogramGrowth)

func (h *histogram) add(value float64) {
	bucket := max(0, int(math.Log(value/histogramFloor)/logGrowth))
	if value <= histogramFloor {
		bucket = 0
	}
	for bucket >= len(h.counts) {
		h.counts = append(h.counts, make([]uint64, bucket-len(h.counts)+256)...)
	}
	h.counts[bucket]++
	h.count++
	h.sum += value
	h.squares += value * value
}

func (h *histogram) mean() float64 { return h.sum / float64(max(h.count, 1)) }

func (h *histogram) deviation() float64 {
	mean := h.mean()
	return math.Sqrt(max(0, h.squares/float64(max(h.count, 1))-mean*mean))
}

func (h *histogram) percentile(p float64) float64 {
	rank := p / 100 * float64(h.count)
	seen := 0.0
	for bucket, count := range h.counts {
		if seen += float64(count); count > 0 && seen >= rank {
			return histogramFloor * math.Pow(histogramGrowth, float64(bucket)+0.5)
		}
	}
	return 0
}

// Objective is a set of bounds, in milliseconds; a request is good when it keeps all of them. 0: no bound.
type Objective struct {
	TTFT, TPOT, E2EL float64
	// MaxITL bounds the longest gap between two tokens: what the past-future paper calls MTPOT.
	MaxITL float64
}

// ParseObjective reads "ttft:2000,tpot:100" with the names ttft, tpot, e2el and max_itl, as vllm bench serve's --goodput.
func ParseObjective(text string) (o Objective, err error) {
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, number, _ := strings.Cut(part, ":")
		value, err := strconv.ParseFloat(number, 64)
		field := map[string]*float64{"ttft": &o.TTFT, "tpot": &o.TPOT, "e2el": &o.E2EL, "max_itl": &o.MaxITL}[name]
		if err != nil || field == nil || !(value > 0) {
			return o, fmt.Errorf("objective %q: want NAME:MILLISECONDS with the names ttft, tpot, e2el and max_itl", part)
		}
		*field = value
	}
	if o == (Objective{}) {
		return o, fmt.Errorf("objective %q bounds nothing", text)
	}
	return o, nil
}

func (o Objective) String() string {
	var parts []string
	for _, bound := range []struct {
		name  string
		value float64
	}{{"ttft", o.TTFT}, {"tpot", o.TPOT}, {"e2el", o.E2EL}, {"max_itl", o.MaxITL}} {
		if bound.value > 0 {
			parts = append(parts, fmt.Sprintf("%s:%g", bound.name, bound.value))
		}
	}
	return strings.Join(parts, ",")
}

// outcome is what one request got, in seconds.
type outcome struct{ ttft, tpot, e2el, longest float32 }

func (o *outcome) keeps(bounds Objective) bool {
	within := func(seconds float32, milliseconds float64) bool {
		return milliseconds == 0 || float64(seconds)*1000 <= milliseconds
	}
	return within(o.ttft, bounds.TTFT) && within(o.tpot, bounds.TPOT) && within(o.e2el, bounds.E2EL) && within(o.longest, bounds.MaxITL)
}

// Result of a simulation, or of a real run (NewMeasured). Times are in seconds.
type Result struct {
	Policy                    string
	Rate                      float64 // requests that arrived a second; 0 in a closed loop
	Duration                  float64 // from the first arrival to the last token
	Completed, Refused        int
	InputTokens, OutputTokens int
	CachedTokens              int // prompt tokens that the prefix caches had
	Evictions                 int // how often a sequence was parked
	Steps                     int
	BusySeconds               float64 // of all groups

	outcomes                   []outcome
	ttft, tpot, e2el           *sample
	gaps                       histogram
	load, running, ledgerError *sample
	groups                     int
}

func newResult(o Options) *Result {
	rate := 0.0
	if last := o.Requests[len(o.Requests)-1].Arrival; last > 0 && o.Clients == 0 {
		rate = float64(len(o.Requests)) / last
	}
	return emptyResult(string(o.Admission.Policy), rate, o.Groups)
}

func emptyResult(policy string, rate float64, groups int) *Result {
	return &Result{Policy: policy, Rate: rate, groups: groups, ttft: newSample(), tpot: newSample(), e2el: newSample(),
		load: newSample(), running: newSample(), ledgerError: newSample()}
}

// complete notes the end of a request: seconds from its arrival to its first and its last token, and the longest gap
// between two.
func (r *Result) complete(promptTokens, outputTokens int, first, last, longest float64) {
	r.Completed++
	r.InputTokens += promptTokens
	r.OutputTokens += outputTokens
	o := outcome{ttft: float32(first), e2el: float32(last), longest: float32(longest)}
	if outputTokens > 1 {
		o.tpot = float32((last - first) / float64(outputTokens-1))
		r.tpot.add(float64(o.tpot))
	}
	r.ttft.add(float64(o.ttft))
	r.e2el.add(float64(o.e2el))
	r.outcomes = append(r.outcomes, o)
}

// Goodput is how many requests a second keep an objective.
func (r *Result) Goodput(o Objective) float64 {
	good := 0
	for i := range r.outcomes {
		if r.outcomes[i].keeps(o) {
			good++
		}
	}
	return float64(good) / r.Duration
}

// MeanLoad is the mean share of the KV caches that is held; LedgerError the mean distance of the ledger from it.
func (r *Result) MeanLoad() float64    { return r.load.mean() }
func (r *Result) LedgerError() float64 { return r.ledgerError.mean() }

// Write prints what vllm bench serve prints, and behind it what only a server knows.
func (r *Result) Write(w io.Writer, objectives []Objective) {
	line := func(name string, format string, value any) { fmt.Fprintf(w, "%-40s "+format+"\n", name, value) }
	title := func(text string, filler string) {
		left := (50 - len(text)) / 2
		fmt.Fprintln(w, strings.Repeat(filler, left)+text+strings.Repeat(filler, 50-len(text)-left))
	}
	title(" Serving Benchmark Result ", "=")
	line("Successful requests:", "%-10d", r.Completed)
	line("Failed requests:", "%-10d", r.Refused)
	line("Benchmark duration (s):", "%-10.2f", r.Duration)
	line("Total input tokens:", "%-10d", r.InputTokens)
	line("Total generated tokens:", "%-10d", r.OutputTokens)
	line("Request throughput (req/s):", "%-10.2f", float64(r.Completed)/r.Duration)
	for _, o := range objectives {
		line("Request goodput (req/s), "+o.String()+":", "%-10.2f", r.Goodput(o))
	}
	line("Output token throughput (tok/s):", "%-10.2f", float64(r.OutputTokens)/r.Duration)
	line("Total Token throughput (tok/s):", "%-10.2f", float64(r.InputTokens+r.OutputTokens)/r.Duration)
	for _, section := range []struct {
		title, name string
		values      interface {
			mean() float64
			deviation() float64
			percentile(p float64) float64
		}
	}{{"Time to First Token", "TTFT", r.ttft}, {"Time per Output Token (excl. 1st token)", "TPOT", r.tpot},
		{"Inter-token Latency", "ITL", &r.gaps}, {"End-to-end Latency", "E2EL", r.e2el}} {
		title(section.title, "-")
		line("Mean "+section.name+" (ms):", "%-10.2f", 1000*section.values.mean())
		line("Median "+section.name+" (ms):", "%-10.2f", 1000*section.values.percentile(50))
		line("Std "+section.name+" (ms):", "%-10.2f", 1000*section.values.deviation())
		for _, p := range []float64{90, 95, 99} {
			line(fmt.Sprintf("P%g %s (ms):", p, section.name), "%-10.2f", 1000*section.values.percentile(p))
		}
	}
	title("Engine", "-")
	line("Evictions:", "%-10d", r.Evictions)
	line("Mean KV cache load (%):", "%-10.2f", 100*r.load.mean())
	line("P99 KV cache load (%):", "%-10.2f", 100*r.load.percentile(99))
	line("Mean token-load error (% of capacity):", "%-10.3f", 100*r.ledgerError.mean())
	line("Max token-load error (% of capacity):", "%-10.3f", 100*r.ledgerError.percentile(100))
	line("Mean running requests per group:", "%-10.2f", r.running.mean())
	line("Prompt tokens found in caches (%):", "%-10.2f", 100*float64(r.CachedTokens)/float64(max(r.InputTokens, 1)))
	line("Steps:", "%-10d", r.Steps)
	line("Mean group utilisation (%):", "%-10.2f", 100*r.BusySeconds/r.Duration/float64(r.groups))
	fmt.Fprintln(w, strings.Repeat("=", 50))
}

// column is one number of a table of several results.
type column struct {
	title string
	width int
	value func(r *Result) string
}

func columns(objectives []Objective) []column {
	number := func(format string, value func(r *Result) float64) func(*Result) string {
		return func(r *Result) string { return fmt.Sprintf(format, value(r)) }
	}
	list := []column{
		{"rate/s", 8, number("%.2f", func(r *Result) float64 { return r.Rate })},
		{"policy", 14, func(r *Result) string { return r.Policy }},
	}
	for _, o := range objectives {
		list = append(list, column{"goodput/s " + o.String(), len(o.String()) + 11,
			number("%.2f", func(r *Result) float64 { return r.Goodput(o) })})
	}
	return append(list,
		column{"req/s", 8, number("%.2f", func(r *Result) float64 { return float64(r.Completed) / r.Duration })},
		column{"TTFT p50 s", 11, number("%.2f", func(r *Result) float64 { return r.ttft.percentile(50) })},
		column{"p99", 9, number("%.2f", func(r *Result) float64 { return r.ttft.percentile(99) })},
		column{"TPOT p50 ms", 12, number("%.1f", func(r *Result) float64 { return 1000 * r.tpot.percentile(50) })},
		column{"p99", 9, number("%.1f", func(r *Result) float64 { return 1000 * r.tpot.percentile(99) })},
		column{"evictions", 10, number("%.0f", func(r *Result) float64 { return float64(r.Evictions) })},
		column{"load %", 7, number("%.1f", func(r *Result) float64 { return 100 * r.MeanLoad() })},
		column{"ledger err %", 13, number("%.3f", func(r *Result) float64 { return 100 * r.LedgerError() })},
		column{"cached %", 9, number("%.1f", func(r *Result) float64 {
			return 100 * float64(r.CachedTokens) / float64(max(r.InputTokens,
				1))
		})},
	)
}

// WriteTableHead and WriteTableRow print several results as a Markdown table.
func WriteTableHead(w io.Writer, objectives []Objective) {
	rule := "|"
	for _, c := range columns(objectives) {
		fmt.Fprintf(w, "|%*s ", c.width, c.title)
		rule += strings.Repeat("-", c.width) + ":|"
	}
	fmt.Fprintf(w, "|\n%s\n", rule)
}

// WriteTableRow prints one result; see WriteTableHead.
func (r *Result) WriteTableRow(w io.Writer, objectives []Objective) {
	for _, c := range columns(objectives) {
		fmt.Fprintf(w, "|%*s ", c.width, c.value(r))
	}
	fmt.Fprintln(w, "|")
}

// Summary is a result for programs; times are in milliseconds.
func (r *Result) Summary(objectives []Objective) map[string]any {
	goodput := map[string]float64{}
	for _, o := range objectives {
		goodput[o.String()] = r.Goodput(o)
	}
	summary := map[string]any{
		"policy": r.Policy, "request_rate": r.Rate, "duration": r.Duration, "completed": r.Completed, "failed": r.Refused,
		"total_input_tokens": r.InputTokens, "total_output_tokens": r.OutputTokens, "request_throughput": float64(r.Completed) / r.Duration,
		"request_goodput": goodput, "output_throughput": float64(r.OutputTokens) / r.Duration, "evictions": r.Evictions,
		"mean_load": r.MeanLoad(), "mean_ledger_error": r.LedgerError(), "max_ledger_error": r.ledgerError.percentile(100),
		"cached_tokens": r.CachedTokens, "steps": r.Steps,
	}
	for name, s := range map[string]interface {
		mean() float64
		percentile(p float64) float64
	}{"ttft": r.ttft, "tpot": r.tpot, "e2el": r.e2el, "itl": &r.gaps} {
		summary["mean_"+name+"_ms"] = 1000 * s.mean()
		for _, p := range []float64{50, 90, 95, 99} {
			summary[fmt.Sprintf("p%g_%s_ms", p, name)] = 1000 * s.percentile(p)
		}
	}
	return summary
}

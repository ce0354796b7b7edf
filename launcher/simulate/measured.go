package simulate

import (
	"fmt"
	"io"
)

// NewMeasured is the empty result of a real run of one group, whose requests arrived at rate a second. Whoever observes the
// run tells it by Observe and Sample, and sets the exported numbers that it knows: Duration at the least.
func NewMeasured(policy string, rate float64) *Result { return emptyResult(policy, rate, 1) }

// Observe notes a request that got all of its output: moments are those of its tokens, in seconds since it was sent.
func (r *Result) Observe(promptTokens int, moments []float64) {
	longest := 0.0
	for i := 1; i < len(moments); i++ {
		gap := moments[i] - moments[i-1]
		longest = max(longest, gap)
		r.gaps.add(gap)
	}
	r.complete(promptTokens, len(moments), moments[0], moments[len(moments)-1], longest)
}

// Sample notes a moment's state of a group: the share of its KV cache that requests hold, how many run, and by which share
// of the cache the ledger is wrong.
func (r *Result) Sample(load, running, ledgerError float64) {
	r.load.add(load)
	r.running.add(running)
	r.ledgerError.add(ledgerError)
}

type quantiles interface{ percentile(p float64) float64 }

// WriteComparison prints what matters of a real run beside its simulation as a Markdown table; the ratio is simulated by
// measured.
func WriteComparison(w io.Writer, measured, simulated *Result) {
	fmt.Fprintln(w, "| | measured | simulated | ratio |")
	fmt.Fprintln(w, "|---|---:|---:|---:|")
	line := func(name, format string, value func(r *Result) float64) {
		real, virtual := value(measured), value(simulated)
		ratio := "-"
		if real != 0 {
			ratio = fmt.Sprintf("%.2f", virtual/real)
		}
		fmt.Fprintf(w, "| %s | "+format+" | "+format+" | %s |\n", name, real, virtual, ratio)
	}
	line("output tokens/s", "%.1f", func(r *Result) float64 { return float64(r.OutputTokens) / r.Duration })
	for _, latency := range []struct {
		name    string
		places  []float64
		numbers func(r *Result) quantiles
	}{
		{"TTFT", []float64{50, 90, 99}, func(r *Result) quantiles { return r.ttft }},
		{"TPOT", []float64{50, 90, 99}, func(r *Result) quantiles { return r.tpot }},
		{"ITL", []float64{50, 99}, func(r *Result) quantiles { return &r.gaps }},
		{"E2EL", []float64{50, 99}, func(r *Result) quantiles { return r.e2el }},
	} {
		for _, p := range latency.places {
			line(fmt.Sprintf("%s p%g, ms", latency.name, p), "%.2f",
				func(r *Result) float64 { return 1000 * latency.numbers(r).percentile(p) })
		}
	}
	line("evictions", "%.0f", func(r *Result) float64 { return float64(r.Evictions) })
	line("steps", "%.0f", func(r *Result) float64 { return float64(r.Steps) })
	line("group busy, %", "%.1f", func(r *Result) float64 { return 100 * r.BusySeconds / r.Duration / float64(r.groups) })
}

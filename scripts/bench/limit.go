package main

import (
	"fmt"
	"io"
	"slices"

	"lockstep/shard/model"
)

// weightCounts are the weights that each token is multiplied with, and those that each token is which another one is chosen behind.
type weightCounts struct{ body, head float64 }

// weightsOf counts those of a Llama.
func weightsOf(path string) (n weightCounts, err error) {
	m, err := model.Open(path)
	if err != nil {
		return n, err
	}
	defer m.Close()
	c := m.Config
	attention := 2*c.Heads*c.HeadDim + 2*c.KVHeads*c.HeadDim
	return weightCounts{float64(c.Layers * c.Hidden * (attention + 3*c.Intermediate)), float64(c.Vocabulary * c.Hidden)}, nil
}

// encodings say of weights how many bytes one takes, and how many times as many of their products a processor makes as it makes of float32:
// by VDPBF16PS and VPDPBUSD.
var encodings = map[string]struct{ bytes, products float64 }{"bf16": {2, 2}, "q8_0": {34.0 / 32, 4}, "q4_1": {20.0 / 32, 4}}

// seconds is the least time of a request of every client at once: of what is not shared of the prompts all products, of a step that
// chooses a token for each client all products or all weights from memory, whichever takes longer, and nothing besides.
func (n weightCounts) seconds(w workload, encoding string, bandwidth, peak float64) float64 {
	e := encodings[encoding]
	products := func(rows int, weights float64) float64 { return 2 * float64(rows) * weights / (peak * e.products) }
	step := max((n.body+n.head)*e.bytes/bandwidth, products(w.clients, n.body+n.head))
	return products(w.clients*(w.prompt-w.shared), n.body) + float64(w.tokens-1)*step
}

// reportLimits writes how near the servers come to what the probes, by their medians, say that the machine allows.
func (b *bench) reportLimits(out io.Writer) {
	var bandwidths, peaks []float64
	for _, c := range b.contestants {
		for _, s := range c.samples {
			bandwidths, peaks = append(bandwidths, s.bandwidth), append(peaks, s.peak)
		}
	}
	if len(peaks) == 0 {
		return
	}
	slices.Sort(bandwidths)
	slices.Sort(peaks)
	bandwidth, peak := middle(bandwidths), middle(peaks)
	fmt.Fprintf(out, "\nShare of what %.0f GB/s and %.0f GFLOP/s allow (twice that in bf16, four times in 8 bits), if weights were all\n",
		bandwidth/1e9, peak/1e9)
	header(out, "| workload |", b.contestants)
	for _, w := range b.loads {
		if w.prompt == 0 { // a task
			continue
		}
		fmt.Fprintf(out, "| %s |", w.name)
		for _, c := range b.contestants {
			fmt.Fprintf(out, " %s |", b.share(w, c, b.counts.seconds(w, c.weights, bandwidth, peak)))
		}
		fmt.Fprintln(out)
	}
}

// share compares the least time of a workload with the median of what a server took.
func (b *bench) share(w workload, c *contestant, least float64) string {
	var shares []float64
	for round := range b.rounds {
		if s := c.samples[key{w.name, round}]; s != nil {
			took := float64(w.clients*w.tokens) / s.tokensPerSecond
			if w.tokens == 1 {
				took = s.first.Seconds()
			}
			shares = append(shares, least/took)
		}
	}
	if len(shares) == 0 {
		return "-"
	}
	slices.Sort(shares)
	return fmt.Sprintf("%.0f %%", 100*middle(shares))
}

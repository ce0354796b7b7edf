package main

import (
	"fmt"
	"io"
	"slices"

	"lockstep/shard/model"
)

// work is what a token takes of a model.
type work struct {
	body, head float64 // weights that each token is multiplied with, and those that it is which another one is chosen behind
	attention  float64 // operations of a token for each position that it attends to
	cached     float64 // bytes of a position in the cache, in float16
}

// workOf counts that of a Llama.
func workOf(path string) (n work, err error) {
	m, err := model.Open(path)
	if err != nil {
		return n, err
	}
	defer m.Close()
	c := m.Config
	queries, keys := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	return work{
		body:      float64(c.Layers * c.Hidden * (2*queries + 2*keys + 3*c.Intermediate)),
		head:      float64(c.Vocabulary * c.Hidden),
		attention: float64(c.Layers * 4 * queries),
		cached:    float64(c.Layers * 4 * keys),
	}, nil
}

// encodings say of weights how many bytes one takes; how many times as many of their products a processor makes as it makes of float32,
// by VDPBF16PS and VPDPBUSD; and what share of those Lockstep's tiles reach when they do nothing else (docs/performance.md#products).
var encodings = map[string]struct{ bytes, products, tiles float64 }{
	"bf16": {2, 2, 0.90}, "q8_0": {34.0 / 32, 4, 0.70}, "q4_1": {20.0 / 32, 4, 0.57},
}

// attentionShare of the float32 peak is what Lockstep's attention reaches when it does nothing else.
const attentionShare = 0.87

// seconds is the least time of a request of every client at once: of what is not shared of the prompts all products, of a step that
// chooses a token for each client all products or all weights from memory, whichever takes longer, and nothing besides.
func (n work) seconds(w workload, encoding string, bandwidth, peak float64) float64 {
	return n.products(w, encoding, bandwidth, peak*encodings[encoding].products)
}

// products is seconds where so many operations of products are made a second.
func (n work) products(w workload, encoding string, bandwidth, rate float64) float64 {
	operations := func(rows int, weights float64) float64 { return 2 * float64(rows) * weights }
	step := max((n.body+n.head)*encodings[encoding].bytes/bandwidth, operations(w.clients, n.body+n.head)/rate)
	return operations(w.clients*(w.prompt-w.shared), n.body)/rate + float64(w.tokens-1)*step
}

// secondsByKernels is the least time for Lockstep's kernels, if they never waited and there were nothing but products and attention.
func (n work) secondsByKernels(w workload, encoding string, bandwidth, peak float64) float64 {
	e := encodings[encoding]
	pairs := float64(w.prompt*w.prompt-w.shared*w.shared) / 2 // of a token of the prompt and a position
	position := max(n.cached/bandwidth, n.attention/(peak*attentionShare))
	steps := float64(w.tokens-1) * (float64(w.prompt) + float64(w.tokens)/2) * position
	attention := float64(w.clients) * (pairs*n.attention/(peak*attentionShare) + steps)
	return n.products(w, encoding, bandwidth, peak*e.products*e.tiles) + attention
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
	fmt.Fprintf(out, "\nShare of what %.0f GB/s and %.0f GFLOP/s allow (twice that in bf16, four times in 8 bits), if weights were all;\n"+
		"and of what Lockstep's own kernels allow, if there were nothing but products and attention\n", bandwidth/1e9, peak/1e9)
	header(out, "| workload |", b.contestants)
	for _, w := range b.loads {
		if w.prompt == 0 { // a task
			continue
		}
		fmt.Fprintf(out, "| %s |", w.name)
		for _, c := range b.contestants {
			fmt.Fprintf(out, " %s, %s |", b.share(w, c, b.counts.seconds(w, c.weights, bandwidth, peak)),
				b.share(w, c, b.counts.secondsByKernels(w, c.weights, bandwidth, peak)))
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

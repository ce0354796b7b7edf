package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// key names a sample.
type key struct {
	workload string
	round    int
}

func (c *contestant) add(workload string, round int, s *sample) {
	if c.samples == nil {
		c.samples = map[key]*sample{}
	}
	c.samples[key{workload, round}] = s
}

// figure is a number of a sample.
type figure struct {
	name   string
	format string
	value  func(s *sample) float64
	// faster is the number turned so that more is better; nil: it is in no table of ratios.
	faster func(s *sample) float64
}

var figures = []figure{
	{"tokens/s", "%.0f", func(s *sample) float64 { return s.tokensPerSecond }, func(s *sample) float64 { return s.tokensPerSecond }},
	{"TTFT p50, ms", "%.0f", func(s *sample) float64 { return milliseconds(s.first) },
		func(s *sample) float64 { return 1 / s.first.Seconds() }},
	{"ms a token", "%.1f", func(s *sample) float64 { return milliseconds(s.perToken) }, nil},
	{"CPU ms a token", "%.2f", func(s *sample) float64 { return milliseconds(s.cpuPerToken) },
		func(s *sample) float64 { return 1 / s.cpuPerToken.Seconds() }},
}

// figuresOf are those that say something of a workload.
func figuresOf(w workload) []figure {
	if w.tokens == 1 {
		return []figure{figures[1], figures[3]}
	}
	return figures
}

// report writes the tables: how many times as fast each Lockstep is as each peer, and the medians of all.
func (b *bench) report(out io.Writer) {
	var ours, peers []*contestant
	for _, c := range b.contestants {
		if c.isPeer() {
			peers = append(peers, c)
		} else {
			ours = append(ours, c)
		}
	}
	if len(peers) == 0 { // builds of Lockstep are compared with the first of them
		peers, ours = ours[:1], ours[1:]
	}
	if len(ours) > 0 {
		fmt.Fprintf(out, "\nTimes as fast, or as sparing (medians over %d rounds, least..most; above 1 the row beats the column)\n",
			b.rounds)
		header(out, "| workload | figure | |", peers)
		for _, w := range b.loads {
			for _, f := range figuresOf(w) {
				if f.faster == nil {
					continue
				}
				for _, c := range ours {
					fmt.Fprintf(out, "| %s | %s | %s |", w.name, f.name, c.name)
					for _, peer := range peers {
						fmt.Fprintf(out, " %s |", b.ratio(w, f, c, peer))
					}
					fmt.Fprintln(out)
				}
			}
		}
	}
	fmt.Fprintf(out, "\nMedians (* others had more than %.0f %% of the processors in most rounds)\n", 100*disturbed)
	header(out, "| workload | figure |", b.contestants)
	for _, w := range b.loads {
		for _, f := range figuresOf(w) {
			fmt.Fprintf(out, "| %s | %s |", w.name, f.name)
			for _, c := range b.contestants {
				fmt.Fprintf(out, " %s |", b.median(w, f, c))
			}
			fmt.Fprintln(out)
		}
	}
	b.reportLimits(out)
	for _, c := range b.contestants {
		if c.failure != nil {
			fmt.Fprintf(out, "%s took part only until %v\n", c.name, c.failure)
		}
	}
}

func header(out io.Writer, first string, columns []*contestant) {
	line := first
	for _, c := range columns {
		line += " " + c.name + " |"
	}
	fmt.Fprintln(out, line)
	fmt.Fprintln(out, strings.Repeat("|---", strings.Count(first, "|")-1)+strings.Repeat("|---:", len(columns))+"|")
}

// ratio compares two servers round by round.
func (b *bench) ratio(w workload, f figure, c, peer *contestant) string {
	var ratios []float64
	for round := range b.rounds {
		own, other := c.samples[key{w.name, round}], peer.samples[key{w.name, round}]
		if own != nil && other != nil {
			ratios = append(ratios, f.faster(own)/f.faster(other))
		}
	}
	if len(ratios) == 0 {
		return "-"
	}
	slices.Sort(ratios)
	return fmt.Sprintf("%.2f (%.2f..%.2f)", middle(ratios), ratios[0], ratios[len(ratios)-1])
}

func (b *bench) median(w workload, f figure, c *contestant) string {
	var values []float64
	marked := 0
	for round := range b.rounds {
		if s := c.samples[key{w.name, round}]; s != nil {
			values = append(values, f.value(s))
			if s.mark() != "" {
				marked++
			}
		}
	}
	if len(values) == 0 {
		return "-"
	}
	slices.Sort(values)
	text := fmt.Sprintf(f.format, middle(values))
	if 2*marked > len(values) {
		text += "*"
	}
	return text
}

// middle is the median of sorted values.
func middle(sorted []float64) float64 {
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

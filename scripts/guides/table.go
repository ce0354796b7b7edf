package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// print prints the times of all, and where their masks differ from ours.
func (c *comparison) print(all []answers, alone []int64) {
	fmt.Println("| | schemas | compile ms p50 / p90 / p99 / max | masks | mask us p50 / p90 / p99 / p99.9 / max |")
	fmt.Println("|---|---|---|---|---|")
	for _, a := range all {
		var compiles, masks []int64
		for _, s := range a.schemas {
			if s.Error == "" {
				compiles = append(compiles, s.CompileNS)
			}
			masks = append(masks, slices.Concat(s.MaskNS...)...)
		}
		fmt.Printf("| %s | %d of %d | %s | %d | %s |\n", a.name, len(compiles), len(a.schemas), quantiles(compiles, 1e6, 0.5, 0.9, 0.99, 1),
			len(masks), quantiles(masks, 1e3, 0.5, 0.9, 0.99, 0.999, 1))
	}
	fmt.Printf("| %s, each text on a guide of its own | | | %d | %s |\n\n", all[0].name, len(alone),
		quantiles(alone, 1e3, 0.5, 0.9, 0.99, 0.999, 1))
	for _, a := range all {
		c.printErrors(a)
	}
	if c.verbose {
		c.printSlowest(all[0])
	}
	for _, a := range all[1:] {
		c.printDifferences(all[0], a)
	}
}

// printSlowest names the masks and schemas that take an engine longest.
func (c *comparison) printSlowest(a answers) {
	const most = 30
	type slow struct {
		ns    int64
		where string
	}
	var all, compiles []slow
	for i, s := range a.schemas {
		compiles = append(compiles, slow{s.CompileNS, c.work.Schemas[i].ID})
		for text, times := range s.MaskNS {
			for n, ns := range times {
				where := fmt.Sprintf("%s: text %d behind %d tokens, %d allowed", c.work.Schemas[i].ID, text, n, s.Counts[text][n])
				all = append(all, slow{ns, where})
			}
		}
	}
	for _, list := range [][]slow{compiles, all} {
		slices.SortFunc(list, func(a, b slow) int { return cmp.Compare(b.ns, a.ns) })
		for _, s := range list[:min(most, len(list))] {
			fmt.Printf("%s: %.0f us: %s\n", a.name, float64(s.ns)/1e3, s.where)
		}
	}
}

// printErrors tells of texts that were lost and of schemas that were refused.
func (c *comparison) printErrors(a answers) {
	var refused []string
	lost := 0
	for i, s := range a.schemas {
		if s.Error != "" {
			refused = append(refused, c.work.Schemas[i].ID+" ("+strings.ReplaceAll(s.Error, "\n", " ")+")")
		}
		lost += s.Lost
		if c.verbose && s.Lost > 0 {
			fmt.Printf("%s: %s: %d of %d texts not allowed\n", a.name, c.work.Schemas[i].ID, s.Lost, len(c.work.Schemas[i].Texts))
		}
	}
	fmt.Printf("%s: %d schemas refused, %d texts not allowed to their end\n", a.name, len(refused), lost)
	if c.verbose {
		for _, line := range refused {
			fmt.Println("  refused:", line)
		}
	}
}

// printDifferences compares the masks of a peer with ours.
func (c *comparison) printDifferences(own, peer answers) {
	equal, fewer, more, other := 0, 0, 0, 0
	for i := range own.schemas {
		a, b := &own.schemas[i], &peer.schemas[i]
		before := fewer + more + other
		for text := range min(len(a.Sums), len(b.Sums)) {
			for n := range min(len(a.Sums[text]), len(b.Sums[text])) {
				switch left, right := a.Counts[text][n], b.Counts[text][n]; {
				case a.Sums[text][n] == b.Sums[text][n]:
					equal++
				case right < left:
					fewer++
				case right > left:
					more++
				default:
					other++
				}
			}
		}
		if differ := fewer + more + other - before; c.verbose && differ > 0 {
			fmt.Printf("%s: %s: %d masks differ\n", peer.name, c.work.Schemas[i].ID, differ)
		}
	}
	fmt.Printf("%s: of %d masks %d are equal to ours, %d have fewer tokens, %d have more, %d others\n", peer.name,
		equal+fewer+more+other, equal, fewer, more, other)
}

// quantiles are of some times in nanoseconds, in a unit.
func quantiles(times []int64, unit float64, at ...float64) string {
	if len(times) == 0 {
		return "-"
	}
	slices.Sort(times)
	var out []string
	for _, q := range at {
		out = append(out, fmt.Sprintf("%.4g", float64(times[min(int(q*float64(len(times))), len(times)-1)])/unit))
	}
	return strings.Join(out, " / ")
}

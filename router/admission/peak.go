package admission

import "slices"

const (
	// slackSteps is how many steps more than assumed every request is taken to live (LightLLM's A).
	slackSteps = 16
	// busyPercent of a group's capacity in use makes Peak assume that all requests reach their max_new_tokens
	// (LightLLM's router_token_ratio).
	busyPercent = 85
	// growthPercent of what a request has produced is the least that it is assumed to produce in all.
	growthPercent = 110
	// samplesRequests over the number of requests, and one, is how many futures PastFuture draws: the sum over many
	// requests varies less, so fewer samples will do.
	samplesRequests = 200
)

// future is how one request's memory goes on: it holds now tokens, one more with each step, and ends after so many steps.
type future struct {
	now, steps int
	entry      *entry
}

// scratch is storage that decisions use again.
type scratch struct {
	futures  []future
	residues []int
	options  []option
}

// assumedPeakLength is LightLLM's guess of an item's whole output.
func assumedPeakLength(e *entry, busy bool) int {
	if e.IgnoreEOS || busy {
		return e.MaxNewTokens
	}
	return min(e.MaxNewTokens, max(e.Produced*growthPercent/100, e.kind.lengths.average()))
}

// chunks is how many steps pass before so many known tokens are computed. (LightLLM lets decode steps lie between them;
// our groups do both in one step.)
func (g *group) chunks(pending int) int {
	step := g.Limits.StepPrefillTokens()
	return (pending + step - 1) / step
}

// assumedFuture follows an item as LightLLM does, which lets it grow while its prompt is computed and after its end.
func (g *group) assumedFuture(e *entry, pending int, busy bool) future {
	steps := max(0, g.chunks(pending)+assumedPeakLength(e, busy)-e.Produced-1) + slackSteps
	return future{now: e.known() + 1, steps: steps, entry: e}
}

// drawnFuture follows an item to its drawn end, where it holds its prompt and as many tokens as were drawn.
func (c *Core) drawnFuture(g *group, e *entry, pending, sample int) future {
	length, chunks := c.drawn(e, sample), g.chunks(pending)
	return future{now: max(1, e.known()+1-chunks), steps: max(0, chunks+length-e.Produced-1), entry: e}
}

// assumedPeak is LightLLM's estimate for what runs at a group and a candidate, which may be nil.
func (c *Core) assumedPeak(g *group, candidate *entry) int {
	used := g.held + g.foreign - g.shared
	busy := 100*used >= busyPercent*g.Limits.CapacityTokens
	futures := c.scratch.futures[:0]
	for _, e := range g.running {
		futures = append(futures, g.assumedFuture(e, e.pending, busy))
	}
	if candidate != nil {
		futures = append(futures, g.assumedFuture(candidate, candidate.known(), busy))
	}
	c.scratch.futures = futures
	c.sort(g, futures, c.config.Policy == Peak)
	return c.scratch.peak(futures, g.Limits.BlockTokens)
}

// sampledPeakWith is the largest peak of several futures with a candidate, in each of which every request has the length
// that was drawn for it. Draws stay with their requests and are made anew when a request outgrows them, which leaves
// their distribution as it would be with fresh draws each time; and a head that is tried again and again does not get in
// by a lucky draw.
func (c *Core) sampledPeakWith(g *group, candidate *entry) int {
	worst := 0
	samples := min(c.config.Samples, samplesRequests/len(g.running)+1)
	for sample := range samples {
		futures := c.scratch.futures[:0]
		for _, e := range g.running {
			futures = append(futures, c.drawnFuture(g, e, e.pending, sample))
		}
		futures = append(futures, c.drawnFuture(g, candidate, candidate.known(), sample))
		c.scratch.futures = futures
		c.sort(g, futures, sample == 0)
		worst = max(worst, c.scratch.peak(futures, g.Limits.BlockTokens))
	}
	return worst
}

// sort puts those that end last first. With keep, what runs stays in that order, so that sorting it the next time takes
// about linear time: the order changes little from step to step.
func (c *Core) sort(g *group, futures []future, keep bool) {
	slices.SortFunc(futures, func(a, b future) int { return b.steps - a.steps })
	if !keep {
		return
	}
	running := g.running[:0]
	for i := range futures {
		if e := futures[i].entry; e.group == g {
			running = append(running, e)
		}
	}
}

// peak is the largest sum, over all future moments, of what requests hold in whole blocks; futures are sorted, those
// that end last first. The sum grows until a request ends, so only these moments count. At the end of the j-th the first
// j live, and each has grown by its steps: with a = qa·block + ra and b = qb·block + rb, ⌈(a+b)/block⌉ is qa + qb, one
// more if ra + rb > 0 and another if ra + rb > block; so counts by ra do for all of them.
func (s *scratch) peak(futures []future, blockTokens int) int {
	block := max(blockTokens, 1)
	s.residues = append(s.residues[:0], make([]int, block)...)
	worst, blocks := 0, 0
	for j := range futures {
		f := &futures[j]
		blocks += f.now / block
		s.residues[f.now%block]++
		alive, rest := j+1, f.steps%block
		sum := blocks + alive*(f.steps/block) + alive
		if sum+alive <= worst {
			continue
		}
		if rest == 0 {
			sum -= s.residues[0]
		}
		for residue := block - rest + 1; residue < block; residue++ {
			sum += s.residues[residue]
		}
		worst = max(worst, sum)
	}
	return worst * block
}

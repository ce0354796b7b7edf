package admission

import "slices"

const (
	// startAverageTokens is the output that is assumed before a request has ended; in Peak's average, shorter outputs than
	// floorTokens count as floorTokens (LightLLM).
	startAverageTokens = 2048
	floorTokens        = 64
	// startWeight is the weight of the first ended output; each next one has weightDecay of it, down to leastWeight.
	startWeight = 0.5
	weightDecay = 0.8
	leastWeight = 0.04
)

// lengths is what is known of the outputs of a kind's ended requests.
type lengths struct {
	mean, weight float64

	prior   int   // ended lengths that are assumed for want of real ones
	recent  []int // ring of the last ones
	oldest  int   // index in recent, once it is full
	limit   int   // of recent
	sorted  []int // the same as recent, growing
	version uint64
}

func newLengths(config Config) lengths {
	return lengths{mean: startAverageTokens, weight: startWeight, prior: config.Prior, limit: config.History}
}

func (l *lengths) average() int { return int(l.mean) }

// learn takes in the length of an ended output.
func (l *lengths) learn(tokens int) {
	l.version++
	l.mean += l.weight * (float64(max(tokens, floorTokens)) - l.mean)
	l.weight = max(l.weight*weightDecay, leastWeight)
	l.prior = max(l.prior-1, 0)
	if len(l.recent) < l.limit {
		l.recent = append(l.recent, tokens)
	} else {
		at, _ := slices.BinarySearch(l.sorted, l.recent[l.oldest])
		l.sorted = slices.Delete(l.sorted, at, at+1)
		l.recent[l.oldest] = tokens
		l.oldest = (l.oldest + 1) % l.limit
	}
	at, _ := slices.BinarySearch(l.sorted, tokens)
	l.sorted = slices.Insert(l.sorted, at, tokens)
}

// drawn returns the sample-th length of an item, drawing it if there is none yet or the item has outgrown it.
func (c *Core) drawn(e *entry, sample int) int {
	if e.IgnoreEOS {
		return e.MaxNewTokens
	}
	if e.draws[sample] == 0 || e.draws[sample] <= e.Produced {
		e.draws[sample] = e.kind.lengths.draw(e.Produced, e.MaxNewTokens, uniform(c.config.Seed, e.ID, uint64(sample), uint64(e.Produced)))
	}
	return e.draws[sample]
}

// draw picks the length of an output that has produced tokens and may have most, given a number in [0, 1).
//
// At the start it is one of those that ended lately or of the prior's, cut to most. Later it lies between what has been
// produced, the longer ones of the history and most, at a uniform place of their sorted list, between two of them in
// proportion: so the tail is not only what the history happens to hold. A request that has outgrown the prior finds most
// in its place.
func (l *lengths) draw(produced, most int, u float64) int {
	if produced >= most {
		return most
	}
	if produced == 0 {
		at := int(u * float64(len(l.sorted)+l.prior))
		if at >= len(l.sorted) {
			return min(startAverageTokens, most)
		}
		return max(1, min(l.sorted[at], most))
	}
	first, _ := slices.BinarySearch(l.sorted, produced+1)
	longer := l.sorted[first:]
	value := func(i int) float64 { // of the list: produced, longer, the prior's, most
		switch {
		case i == 0:
			return float64(produced)
		case i <= len(longer):
			return float64(min(longer[i-1], most))
		}
		return float64(most)
	}
	place := u * float64(len(longer)+l.prior+1)
	at := int(place)
	length := value(at) + (place-float64(at))*(value(at+1)-value(at))
	return min(max(int(length+0.5), produced+1), most)
}

// uniform is a number in [0, 1) that follows from its arguments alone (SplitMix64), so that no draw depends on the order
// in which requests are looked at.
func uniform(values ...uint64) float64 {
	var state uint64
	for _, value := range values {
		state += value + 0x9e3779b97f4a7c15
		state = (state ^ state>>30) * 0xbf58476d1ce4e5b9
		state = (state ^ state>>27) * 0x94d049bb133111eb
		state ^= state >> 31
	}
	return float64(state>>11) / (1 << 53)
}

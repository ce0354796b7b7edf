package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// Span is a half-open range.
type Span struct{ From, To int }

func (s Span) Size() int { return s.To - s.From }

func (s Span) times(n int) Span { return Span{s.From * n, s.To * n} }

// MarshalJSON writes [from, to].
func (s Span) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "[%d,%d]", s.From, s.To), nil }

// Partition says which part of a model one rank holds. Query heads and columns that do not divide evenly are shared out
// unevenly; a KV head that serves query heads of two ranks lies on both.
type Partition struct {
	Rank, Ranks int
	Heads       Span // query heads
	KVHeads     Span
	Columns     Span // of the MLP's intermediate size
	Vocabulary  Span // rows of the head
}

// maxChunks is how many chunks the summed dimension of a row-parallel matrix has at most: up to so many shards give equal
// bits where the model divides evenly.
const maxChunks = 8

// Split shares a model over ranks. columnUnit is the number of MLP columns that stay together (a quantisation block).
func Split(c *Config, rank, ranks, columnUnit int) (Partition, error) {
	if ranks > c.Heads || ranks > c.Intermediate/columnUnit || ranks > c.Vocabulary {
		return Partition{}, fmt.Errorf("%d shards are too many for %d query heads and %d MLP columns in units of %d: lower --num-shard",
			ranks, c.Heads, c.Intermediate, columnUnit)
	}
	p := Partition{Rank: rank, Ranks: ranks}
	group := c.Heads / c.KVHeads
	if ranks <= c.KVHeads {
		p.KVHeads = share(c.KVHeads, rank, ranks)
		p.Heads = Span{p.KVHeads.From * group, p.KVHeads.To * group}
	} else {
		p.Heads = share(c.Heads, rank, ranks)
		p.KVHeads = Span{p.Heads.From / group, (p.Heads.To + group - 1) / group}
	}
	units := share(c.Intermediate/columnUnit, rank, ranks)
	p.Columns = Span{units.From * columnUnit, units.To * columnUnit}
	if rank == ranks-1 {
		p.Columns.To = c.Intermediate
	}
	p.Vocabulary = share(c.Vocabulary, rank, ranks)
	return p, nil
}

// share gives rank its part of count things; the first ranks get one more where it does not divide.
func share(count, rank, ranks int) Span {
	each, more := count/ranks, count%ranks
	from := rank*each + min(rank, more)
	to := from + each
	if rank < more {
		to++
	}
	return Span{from, to}
}

// chunkUnit is what a chunk of the summed dimension must be a multiple of.
func chunkUnit(e weights.Encoding) int {
	switch e {
	case weights.F32:
		return 1
	case weights.F16, weights.BF16:
		return 2
	}
	return e.CutColumns()
}

// chunkCount is the number of chunks into which the whole model's summed dimension of `columns` in `units` (heads, or
// columns) is cut: a property of the model, not of the number of shards.
func chunkCount(columns, units int, e weights.Encoding) int {
	chunks := maxChunks
	for units%chunks != 0 || columns/chunks%chunkUnit(e) != 0 {
		chunks /= 2
		if chunks == 1 {
			break
		}
	}
	return chunks
}

// localChunks is the number of chunks of the part `local`: whole chunks if it holds a power of two of them, else one.
func localChunks(local Span, columns, chunks int) int {
	size := columns / chunks
	if columns%chunks != 0 || local.From%size != 0 || local.To%size != 0 {
		return 1
	}
	count := local.Size() / size
	if count&(count-1) != 0 {
		return 1
	}
	return count
}

// widened is the smallest range around s that can be computed with alone.
func widened(s Span, e weights.Encoding) Span {
	unit := e.CutColumns()
	return Span{s.From / unit * unit, (s.To + unit - 1) / unit * unit}
}

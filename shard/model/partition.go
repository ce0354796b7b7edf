package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// span is a half-open range.
type span struct{ from, to int }

func (s span) size() int { return s.to - s.from }

// Partition says which part of a model one rank holds. Query heads and columns that do not divide evenly are shared out
// unevenly; a KV head that serves query heads of two ranks lies on both.
type Partition struct {
	Rank, Ranks int
	heads       span // query heads
	kvHeads     span
	columns     span // of the MLP's intermediate size
	vocabulary  span // rows of the head
}

// maxChunks is how many chunks the summed dimension of a row-parallel matrix has at most: up to so many shards give equal
// bits where the model divides evenly.
const maxChunks = 8

// Split shares a model over ranks. columnUnit is the number of MLP columns that stay together (a quantisation block).
func Split(c weights.Config, rank, ranks, columnUnit int) (Partition, error) {
	if ranks > c.Heads || ranks > c.Intermediate/columnUnit || ranks > c.Vocabulary {
		return Partition{}, fmt.Errorf("%d shards are too many for %d query heads and %d MLP columns in units of %d: lower --num-shard", ranks, c.Heads, c.Intermediate, columnUnit)
	}
	p := Partition{Rank: rank, Ranks: ranks}
	group := c.Heads / c.KVHeads
	if ranks <= c.KVHeads {
		p.kvHeads = share(c.KVHeads, rank, ranks)
		p.heads = span{p.kvHeads.from * group, p.kvHeads.to * group}
	} else {
		p.heads = share(c.Heads, rank, ranks)
		p.kvHeads = span{p.heads.from / group, (p.heads.to + group - 1) / group}
	}
	units := share(c.Intermediate/columnUnit, rank, ranks)
	p.columns = span{units.from * columnUnit, units.to * columnUnit}
	if rank == ranks-1 {
		p.columns.to = c.Intermediate
	}
	p.vocabulary = share(c.Vocabulary, rank, ranks)
	return p, nil
}

// share gives rank its part of count things; the first ranks get one more where it does not divide.
func share(count, rank, ranks int) span {
	each, more := count/ranks, count%ranks
	from := rank*each + min(rank, more)
	to := from + each
	if rank < more {
		to++
	}
	return span{from, to}
}

// chunkUnit is what a chunk of the summed dimension must be a multiple of.
func chunkUnit(e weights.Encoding) int {
	switch e {
	case weights.F32:
		return 1
	case weights.F16, weights.BF16:
		return 2
	}
	return e.BlockColumns()
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
func localChunks(local span, columns, chunks int) int {
	size := columns / chunks
	if columns%chunks != 0 || local.from%size != 0 || local.to%size != 0 {
		return 1
	}
	count := local.size() / size
	if count&(count-1) != 0 {
		return 1
	}
	return count
}

// widened is the smallest range around s that cuts no quantisation block.
func widened(s span, e weights.Encoding) span {
	unit := e.BlockColumns()
	return span{s.from / unit * unit, (s.to + unit - 1) / unit * unit}
}

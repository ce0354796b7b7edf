package gpu

import (
	"unsafe"

	"lockstep/shard/model"
	"lockstep/shard/sample"
)

// head computes logits. Where only the likeliest token is wanted they stay on the card, and summaries of their parts leave it.
type head struct {
	*model.Head
	weight matrix
}

// summarised is how many logits a summary is of (kernels/rows.cu), and summaryFloats its size in the group's memory.
const (
	summarised    = 4096
	summaryFloats = int(unsafe.Sizeof(sample.Summary{})) / 4
)

// summaryParts is how many summaries this rank has of a row.
func (b *Backend) summaryParts() int { return (b.part.Vocabulary.Size() + summarised - 1) / summarised }

// launch leaves the rows' logits in logits, and their summaries in summaries.
func (s *head) launch(b *Backend, from, count int) error {
	if err := b.gather(from, count); err != nil {
		return err
	}
	if own := s.Weight.Rows; own.Size() > 0 {
		if err := b.finish(&s.weight, count, own.Size(), s.Cap); err != nil {
			return err
		}
		if err := b.launch("summarise", [3]int{b.summaryParts(), count, 1}, rowThreads, 0, b.summaries, b.logits, int32(own.Size()),
			int32(own.From)); err != nil {
			return err
		}
	}
	if !b.shape.followed {
		return nil
	}
	return b.choose(count)
}

// choose leaves the rows' likeliest tokens in chosen, on all ranks.
func (b *Backend) choose(rows int) error {
	ranks := b.part.Ranks
	if err := b.launch("nominate", [3]int{rows, 1, 1}, 32, 0, b.nominated, b.summaries, int32(b.summaryParts()), int32(b.part.Rank),
		int32(ranks)); err != nil {
		return err
	}
	if ranks > 1 {
		if err := b.exchange(b.nominated, rows, 2*ranks); err != nil {
			return err
		}
	}
	return b.launch("choose", [3]int{(rows + 63) / 64, 1, 1}, 64, 0, b.chosen, b.nominated, int32(rows), int32(ranks))
}

// hand gathers the ranks' logits and summaries.
func (s *head) hand(b *Backend, f *flight, from, count int, consume func(model.Scores)) error {
	onlyBest := f.onlyBest[from:][:count]
	rows, err := s.download(b, onlyBest)
	if err != nil {
		return err
	}
	summaries, err := b.summariesOf(f, onlyBest)
	if err != nil {
		return err
	}
	if err := b.group.AwaitRelease(); err != nil {
		return err
	}
	handed := b.handedIn(b.group.GatherArea(), onlyBest)
	for i, row := range rows {
		copy(handed.logits[i*handed.vocabulary+s.Weight.Rows.From:], row)
	}
	copy(handed.summaries[b.part.Rank*b.logitRows():], summaries)
	if err := b.group.Gather(); err != nil {
		return err
	}
	if b.part.Rank == 0 {
		consume(handed)
		b.group.Release()
	}
	return nil
}

// download returns this rank's logits of the rows that are wanted whole; nil for the others.
func (s *head) download(b *Backend, onlyBest []bool) (rows [][]float32, err error) {
	own := s.Weight.Rows.Size()
	rows = make([][]float32, len(onlyBest))
	for at := 0; at < len(rows); at++ {
		end := at
		for end < len(rows) && !onlyBest[end] {
			end++
		}
		if end == at || own == 0 {
			continue
		}
		part := make([]float32, (end-at)*own)
		if err := b.device.Download(bytesOf(part), b.logits+Address(4*at*own)); err != nil {
			return nil, err
		}
		for i := at; i < end; i++ {
			rows[i] = part[(i-at)*own:][:own]
		}
		at = end
	}
	return rows, nil
}

// summariesOf returns this rank's summaries of rows, if any is wanted.
func (b *Backend) summariesOf(f *flight, onlyBest []bool) ([]sample.Summary, error) {
	last := -1
	for i, only := range onlyBest {
		if only {
			last = i
		}
	}
	each := b.summaryParts()
	rows := make([]sample.Summary, last+1)
	if !f.followed {
		f.parts = make([]sample.Summary, len(rows)*each)
		if len(f.parts) > 0 {
			if err := b.device.Download(bytesOf(f.parts), b.summaries); err != nil {
				return nil, err
			}
		}
	}
	for i := range rows {
		rows[i] = sample.NoSummary()
		for part := range each {
			rows[i].Add(&f.parts[i*each+part])
		}
	}
	return rows, nil
}

// handed are rows of logits, and for those of which only the best is wanted summaries, as they lie in the group's memory.
type handed struct {
	logits     []float32 // [row][vocabulary]
	vocabulary int
	summaries  []sample.Summary // [rank][most rows]
	most       int
	onlyBest   []bool
}

// handedFloats is the size of the largest.
func (b *Backend) handedFloats(rows int) int {
	return rows * (b.config.Vocabulary + b.part.Ranks*summaryFloats)
}

// handedIn finds them in the group's memory: summaries, which have numbers of 8 bytes, lie first.
func (b *Backend) handedIn(area []float32, onlyBest []bool) *handed {
	most := b.logitRows()
	count := b.part.Ranks * most
	return &handed{summaries: unsafe.Slice((*sample.Summary)(unsafe.Pointer(&area[0])), count), most: most,
		logits: area[count*summaryFloats:], vocabulary: b.config.Vocabulary, onlyBest: onlyBest}
}

func (h *handed) Rows() int { return len(h.onlyBest) }

func (h *handed) Row(row int) []float32 {
	if h.onlyBest[row] {
		panic("the logits of a row were not wanted")
	}
	return h.logits[row*h.vocabulary:][:h.vocabulary]
}

func (h *handed) BestOf(logits []float32) (token int32, logprob float32) { return sample.Best(logits) }

func (h *handed) Best(row int) (token int32, logprob float32) {
	if !h.onlyBest[row] {
		return sample.Best(h.Row(row))
	}
	sum := sample.NoSummary()
	for at := row; at < len(h.summaries); at += h.most {
		sum.Add(&h.summaries[at])
	}
	return sum.Best(h.vocabulary)
}

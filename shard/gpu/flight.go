package gpu

import (
	"slices"

	"lockstep/shard/model"
	"lockstep/shard/sample"
)

// flight is a step that was launched and is not collected.
type flight struct {
	onlyBest  []bool // of the wanted rows
	followed  bool
	exchanged bool             // ranks have exchanged by their devices
	parts     []sample.Summary // that a followed step fetches, and whether an exchange of it was given up
	failed    []byte
}

// Forward computes one step, of at most maxRows tokens. On rank 0 it calls consume with the scores that are wanted, in the order of the
// chunks and their tokens, up to model.LogitRows at a time.
func (b *Backend) Forward(chunks []model.Chunk, consume func(model.Scores)) error {
	if err := b.Launch(chunks, false); err != nil {
		return err
	}
	return b.Collect(consume)
}

// CanBeFollowed reports whether the device chooses all tokens of a step and can look their embeddings up: then the next may have
// model.ChosenBy for tokens.
func (b *Backend) CanBeFollowed(chunks []model.Chunk) bool {
	_, fetches := b.device.(Fetcher)
	if _, isHead := b.output.(*head); !isHead || !fetches || b.hosted != nil || b.part.Ranks > 1 && b.peers.told == 0 {
		return false
	}
	rows := 0
	for i := range chunks {
		switch chunks[i].Logits {
		case model.LogitsNone:
		case model.LogitsBest:
			rows++
		default:
			return false
		}
	}
	most := (b.config.Vocabulary + summarised - 1) / summarised
	return rows > 0 && rows <= b.logitRows() && 4*summaryFloats*rows*most < MaxFetch
}

// Launch begins a step. Of one that is followed everything is launched, and what is wanted of it fetched; the scores of others are
// launched as Collect hands them over.
func (b *Backend) Launch(chunks []model.Chunk, followed bool) error {
	if len(chunks) == 0 {
		b.flights = append(b.flights, flight{})
		return nil
	}
	if err := b.begin(chunks, followed); err != nil {
		return err
	}
	if err := b.launchStages(); err != nil {
		return err
	}
	if followed && !b.outputFilled() {
		if err := b.output.launch(b, 0, len(b.wanted)); err != nil {
			return err
		}
	}
	f := flight{onlyBest: slices.Clone(b.onlyBest), followed: followed, exchanged: b.peers.place > 0}
	b.peers.number, b.peers.place = b.peers.number+uint32(b.peers.place), 0
	if followed {
		if err := b.fetch(&f); err != nil {
			return err
		}
	}
	b.flights = append(b.flights, f)
	return nil
}

// fetch has copied what is handed over of a followed step.
func (b *Backend) fetch(f *flight) error {
	f.parts, f.failed = make([]sample.Summary, len(f.onlyBest)*b.summaryParts()), make([]byte, 4)
	var reads []Read
	if len(f.parts) > 0 {
		reads = append(reads, Read{bytesOf(f.parts), b.summaries})
	}
	if f.exchanged {
		reads = append(reads, Read{f.failed, b.peers.failed})
	}
	return b.device.(Fetcher).Fetch(reads...)
}

// Collect ends the oldest step that was launched.
func (b *Backend) Collect(consume func(model.Scores)) error {
	f := b.flights[0]
	b.flights = slices.Delete(b.flights, 0, 1)
	if f.followed {
		if err := b.device.(Fetcher).Await(); err != nil {
			return err
		}
		if f.failed[0] != 0 {
			return errExchange
		}
		return b.output.hand(b, &f, 0, len(f.onlyBest), consume)
	}
	if err := b.checkExchange(&f); err != nil { // before anybody sees a token
		return err
	}
	for from := 0; from < len(f.onlyBest); from += b.logitRows() {
		count := min(b.logitRows(), len(f.onlyBest)-from)
		if !b.outputFilled() {
			if err := b.output.launch(b, from, count); err != nil {
				return err
			}
		}
		if err := b.output.hand(b, &f, from, count, consume); err != nil {
			return err
		}
	}
	return nil
}

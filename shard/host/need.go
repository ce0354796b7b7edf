package host

import "lockstep/shard/model"

// need is what stages need of the working memory, in floats for each row of a step.
type need struct {
	gate, latent int
	aside        bool
	choices      int // of experts; 0: there are none
	parts        int // of a row that the ranks exchange, each [hidden]
	reduced      int // of what the ranks exchange for adapters
	low          int // of what adapters add
}

// grow makes it enough for a stage.
func (n *need) grow(planned model.Stage) {
	switch p := planned.(type) {
	case *model.Embed:
		n.aside = n.aside || p.AsideNorm.Weight != nil
	case *model.Project:
		n.low = max(n.low, lowFloats(&p.Query, &p.Key, &p.Value))
	case *model.ProjectLatent:
		n.latent = max(n.latent, latentColumns(p))
		n.low = max(n.low, lowFloats(&p.Latent, &p.Query, p.QueryLatent, &p.Key, &p.Value))
	case *model.Gate:
		n.gate, n.low = max(n.gate, p.Up.Rows.Size()), max(n.low, lowFloats(p.Gate, &p.Up))
	case *model.Join:
		n.aside = n.aside || p.AsideNorm.Weight != nil
		n.reduced, n.low = max(n.reduced, largestRank(&p.Weight)), max(n.low, lowFloats(&p.Weight))
	case *model.Experts:
		n.growForExperts(p)
	}
}

func (n *need) growForExperts(p *model.Experts) {
	chosen, reduced, raising, lowering := p.Routing.Chosen, 0, 0, 0 // the last three of one expert
	for i := range p.Experts {
		e := &p.Experts[i]
		reduced = max(reduced, largestRank(&e.Down))
		raising, lowering = max(raising, lowFloats(&e.Gate, &e.Up)), max(lowering, lowFloats(&e.Down))
	}
	columns, parts := chosen*p.Experts[0].Up.Rows.Size(), chosen
	reduced, raising, lowering = chosen*reduced, chosen*raising, chosen*lowering
	if shared := p.Shared; shared != nil {
		columns, parts, reduced = columns+shared.Up.Rows.Size(), parts+1, reduced+largestRank(&shared.Down)
		raising, lowering = raising+lowFloats(&shared.Gate, &shared.Up), lowering+lowFloats(&shared.Down)
	}
	n.gate, n.parts, n.reduced = max(n.gate, columns), max(n.parts, parts), max(n.reduced, reduced)
	n.choices, n.low = max(n.choices, chosen), max(n.low, raising, lowering, lowFloats(&p.Router))
}

// latentColumns is how many floats of Backend.latent a row takes: its latent with the rotated part of its key, the parts of this
// rank's keys that are not rotated, and the queries' latent.
func latentColumns(p *model.ProjectLatent) int {
	columns := p.Latent.Rows.Size() + p.Key.Rows.Size()
	if p.QueryLatent != nil {
		columns += p.QueryLatent.Rows.Size()
	}
	return columns
}

// lowFloats is the memory, for each row, of what adapters add to these linear operations at once; nil: there is none such.
func lowFloats(linears ...*model.Linear) (floats int) {
	for _, l := range linears {
		if l == nil {
			continue
		}
		largest := 0
		for _, low := range l.Low {
			if low != nil {
				largest = max(largest, low.A.Rows.Size()+low.B.Rows.Size())
			}
		}
		floats += largest
	}
	return floats
}

// largestRank is the largest of the adapters' ranks of a linear operation.
func largestRank(l *model.Linear) (rank int) {
	for _, low := range l.Low {
		if low != nil {
			rank = max(rank, low.A.Rows.Size())
		}
	}
	return rank
}

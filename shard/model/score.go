package model

import (
	"lockstep/shard/cpu"
	"lockstep/shard/weights"
)

// scoreHead turns the last state of a prompt into a score: score = outer x, or outer relu(inner x + bias) + bias. Rank 0
// has it whole and the others nothing: it is small beside a layer. Its sums are one chain each, like those of a head over the
// vocabulary.
type scoreHead struct {
	inner                *cpu.Matrix // [hidden][hidden]; nil: none, and no biases
	outer                *cpu.Matrix // [1][hidden]
	innerBias, outerBias []float32
}

func (l *loader) scoreHead() *scoreHead {
	hidden, one := span{0, l.config.Hidden}, span{0, 1}
	if l.config.Score == weights.ScoreLinear {
		return &scoreHead{outer: l.matrix("v_head.weight", one, hidden, one, hidden, 1)}
	}
	return &scoreHead{
		inner: l.matrix("score.0.weight", hidden, hidden, hidden, hidden, 1), innerBias: l.vector("score.0.bias", hidden.size()),
		outer: l.matrix("score.2.weight", one, hidden, one, hidden, 1), outerBias: l.vector("score.2.bias", 1),
	}
}

// scores computes the scores of the wanted rows on rank 0.
func (m *Model) scores(consume func(scores []float32, rows int)) {
	count, hidden, head := len(m.wanted), m.config.Hidden, m.score
	if head == nil || count == 0 {
		return
	}
	for i, r := range m.wanted {
		copy(m.hidden[i*hidden:][:hidden], m.normed[int(r)*hidden:][:hidden]) // hidden is not needed any more
	}
	x := m.hidden
	if head.inner != nil {
		x = m.normed
		m.linearRows(m.hidden, hidden, count, product{head.inner, x, hidden})
		m.team.Share(count, 1, func(_, from, to int) {
			for i := from; i < to; i++ {
				row := x[i*hidden:][:hidden]
				m.kernels.Add(row, row, head.innerBias)
				for j, v := range row {
					row[j] = max(v, 0)
				}
			}
		})
	}
	m.linearRows(x, hidden, count, product{head.outer, m.scored, 1})
	scored := m.scored[:count]
	if head.outerBias != nil {
		for i := range scored {
			scored[i] += head.outerBias[0]
		}
	}
	consume(scored, count)
}

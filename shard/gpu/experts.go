package gpu

import "lockstep/shard/model"

// experts are a layer's experts: their matrices of a kind lie behind one another.
type experts struct {
	*model.Experts
	router               matrix
	gate, up, down       expertMatrix
	sharedGate, sharedUp matrix
	sharedDown           matrix
	partNorm, norm       norm
	told                 Address // routingSettings
	work                 expertWork
}

// routingSettings are struct Routing of kernels/experts.cu.
type routingSettings struct {
	experts, chosen, sigmoid, normalised, groups, groupsChosen, groupPairs int32
	scale                                                                  float32
	correction, bias                                                       Address
}

// expertWork is where in the working memory experts have their numbers.
type expertWork struct {
	gate, up, sums, sharedSums Address // in products
	inner, sharedInner         Address // in inner
}

// choiceMemory is what all layers' experts number a step's choices in (kernels/experts.cu).
type choiceMemory struct{ experts, weights, starts, numbers, rowOf, expertOf, mixed Address }

func (l *loader) experts(p *model.Experts) *experts {
	s := &experts{Experts: p, router: l.linear(&p.Router), partNorm: l.norm(&p.PartNorm), norm: l.norm(&p.Norm)}
	all := func(of func(e *model.Expert) *model.Linear) (m expertMatrix) {
		if l.err == nil {
			m, l.err = l.packExperts(p, of)
		}
		return m
	}
	s.gate = all(func(e *model.Expert) *model.Linear { return &e.Gate })
	s.up = all(func(e *model.Expert) *model.Linear { return &e.Up })
	s.down = all(func(e *model.Expert) *model.Linear { return &e.Down })
	if p.Shared != nil {
		s.sharedGate, s.sharedUp, s.sharedDown = l.linear(&p.Shared.Gate), l.linear(&p.Shared.Up), l.linear(&p.Shared.Down)
	}
	if l.err != nil {
		return s
	}
	chosen := p.Routing.Chosen
	l.need.choices, l.need.experts = max(l.need.choices, chosen), max(l.need.experts, len(p.Experts))
	l.need.parts = max(l.need.parts, s.parts())
	l.need.ordered = max(l.need.ordered, chosen*max(s.gate.orderedBytes(l.terms), s.up.orderedBytes(l.terms), s.down.orderedBytes(l.terms)))
	l.need.products = max(l.need.products, s.router.outputs(), chosen*(s.gate.outputs()+s.up.outputs()+s.down.chunks*s.down.outputs())+
		max(s.sharedGate.outputs()+s.sharedUp.outputs(), s.sharedDown.chunks*s.sharedDown.outputs()))
	l.need.inner = max(l.need.inner, chosen*s.down.bytes(1, l.terms)+s.sharedDown.bytes(1, l.terms))
	settings := routingSettings{experts: int32(len(p.Experts)), chosen: int32(chosen), sigmoid: truth(p.Routing.Sigmoid),
		normalised: truth(p.Routing.Normalised), groups: int32(p.Routing.Groups), groupsChosen: int32(p.Routing.GroupsChosen),
		groupPairs: truth(p.Routing.GroupPairs), scale: p.Routing.Scale, bias: s.router.bias}
	if settings.correction, l.err = l.vector(p.Routing.Correction); l.err == nil {
		s.told, l.err = l.tell(bytesOfStruct(&settings))
	}
	return s
}

func truth(v bool) int32 {
	if v {
		return 1
	}
	return 0
}

// parts is how many sums the ranks exchange for a row.
func (s *experts) parts() int {
	if s.Shared != nil {
		return s.Routing.Chosen + 1
	}
	return s.Routing.Chosen
}

func (s *experts) settle(b *Backend) error {
	w, choices := &s.work, b.maxRows*s.Routing.Chosen
	w.gate = b.products
	w.up = w.gate + Address(4*choices*s.gate.outputs())
	w.sums = w.up + Address(4*choices*s.up.outputs())
	w.sharedSums = w.sums + Address(4*choices*s.down.chunks*s.down.outputs())
	w.inner = b.inner
	w.sharedInner = w.inner + Address(s.down.bytes(choices, b.terms))
	return nil
}

// compute computes each expert for the rows that chose it. The ranks exchange what each choice gives, and each row's are weighted and
// summed behind that, in the order of its choice: so the sums over an expert's columns continue the same tree on any number of ranks.
func (s *experts) compute(b *Backend) error {
	rows, chosen := b.shape.rows, s.Routing.Chosen
	if err := s.choose(b); err != nil {
		return err
	}
	if err := s.computeChosen(b, rows*chosen); err != nil {
		return err
	}
	if s.Shared != nil {
		if err := s.computeShared(b); err != nil {
			return err
		}
	}
	each, shared, err := s.sums(b)
	if err != nil {
		return err
	}
	c := &b.choice
	if err := b.launch("mix", [3]int{rows, 1, 1}, rowThreads, 0, c.mixed, each, shared, s.down.bias, c.numbers, c.experts, c.weights,
		int32(chosen), int32(b.config.Hidden)); err != nil {
		return err
	}
	return b.join(c.mixed, 0, b.config.Hidden, 1, 0, s.partNorm, s.norm, norm{})
}

// choose routes the rows and numbers their choices.
func (s *experts) choose(b *Backend) error {
	rows, count, c := b.shape.rows, len(s.Experts.Experts), &b.choice
	if err := b.outputs(b.normed, result{b.products, &s.router}); err != nil {
		return err
	}
	if err := b.launch("route", [3]int{rows, 1, 1}, 32, 4*(2*count+s.Routing.Groups), c.experts, c.weights, b.products,
		int32(s.router.outputs()), s.told); err != nil {
		return err
	}
	if err := b.launch("number", [3]int{1, 1, 1}, rowThreads, 4*count, c.starts, c.numbers, c.rowOf, c.expertOf, c.experts,
		int32(rows*s.Routing.Chosen), int32(count), int32(s.Routing.Chosen)); err != nil {
		return err
	}
	return s.pairUp(b)
}

// computeChosen leaves each choice's product with down in sums.
func (s *experts) computeChosen(b *Backend, choices int) error {
	w, c, rows := &s.work, &b.choice, b.shape.rows
	for _, r := range []struct {
		y Address
		m *expertMatrix
	}{{w.gate, &s.gate}, {w.up, &s.up}} {
		if err := s.multiply(b, r.y, r.m, b.normed, c.rowOf, choices, rows); err != nil {
			return err
		}
		if low, u := r.m.low, &b.adapted.paired; low != nil && u.count > 0 {
			if err := b.reduce(u, low, b.normed, u.rowOf, rows, false); err != nil {
				return err
			}
			if err := b.addLow(u, r.y, r.m.outputs(), low); err != nil {
				return err
			}
		}
	}
	if err := b.activate(w.inner, w.gate, w.up, &s.gate.matrix, &s.up.matrix, c.expertOf, s.Activation, s.down.input, choices); err != nil {
		return err
	}
	return s.multiply(b, w.sums, &s.down, w.inner, 0, choices, choices)
}

// computeShared leaves the shared expert's product with down in sharedSums; gate and up lie there before.
func (s *experts) computeShared(b *Backend) error {
	w, rows := &s.work, b.shape.rows
	gate := w.sharedSums
	up := gate + Address(4*b.maxRows*s.sharedGate.outputs())
	if err := b.outputs(b.normed, result{gate, &s.sharedGate}, result{up, &s.sharedUp}); err != nil {
		return err
	}
	if err := b.activate(w.sharedInner, gate, up, &s.sharedGate, &s.sharedUp, 0, s.Activation, s.sharedDown.input, rows); err != nil {
		return err
	}
	return b.multiply(w.sharedSums, &s.sharedDown, w.sharedInner, rows)
}

// sums gives what each choice and the shared expert give, [choice or row][hidden], summed over chunks and ranks.
func (s *experts) sums(b *Backend) (each, shared Address, err error) {
	rows, hidden := b.shape.rows, b.config.Hidden
	choices := rows * s.Routing.Chosen
	each = b.folded
	behind := each + Address(4*choices*hidden)
	if err = b.fold(each, s.work.sums, &s.down.matrix, choices, s.down.parts()); err != nil {
		return 0, 0, err
	}
	if s.Shared != nil {
		shared = behind
		if err = b.fold(shared, s.work.sharedSums, &s.sharedDown, rows, s.sharedDown.parts()); err != nil {
			return 0, 0, err
		}
	}
	if b.part.Ranks > 1 {
		if err = b.exchange(b.folded, rows*s.parts(), hidden); err != nil {
			return 0, 0, err
		}
	}
	if u := &b.adapted.paired; s.down.low != nil && u.count > 0 {
		if err = b.lowered(u, s.down.low, s.work.inner, u.target, choices, each); err != nil {
			return 0, 0, err
		}
	}
	if u := &b.adapted.users; s.sharedDown.low != nil && u.count > 0 {
		err = b.lowered(u, s.sharedDown.low, s.work.sharedInner, u.rowOf, rows, shared)
	}
	return each, shared, err
}

package jinja

// loopValue is what loop means in a loop.
type loopValue struct {
	next    func() (Value, error) // nil at the end
	length  int64                 // negative while it is not known
	index0  int64
	after   Value // the item behind the current one; nil while it is not known
	ended   bool  // there is none
	current Value
	before  Value
}

// peek returns the item behind the current one, or nil.
func (l *loopValue) peek() (Value, error) {
	if l.after == nil && !l.ended {
		var err error
		if l.after, err = l.next(); err != nil {
			return nil, err
		}
		l.ended = l.after == nil
	}
	return l.after, nil
}

func (l *loopValue) advance() (Value, error) {
	item, err := l.peek()
	if item == nil || err != nil {
		return nil, err
	}
	l.after = nil
	l.index0++
	l.before, l.current = l.current, item
	return item, nil
}

func (l *loopValue) fromEnd(count int64) (Value, error) {
	if l.length < 0 {
		return nil, failf("counting the items of a loop with a condition is not supported")
	}
	return Int(l.length - count), nil
}

// attribute returns nil for one that loop does not have.
func (l *loopValue) attribute(name string) (Value, error) {
	switch name {
	case "index":
		return Int(l.index0 + 1), nil
	case "index0":
		return Int(l.index0), nil
	case "first":
		return Bool(l.index0 == 0), nil
	case "last":
		item, err := l.peek()
		return Bool(item == nil), err
	case "length":
		return l.fromEnd(0)
	case "revindex":
		return l.fromEnd(l.index0)
	case "revindex0":
		return l.fromEnd(l.index0 + 1)
	case "previtem":
		if l.index0 == 0 || l.before == nil {
			return &undefined{hint: "there is no previous item"}, nil
		}
		return l.before, nil
	case "nextitem":
		item, err := l.peek()
		if item == nil && err == nil {
			return &undefined{hint: "there is no next item"}, nil
		}
		return item, err
	}
	return nil, nil
}

func (n *forNode) run(s *scope, out *output) (jump, error) {
	items, err := n.iterable.eval(s)
	if err != nil {
		return jumpNone, err
	}
	r := s.run
	c, err := r.iterate(items)
	if err != nil {
		return jumpNone, err
	}
	loop := &loopValue{next: c.next, length: int64(len(c.items)), index0: -1}
	if n.test != nil {
		if err := r.allocateValues(n.testSlots); err != nil {
			return jumpNone, err
		}
		loop.next, loop.length = n.filtered(c, s.inner(n.testSlots)), -1
	}
	ran := false // to the end of the body at least once: where each time was cut short, the reference runs else
	for {
		item, err := loop.advance()
		if err != nil {
			return jumpNone, err
		}
		if item == nil {
			break
		}
		if err := r.step(1); err != nil {
			return jumpNone, err
		}
		if n.extended {
			s.set(&n.loop, loop)
		}
		if err := n.target.assign(s, item); err != nil {
			return jumpNone, err
		}
		s.enter(&n.bodyScope)
		j, err := runAll(n.body, s, out)
		if err != nil {
			return jumpNone, err
		}
		if j == jumpBreak {
			break
		}
		ran = ran || j == jumpNone
	}
	if n.hasElse && !ran {
		s.enter(&n.elseScope)
		return runAll(n.otherwise, s, out)
	}
	return jumpNone, nil
}

// filtered passes on the items for which the loop's condition holds.
func (n *forNode) filtered(c *iterator, s *scope) func() (Value, error) {
	entered := false
	return func() (Value, error) {
		if !entered {
			s.enter(&n.testScope)
			entered = true
		}
		for {
			item, err := c.next()
			if item == nil || err != nil {
				return nil, err
			}
			if err := s.run.step(1); err != nil {
				return nil, err
			}
			if err := n.testTarget.assign(s, item); err != nil {
				return nil, err
			}
			holds, err := n.test.eval(s)
			if err != nil {
				return nil, err
			}
			if truth(holds) {
				return item, nil
			}
		}
	}
}

package jinja

// loopValue is what loop means in a loop.
type loopValue struct {
	run     *run
	cursor  *cursor
	length  int64 // negative while it is not known
	index0  int64
	depth0  int64
	after   Value // the item behind the current one; nil while it is not known
	ended   bool  // there is none
	current Value
	before  Value
	changed []Value // what changed was last called with; nil before the first call
	again   func(items Value, depth int64) (Value, error)
}

func (*loopValue) typeName() string { return "LoopContext" }

// peek returns the item behind the current one, or nil.
func (l *loopValue) peek() (Value, error) {
	if l.after == nil && !l.ended {
		var err error
		if l.after, err = l.cursor.next(); err != nil {
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

// size counts what is left where the number of items is not known.
func (l *loopValue) size() (int64, error) {
	if l.length >= 0 {
		return l.length, nil
	}
	rest, err := l.run.collect(l.cursor)
	if err != nil {
		return 0, err
	}
	l.cursor = &cursor{items: rest, run: l.run}
	l.length = int64(len(rest)) + l.index0 + 1
	if l.after != nil {
		l.length++
	}
	return l.length, nil
}

// attribute returns nil for one that loop does not have.
func (l *loopValue) attribute(name string) (Value, error) {
	fromSize := func(from int64) (Value, error) {
		n, err := l.size()
		return Int(n - from), err
	}
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
		return fromSize(0)
	case "revindex":
		return fromSize(l.index0)
	case "revindex0":
		return fromSize(l.index0 + 1)
	case "depth":
		return Int(l.depth0 + 1), nil
	case "depth0":
		return Int(l.depth0), nil
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
	case "cycle":
		return &function{name, l.cycle}, nil
	case "changed":
		return &function{name, l.hasChanged}, nil
	}
	return nil, nil
}

func (l *loopValue) cycle(_ *run, a *arguments) (Value, error) {
	if err := a.noNamed("cycle"); err != nil {
		return nil, err
	}
	if len(a.positional) == 0 {
		return nil, failf("no items for cycling given")
	}
	return a.positional[l.index0%int64(len(a.positional))], nil
}

func (l *loopValue) hasChanged(r *run, a *arguments) (Value, error) {
	if err := a.noNamed("changed"); err != nil {
		return nil, err
	}
	if l.changed != nil {
		same, err := r.equalAll(l.changed, a.positional)
		if same || err != nil {
			return Bool(false), err
		}
	}
	l.changed = append([]Value{}, a.positional...)
	return Bool(true), nil
}

// call renders the loop's body with other items.
func (l *loopValue) call(r *run, a *arguments) (Value, error) {
	values, err := a.bind("loop", 1, "iterable")
	if err != nil {
		return nil, err
	}
	if l.again == nil {
		return nil, failf("The loop must have the 'recursive' marker to be called recursively.")
	}
	return l.again(values[0], l.depth0+1)
}

func (n *forNode) run(s *scope, out *output) (jump, error) {
	items, err := n.iterable.eval(s)
	if err != nil {
		return jumpNone, located(err, n.line)
	}
	if !n.recursive {
		j, err := n.loopOver(items, s, s, out, 0, nil)
		return j, located(err, n.line)
	}
	var again func(items Value, depth int64) (Value, error)
	again = func(items Value, depth int64) (Value, error) {
		if err := s.run.enter(); err != nil {
			return nil, err
		}
		defer s.run.leave()
		if err := s.run.allocateValues(n.slots); err != nil {
			return nil, err
		}
		buffer := &output{run: s.run}
		if _, err := n.loopOver(items, s, s.inner(n.slots), buffer, depth, again); err != nil {
			return nil, err
		}
		return buffer.value()
	}
	text, err := again(items, 0)
	if err != nil {
		return jumpNone, located(err, n.line)
	}
	return jumpNone, out.write(string(text.(String)))
}

// loopOver runs the loop once. outer is the scope around it, s that of its body, which is another one only where the
// loop is recursive.
func (n *forNode) loopOver(items Value, outer, s *scope, out *output, depth int64, again func(Value, int64) (Value, error)) (jump, error) {
	r := s.run
	length := int64(-1)
	c, err := r.iterate(items)
	if err != nil {
		return jumpNone, err
	}
	if n.test != nil {
		if err := r.allocateValues(n.testSlots); err != nil {
			return jumpNone, err
		}
		c = n.filtered(c, outer.inner(n.testSlots))
	} else if size, ok := sizeOf(items); ok {
		length = size
	}
	loop := &loopValue{run: r, cursor: c, length: length, index0: -1, depth0: depth, again: again}
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
func (n *forNode) filtered(c *cursor, s *scope) *cursor {
	entered := false
	return &cursor{run: s.run, more: func() (Value, error) {
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
	}}
}

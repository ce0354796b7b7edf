package jinja

import "strconv"

// A name means what it means in the reference: each loop, macro, set block, filter block and call block is a
// scope of its own, which begins with the values of the scope around it; if is none. A name that a scope assigns to is
// the scope's own throughout, also before the assignment. symbols and its methods find that out before anything runs
// (jinja2.idtracking tells the rules), so that running needs slots only.

type loadKind uint8

const (
	loadArgument loadKind = iota // whoever enters the scope sets it
	loadResolve                  // from the variables given to Render
	loadAlias                    // from the scope around
	loadUndefined
)

// load sets a slot where a scope begins.
type load struct {
	kind   loadKind
	slot   int
	source variable
}

// place is a slot of a function.
type place struct {
	function *functionSlots
	slot     int
}

// functionSlots numbers the variables of one function: the template, a macro, a call block, or a loop's condition.
type functionSlots struct {
	depth int
	slots map[string]int // by level and name
}

// symbols are the names of one scope.
type symbols struct {
	parent   *symbols
	function *functionSlots
	level    int
	places   map[string]place
	loads    map[string]symbolLoad
	order    []string // of loads, by name
	stores   map[string]bool
	budget   *budget
}

// budget bounds the work on names of one source, which grows faster than the source does.
type budget struct{ left int }

const maxNameWork = 4_000_000

func (b *budget) spend(n int) bool {
	b.left -= n
	return b.left >= 0
}

type symbolLoad struct {
	kind   loadKind
	source place
}

func newSymbols(parent *symbols, function *functionSlots, budget *budget) *symbols {
	s := &symbols{parent: parent, function: function, budget: budget,
		places: map[string]place{}, loads: map[string]symbolLoad{}, stores: map[string]bool{}}
	if parent != nil {
		s.level = parent.level + 1
	}
	return s
}

// inner is a scope within s, of the same function.
func (s *symbols) inner() *symbols { return newSymbols(s, s.function, s.budget) }

// innerFunction is a scope within s that is a function of its own.
func (s *symbols) innerFunction() *symbols {
	return newSymbols(s, &functionSlots{depth: s.function.depth + 1, slots: map[string]int{}}, s.budget)
}

func (s *symbols) find(name string) (place, bool) {
	for ; s != nil; s = s.parent {
		if p, ok := s.places[name]; ok {
			return p, true
		}
	}
	return place{}, false
}

// isGiven reports whether name means a variable of Render's or a global, and nothing that the template assigns.
func (s *symbols) isGiven(name string) bool {
	for ; s != nil; s = s.parent {
		if _, ok := s.places[name]; ok && s.loads[name].kind != loadAlias {
			return s.loads[name].kind == loadResolve
		}
	}
	return true
}

func (s *symbols) define(name string, l symbolLoad) place {
	key := strconv.Itoa(s.level) + " " + name
	slot, ok := s.function.slots[key]
	if !ok {
		slot = len(s.function.slots)
		s.function.slots[key] = slot
	}
	p := place{s.function, slot}
	s.places[name] = p
	s.setLoad(name, l)
	return p
}

func (s *symbols) setLoad(name string, l symbolLoad) {
	if _, ok := s.loads[name]; !ok {
		s.order = append(s.order, name)
	}
	s.loads[name] = l
}

// read notes that name is used.
func (s *symbols) read(name string) {
	if _, ok := s.find(name); !ok {
		s.define(name, symbolLoad{kind: loadResolve})
	}
}

// store notes that name is assigned to.
func (s *symbols) store(name string) {
	s.stores[name] = true
	if _, ok := s.places[name]; ok {
		return
	}
	if outer, ok := s.parent.find(name); ok {
		s.define(name, symbolLoad{kind: loadAlias, source: outer})
		return
	}
	s.define(name, symbolLoad{kind: loadUndefined})
}

func (s *symbols) argument(name string) place {
	s.stores[name] = true
	return s.define(name, symbolLoad{kind: loadArgument})
}

func (s *symbols) branch() *symbols {
	b := newSymbols(s.parent, s.function, s.budget)
	b.level = s.level
	b.merge(s)
	return b
}

func (s *symbols) merge(other *symbols) {
	if !s.budget.spend(len(other.places) + len(other.order) + len(other.stores)) {
		return
	}
	for name, p := range other.places {
		s.places[name] = p
	}
	for _, name := range other.order {
		s.setLoad(name, other.loads[name])
	}
	for name := range other.stores {
		s.stores[name] = true
	}
}

// join takes up what the branches of an if did: what only some of them assign keeps, in the others, the value it has
// outside.
func (s *symbols) join(branches []*symbols) {
	assigned := map[string]bool{}
	for _, b := range branches {
		for name := range b.stores {
			if !s.stores[name] {
				assigned[name] = true
			}
		}
	}
	for _, b := range branches {
		s.merge(b)
	}
	for name := range assigned {
		if outer, ok := s.parent.find(name); ok {
			s.setLoad(name, symbolLoad{kind: loadAlias, source: outer})
			continue
		}
		s.setLoad(name, symbolLoad{kind: loadResolve})
	}
}

// variable is where name lies as seen from s.
func (s *symbols) variable(name string) variable {
	p, ok := s.find(name)
	if !ok {
		p = s.define(name, symbolLoad{kind: loadResolve})
	}
	return variable{name, s.function.depth - p.function.depth, p.slot}
}

func (s *symbols) scope() scopeNode {
	var node scopeNode
	for _, name := range s.order {
		l := s.loads[name]
		if l.kind == loadArgument {
			continue
		}
		bound := load{kind: l.kind, slot: s.places[name].slot, source: variable{name: name}}
		if l.kind == loadAlias {
			bound.source = variable{name, s.function.depth - l.source.function.depth, l.source.slot}
		}
		node.loads = append(node.loads, bound)
	}
	return node
}

// scan notes what statements read and assign in s itself; it stops where they begin scopes of their own.
func (s *symbols) scan(nodes []placed) {
	for _, node := range nodes {
		if !s.budget.spend(1) {
			return
		}
		s.scanStatement(node.statement)
	}
}

func (s *symbols) scanStatement(node statement) {
	switch node := node.(type) {
	case *outputNode:
		s.scanExpression(node.value)
	case *ifNode:
		s.scanIf(node)
	case *forNode:
		s.scanExpression(node.iterable)
	case *assignNode:
		s.scanExpression(node.value)
		s.scanTarget(node.target)
	case *macroNode:
		s.store(node.name)
	case *callBlockNode:
		if node.call != nil {
			s.scanExpression(node.call)
		}
	}
}

func (s *symbols) scanIf(node *ifNode) {
	s.scanExpression(node.test)
	body, otherwise := s.branch(), s.branch()
	body.scan(node.body)
	otherwise.scan(node.otherwise)
	s.join([]*symbols{body, otherwise})
}

func (s *symbols) scanTarget(t *target) {
	switch {
	case t.isTuple:
		for _, item := range t.items {
			s.scanTarget(item)
		}
	case t.attribute != "":
		s.read(t.name)
	default:
		s.store(t.name)
	}
}

func (s *symbols) scanExpression(node expression) {
	walkExpression(node, s.budget, func(name *nameNode) { s.read(name.name) })
}

// argumentTarget declares the names of a target as set from outside.
func (s *symbols) argumentTarget(t *target) {
	if t.isTuple {
		for _, item := range t.items {
			s.argumentTarget(item)
		}
		return
	}
	s.argument(t.name)
}

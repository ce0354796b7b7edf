package masks

import (
	"cmp"
	"errors"
	"slices"
	"sort"

	"lockstep/protocol/guide"
	"lockstep/shard/sample"
)

const (
	// manyKids are so many that those of a narrow state are searched for.
	manyKids = 8
	// manyBelow are so many nodes that it is worth while to look up whether they need a walk.
	manyBelow = 32
	// fewParts are so many ways of reading that what is kept of their rules is put together.
	fewParts = 8
)

// ruleKey names what a place in a rule allows.
type ruleKey struct {
	place  guide.PartKey
	leaves bool // tokens that go beyond the rule are listed
	rest   bool // tokens of plain characters are left out
}

// rule is what a place in a rule allows wherever the rule was called.
type rule struct {
	ids     []int32  // tokens that stay within it, or end with it
	bits    []uint64 // instead of ids, where these are many
	leaving []exit   // in order
	cost    int
}

// exit is a node of a trie right behind one at which a rule ends.
type exit struct {
	char byte
	node int32
	trie *trie
}

// ending is what a mask depends on where there is one way of reading the text only.
type ending struct {
	local, behind guide.State
	complete      bool
}

// find finds out what may follow a state.
func (g *Guide) find(s guide.State) (*sample.Mask, error) {
	cost := 0
	if plain, _ := g.machine.Plain(s); plain == 0 {
		w := walk{Guide: g, most: fewNodes, tooMany: errMany}
		w.from(g.vocabulary.all, 0, s)
		if !errors.Is(w.err, errMany) {
			return w.finish(s)
		}
		cost = w.cost
	}
	parts, err := g.machine.Parts(g.scratch[:0], s, g.vocabulary.longest)
	if err != nil {
		return nil, err
	}
	g.scratch = parts
	w := walk{Guide: g, most: maxCost, tooMany: ErrCostly, cost: cost}
	switch count := len(parts); {
	case count == 1:
		return w.only(&parts[0], s)
	case count == 0 || count > fewParts: // each by itself would be walked for little
		w.rule(s, false)
	default:
		w.parts(parts)
	}
	return w.finish(s)
}

// only is the mask of the one part of a state.
func (w *walk) only(part *guide.Part, s guide.State) (*sample.Mask, error) {
	key := ending{part.Local, part.Behind, w.machine.Complete(s)}
	if mask := w.same[key]; mask != nil {
		return mask, nil
	}
	w.part(part, false)
	mask, err := w.finish(s)
	if err == nil {
		w.same[key] = mask
	}
	return mask, err
}

// parts adds what any way of reading allows. Where one allows all tokens of plain characters, the others need not.
func (w *walk) parts(all []guide.Part) {
	always := slices.IndexFunc(all, func(part guide.Part) bool {
		count, _ := w.machine.Plain(part.Local)
		return count == guide.Always
	})
	for i := range all {
		w.part(&all[i], always >= 0 && i != always)
	}
}

// ruleOf is what is known of a part's rule. Tokens of plain characters may be left out if told so.
func (g *Guide) ruleOf(part *guide.Part, rest bool) (*rule, error) {
	kept := &g.own
	if part.Shared {
		kept = &g.vocabulary.common
		kept.mu.Lock()
		defer kept.mu.Unlock()
	}
	key := ruleKey{part.Key, part.Behind != guide.Dead && !g.machine.Ended(part.Behind), rest}
	r := kept.of[key]
	if r == nil {
		w := walk{Guide: g, most: maxCost, tooMany: ErrCostly, leaves: key.leaves}
		if w.rule(part.Local, key.rest); w.err != nil {
			return nil, w.err
		}
		slices.SortStableFunc(w.leaving, func(a, b exit) int { return cmp.Compare(a.char, b.char) })
		r = &rule{w.ids, w.bits, w.leaving, w.cost + w.visited}
		kept.of[key] = r
		g.bytes += 200 + 4*len(r.ids) + 8*len(r.bits) + 16*len(r.leaving)
	}
	return r, nil
}

// walk collects what a trie's nodes allow.
type walk struct {
	*Guide
	most    int   // nodes that may be visited
	tooMany error // what it ends with where there are more
	leaves  bool  // a rule alone is walked, to its end
	leaving []exit
	ids     []int32
	bits    []uint64 // once there are many ids
	levels  []level
	visited int // nodes
	cost    int
	number  int // of this walk; 0: it has looked up nothing
	err     error
}

// part adds what one way of reading allows; rest says that another allows all tokens of plain characters.
func (w *walk) part(part *guide.Part, rest bool) {
	r, err := w.ruleOf(part, rest)
	if err != nil {
		w.err = err
		return
	}
	if w.cost += r.cost + 100; w.cost > maxCost {
		w.err = ErrCostly
		return
	}
	w.allow(r.ids)
	if r.bits != nil {
		w.widen()
		for i, word := range r.bits {
			w.bits[i] |= word
		}
	}
	if len(r.leaving) == 0 {
		return
	}
	for _, span := range w.machine.Spans(part.Behind) {
		from := sort.Search(len(r.leaving), func(i int) bool { return r.leaving[i].char >= span.Low })
		for _, exit := range r.leaving[from:] {
			if exit.char > span.High {
				break
			}
			w.node(exit.trie, exit.node, part.Behind)
		}
	}
}

// rule walks a rule alone, or whatever else is at a state.
func (w *walk) rule(local guide.State, rest bool) {
	v := w.vocabulary
	if rest {
		w.from(v.rest, 0, local)
		return
	}
	count, exactly := w.machine.Plain(local)
	if count == guide.Always || exactly {
		w.bits = slices.Clone(v.plainUpTo(count))
		w.from(v.rest, 0, local)
		return
	}
	w.from(v.all, 0, local)
}

// from walks what is below a node, at which the state is s.
func (w *walk) from(t *trie, n int32, s guide.State) {
	if t.kidsFrom[n+1]-t.kidsFrom[n] > manyKids && w.machine.Table(s) == nil {
		w.byKids(t, n, s)
	} else {
		w.inOrder(t, n+1, t.next[n], s)
	}
}

// byKids is from where few bytes go on at a node that has many.
func (w *walk) byKids(t *trie, n int32, s guide.State) {
	first, last := int(t.kidsFrom[n]), int(t.kidsFrom[n+1])
	for _, span := range w.machine.Spans(s) {
		first += sort.Search(last-first, func(i int) bool { return t.kidChar[first+i] >= span.Low })
		for ; first < last && t.kidChar[first] <= span.High; first++ {
			w.node(t, t.kids[first], s)
		}
	}
}

// node walks a node and what is below it, above which the state is s.
func (w *walk) node(t *trie, n int32, s guide.State) { w.inOrder(t, n, t.next[n], s) }

// level is of a walk: up to a node the state above is the same.
type level struct {
	state guide.State
	end   int32
	table *[256]guide.State // the state's; it may be nil
}

// lookup is what a walk has looked up of a state.
type lookup struct {
	walk  int               // which one it was
	ends  bool              // it may be that of the rule's end
	table *[256]guide.State // it may be nil
	plain int               // what Plain says, where tokens of so many plain characters need no walk
	loops guide.Chars       // tokens of these characters need no walk; 0: it is not looked up
}

// look looks a state up. It is valid until the next one.
func (w *walk) look(s guide.State) *lookup {
	if int(s) >= len(w.looked) {
		w.looked = append(w.looked, make([]lookup, max(int(s)+1-len(w.looked), len(w.looked), 256))...)
	}
	if w.number == 0 {
		w.walks++
		w.number = w.walks
	}
	l := &w.looked[s]
	if l.walk == w.number {
		return l
	}
	if w.cost += w.machine.Cost(s); w.cost+w.visited > maxCost {
		w.err = ErrCostly
	}
	*l = lookup{walk: w.number, table: w.machine.Table(s), ends: w.leaves && w.machine.Returns(s)}
	l.plain, _ = w.machine.Plain(s)
	return l
}

// inOrder walks the nodes from n to end, above which the state is s.
func (w *walk) inOrder(t *trie, n, end int32, s guide.State) {
	at := level{s, end, w.machine.Table(s)}
	base := len(w.levels) // a walk may be within another
	for w.err == nil {
		if n >= at.end {
			if len(w.levels) == base {
				return
			}
			at = w.levels[len(w.levels)-1]
			w.levels = w.levels[:len(w.levels)-1]
			continue
		}
		to := guide.Unknown
		if at.table != nil {
			to = at.table[t.char[n]]
		}
		if to < guide.Dead {
			to = w.next(at.state, t.char[n])
		}
		if w.visited++; w.visited > w.most {
			w.err = w.tooMany
			break
		}
		next := t.next[n]
		if to < 0 {
			n = next
			continue
		}
		if next == n+1 {
			w.allow(t.ids[t.first[n]:t.first[next]])
			n = next
			continue
		}
		below := w.look(to)
		if below.ends {
			w.leave(t, n)
		}
		if below.loops == 0 && next-n > manyBelow {
			below.loops = w.machine.Loops(to)
		}
		if t.chars[n]&^below.loops == 0 || below.plain >= int(t.plain[n]) && t.plain[n] != notPlain {
			w.allow(t.ids[t.first[n]:t.first[next]])
			n = next
			continue
		}
		w.allow(t.tokens(n))
		if below.table == nil && t.kidsFrom[n+1]-t.kidsFrom[n] > manyKids {
			w.byKids(t, n, to)
			n = next
			continue
		}
		w.levels = append(w.levels, at)
		at = level{to, next, below.table}
		n++
	}
	w.levels = w.levels[:base]
}

// leave notes the nodes below one at which the rule ends.
func (w *walk) leave(t *trie, n int32) {
	for i := t.kidsFrom[n]; i < t.kidsFrom[n+1]; i++ {
		w.leaving = append(w.leaving, exit{t.kidChar[i], t.kids[i], t})
	}
}

// next is the state behind a byte that no table tells.
func (w *walk) next(s guide.State, b byte) guide.State {
	to, err := w.machine.Next(s, b)
	if err != nil {
		w.err = err
	}
	return to
}

func (w *walk) allow(ids []int32) {
	if w.bits == nil {
		if len(w.ids)+len(ids) <= listed {
			w.ids = append(w.ids, ids...)
			return
		}
		w.widen()
	}
	for _, id := range ids {
		w.bits[id>>6] |= 1 << (id & 63)
	}
}

// widen goes on with bits.
func (w *walk) widen() {
	if w.bits == nil {
		w.bits = make([]uint64, (w.vocabulary.size+63)/64)
		w.allow(w.ids)
		w.ids = nil
	}
}

// finish is the mask behind a state.
func (w *walk) finish(s guide.State) (*sample.Mask, error) {
	if w.err != nil {
		return nil, w.err
	}
	if w.machine.Complete(s) {
		w.allow(w.vocabulary.ends)
	}
	slices.Sort(w.ids)
	mask := &sample.Mask{IDs: slices.Compact(w.ids), Bits: w.bits}
	w.bytes += 64 + 4*len(mask.IDs) + 8*len(mask.Bits)
	return mask, nil
}

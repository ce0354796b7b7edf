package guide

import (
	"math"
	"slices"
)

// fewItems is how many items or members are written out where their number is bounded; a loop counts more.
const fewItems = 16

// array builds arrays. The places of items are counted until all that follow are alike.
func (m *meaning) array(a conjunction) int32 {
	least, greatest, prefix := 0, math.MaxInt, 0
	for _, part := range a {
		least, greatest = max(least, count(part, "minItems", 0)), min(greatest, count(part, "maxItems", math.MaxInt))
		if items := part.get("items"); items != nil && items.kind == '[' {
			return m.failAt(items.pointer(), Unsupported, "the keyword %q is supported with one schema only: see prefixItems", "items")
		}
		if list := part.get("prefixItems"); list != nil {
			prefix = max(prefix, len(list.items))
			if part.get("items") == nil && !m.source.Open {
				greatest = min(greatest, len(list.items))
			}
		}
	}
	if greatest < least {
		return m.dead()
	}
	item := func(at int) func(int32) int32 {
		return func(next int32) int32 { return m.value(itemSchemas(a, at), next) }
	}
	return m.literal("[", m.blank(m.list(']', least, greatest, prefix, item)))
}

// itemSchemas are those of an array's item.
func itemSchemas(a conjunction, at int) (schemas []*value) {
	for _, part := range a {
		if list := part.get("prefixItems"); list != nil && at < len(list.items) {
			schemas = append(schemas, list.items[at])
		} else if items := part.get("items"); items != nil {
			schemas = append(schemas, items)
		}
	}
	return schemas
}

// list builds a number of items with commas between them, behind the first white space, up to the end. Items from place alike on are the
// same. item builds the item of a place in front of a node.
func (m *meaning) list(end byte, least, greatest, alike int, item func(at int) func(int32) int32) int32 {
	close := m.bytes(edge{end, end, endNode})
	unrolled := min(greatest, max(alike, min(least, fewItems)))
	if greatest <= fewItems {
		unrolled = greatest
	}
	// behind is what follows so many items.
	behind := m.behindUnrolled(close, end, unrolled, least, greatest, item)
	for written := unrolled - 1; written >= 1; written-- {
		next := behind
		edges := []edge{{',', ',', m.blank(item(written)(next))}}
		if written >= least {
			edges = append(edges, edge{end, end, endNode})
		}
		behind = m.blank(m.bytes(edges...))
	}
	var starts []int32
	if greatest > 0 {
		first := behind
		if unrolled == 0 {
			first = m.behindUnrolled(close, end, 1, least, greatest, item)
		}
		starts = append(starts, item(0)(first))
	}
	if least == 0 {
		starts = append(starts, close)
	}
	if len(starts) == 0 {
		return m.dead()
	}
	return m.split(starts...)
}

// behindUnrolled is what follows so many items where those behind them are alike.
func (m *meaning) behindUnrolled(close int32, end byte, written, least, greatest int, item func(at int) func(int32) int32) int32 {
	switch {
	case written >= greatest:
		return m.blank(close)
	case greatest < math.MaxInt || least > written:
		rule := m.rule()
		m.define(rule, m.blank(m.literal(",", m.blank(item(written)(endNode)))))
		most := int32(-1)
		if greatest < math.MaxInt {
			most = int32(greatest - written)
		}
		return m.loop(rule, int32(max(least-written, 0)), most, m.blank(close))
	}
	again := m.add(node{kind: kindBytes})
	behind := m.blank(again)
	edges := []edge{{',', ',', m.blank(item(written)(behind))}, {end, end, endNode}}
	m.setBytes(again, edges)
	return behind
}

// property is a member that is named.
type property struct {
	name     string
	required bool
	schemas  []*value
}

// extra are members whose names are read by an automaton; a nil one stands for any text.
type extra struct {
	names   *automaton
	schemas []*value
	name    int32 // rule of a name behind its quotation mark; 0: not there yet
}

// object builds objects: declared members in order, then others.
func (m *meaning) object(a conjunction) int32 {
	o := members{meaning: m, parts: a, max: math.MaxInt}
	for _, part := range a {
		o.min, o.max = max(o.min, count(part, "minProperties", 0)), min(o.max, count(part, "maxProperties", math.MaxInt))
	}
	o.findProperties()
	o.findExtras()
	if m.err != nil || o.max < o.min {
		return m.dead()
	}
	return o.build()
}

// members are those of an object.
type members struct {
	*meaning
	parts      conjunction
	properties []property
	extras     []extra
	min, max   int // of all members
}

// findProperties lists what parts declare, and then what they only require.
func (o *members) findProperties() {
	places := map[string]int{}
	declare := func(name string) {
		if _, ok := places[name]; !ok {
			places[name] = len(o.properties)
			o.properties = append(o.properties, property{name: name})
		}
	}
	for _, part := range o.parts {
		if declared := part.get("properties"); declared != nil {
			for _, m := range declared.members {
				declare(m.name)
			}
		}
	}
	for _, part := range o.parts {
		if required := part.get("required"); required != nil {
			for _, name := range required.items {
				declare(name.text)
				o.properties[places[name.text]].required = true
			}
		}
	}
	for i := range o.properties {
		o.properties[i].schemas = o.schemasOf(o.properties[i].name)
	}
}

// schemasOf are those of a member with a name that is declared or required.
func (o *members) schemasOf(name string) (schemas []*value) {
	for _, part := range o.parts {
		found := false
		if declared := part.get("properties"); declared != nil {
			if s := declared.get(name); s != nil {
				schemas, found = append(schemas, s), true
			}
		}
		if patterns := part.get("patternProperties"); patterns != nil {
			for _, p := range patterns.members {
				if o.namePattern(p.value, p.name).matches(name) {
					schemas, found = append(schemas, p.value), true
				}
			}
		}
		if s := part.get("additionalProperties"); s != nil && !found {
			schemas = append(schemas, s)
		}
	}
	return schemas
}

// namePattern reads the names of a pattern of patternProperties, at.
func (o *members) namePattern(at *value, pattern string) *automaton {
	a := o.pattern(pattern, true)
	o.placed(at)
	return a
}

// findExtras lists the members that are not named: for each pattern those with a name that it matches, and all others.
func (o *members) findExtras() {
	var patterns []string
	var names []*automaton
	additional, declares := false, len(o.properties) > 0
	for _, part := range o.parts {
		additional = additional || part.get("additionalProperties") != nil
		list := part.get("patternProperties")
		if list == nil {
			continue
		}
		for _, p := range list.members {
			declares = true
			if !slices.Contains(patterns, p.name) {
				patterns = append(patterns, p.name)
				names = append(names, o.namePattern(p.value, p.name))
			}
		}
		for i := range names {
			for j := range i {
				if o.intersect(names[i], names[j]) != nil {
					o.failAt(list.pointer(), Unsupported, "patterns of names that can match one name are not supported: %.40q and %.40q",
						patterns[j], patterns[i])
				}
			}
		}
	}
	if o.err != nil {
		return
	}
	named := o.named()
	for i, pattern := range patterns {
		free := names[i]
		if named != nil {
			free = o.intersect(free, o.complement(named))
		}
		o.addExtra(free, o.patternSchemas(pattern))
	}
	if !additional && declares && !o.source.Open && !o.onlyRequired() {
		return
	}
	var schemas []*value
	for _, part := range o.parts {
		if s := part.get("additionalProperties"); s != nil {
			schemas = append(schemas, s)
		}
	}
	if !declares {
		o.extras = append(o.extras, extra{schemas: schemas})
		return
	}
	o.addExtra(o.complement(o.unite(append(names, named)...)), schemas)
}

// onlyRequired reports whether members are required but none is declared.
func (o *members) onlyRequired() bool {
	return !slices.ContainsFunc(o.parts, func(part *value) bool {
		return part.get("properties") != nil || part.get("patternProperties") != nil
	})
}

// named reads the names that are declared or required.
func (o *members) named() *automaton {
	var names []string
	for _, p := range o.properties {
		names = append(names, p.name)
	}
	return o.texts(names)
}

func (o *members) addExtra(names *automaton, schemas []*value) {
	if names != nil {
		o.extras = append(o.extras, extra{names: names, schemas: schemas})
	}
}

// patternSchemas are those of members whose names a pattern matches and nothing declares.
func (o *members) patternSchemas(pattern string) (schemas []*value) {
	for _, part := range o.parts {
		found := false
		if list := part.get("patternProperties"); list != nil {
			if s := list.get(pattern); s != nil {
				schemas, found = append(schemas, s), true
			}
		}
		if s := part.get("additionalProperties"); s != nil && !found {
			schemas = append(schemas, s)
		}
	}
	return schemas
}

// build builds the object.
func (o *members) build() int32 {
	required := 0
	for _, p := range o.properties {
		if p.required {
			required++
		}
	}
	optional := len(o.properties) - required
	most := len(o.properties)
	if len(o.extras) > 0 {
		most = math.MaxInt
	}
	if o.min <= required {
		o.min = 0
	}
	if o.max >= most {
		o.max = math.MaxInt
	}
	switch {
	case optional > 0 && (o.min > 0 || o.max < math.MaxInt):
		return o.refuseCounts()
	case o.max < required:
		return o.dead()
	}
	least, greatest := max(o.min-required, 0), math.MaxInt // of extras
	if o.max < math.MaxInt {
		greatest = o.max - required
	}
	if len(o.extras) == 0 {
		if least > 0 {
			return o.dead()
		}
		greatest = 0
	}
	return o.literal("{", o.blank(o.chain(least, greatest)))
}

func (o *members) refuseCounts() int32 {
	for _, part := range o.parts {
		for _, name := range []string{"minProperties", "maxProperties"} {
			if at := part.get(name); at != nil {
				return o.failAt(at.pointer(), Unsupported, "the keyword %q is not supported beside optional properties", name)
			}
		}
	}
	return o.dead()
}

// chain builds the members behind the first white space. Each place of a declared member can be reached with a member in front or
// without; optional ones are passed over.
func (o *members) chain(least, greatest int) int32 {
	close := o.bytes(edge{'}', '}', endNode})
	// Nothing was written yet where first comes; keys may follow a comma.
	first := o.list('}', least, greatest, 0, func(int) func(int32) int32 { return o.extraMember })
	keys := o.dead()         // what may follow a comma
	behind := o.blank(close) // what follows a member
	switch {
	case greatest == math.MaxInt && least == 0:
		again := o.add(node{kind: kindBytes})
		behind = o.blank(again)
		keys = o.extraMember(behind)
		o.setBytes(again, []edge{{',', ',', o.blank(keys)}, {'}', '}', endNode}})
	case greatest > 0:
		rule, most := o.rule(), int32(-1)
		o.define(rule, o.blank(o.literal(",", o.blank(o.extraMember(endNode)))))
		if greatest < math.MaxInt {
			most = int32(greatest)
		}
		behind = o.loop(rule, int32(least), most, o.blank(close))
		return o.counted(first, behind)
	}
	needed := false // a required member follows
	for i := len(o.properties) - 1; i >= 0; i-- {
		p := &o.properties[i]
		if member := o.member(p, behind); p.required {
			first, keys, needed = member, member, true
		} else {
			first, keys = o.split(member, first), o.split(member, keys)
		}
		edges := []edge{{',', ',', o.blank(keys)}, {'}', '}', endNode}}
		if needed {
			edges = edges[:1]
		}
		behind = o.blank(o.bytes(edges...))
	}
	return first
}

// counted are required members before a counted number of others, which behind begins with a comma.
func (o *members) counted(first, behind int32) int32 {
	for i := len(o.properties) - 1; i >= 0; i-- {
		first = o.member(&o.properties[i], behind)
		behind = o.blank(o.literal(",", o.blank(first)))
	}
	return first
}

func (o *members) member(p *property, next int32) int32 {
	return o.literal(spelled(p.name), o.colon(p.schemas, next))
}

// extraMember is one that is not named.
func (o *members) extraMember(next int32) int32 {
	targets := make([]int32, 0, len(o.extras))
	for i := range o.extras {
		e := &o.extras[i]
		if e.name == 0 {
			e.name = o.extraName(e.names)
		}
		targets = append(targets, o.literal(`"`, o.call(e.name, o.colon(e.schemas, next))))
	}
	return o.split(targets...)
}

// extraName is a rule of names.
func (o *members) extraName(names *automaton) int32 {
	if names == nil {
		return o.text
	}
	if d, ok := o.determine(names, fewStates); ok {
		names = d
	}
	rule := o.rule()
	o.define(rule, o.spell(names, textSpelling, o.literal(`"`, endNode)))
	return rule
}

// colon is what follows a name.
func (o *members) colon(schemas []*value, next int32) int32 {
	return o.blank(o.literal(":", o.blank(o.value(schemas, next))))
}

package gpu

import (
	"fmt"
	"slices"
	"unsafe"

	"lockstep/shard/model"
)

type (
	project struct {
		*model.Project
		query, key, value  matrix
		queryNorm, keyNorm norm
		settings           turnSettings
		told               Address // settings
	}
	attend struct {
		*model.Attend
		sinks  Address // 0: none
		to     input
		told   Address // attendSettings
		layout int     // of items, the index in Backend.layouts
	}
)

// turnSettings are struct Turn of kernels/attention.cu.
type turnSettings struct {
	query, key, value                                      Address
	queryBias, keyBias, valueBias                          Address
	queryNorm, keyNorm                                     Address
	common                                                 Address
	queryStride, keyStride, valueStride, commonStride      int32
	heads, kvHeads, keyDims, valueDims, plain, half, terms int32
	epsilon                                                float32
}

// attendSettings are struct Attend.
type attendSettings struct {
	heads, kvHeads, keyDims, valueDims, terms, window int32
	scale, limit                                      float32
	group, firstHead, firstKVHead                     int32
}

// attendItem is struct Item.
type attendItem struct{ kv, head, heads, row, pair, pairs, part, table int32 }

const itemBytes = int(unsafe.Sizeof(attendItem{}))

// itemLayout is how the step's attention is cut into items in all layers of a window.
type itemLayout struct {
	window int
	ranges []itemRange // that lie on the device; none at the beginning of a step
}

// itemRange are the items of a range of rows: where they lie among a window's, and how many they are.
type itemRange struct{ from, to, at, count int }

func bytesOfStruct[T any](v *T) []byte { return bytesOf(unsafe.Slice(v, 1)) }

func (l *loader) project(p *model.Project) *project {
	s := &project{Project: p, query: l.linear(&p.Query), key: l.linear(&p.Key), value: l.linear(&p.Value),
		queryNorm: l.norm(&p.QueryNorm), keyNorm: l.norm(&p.KeyNorm)}
	if l.err == nil && (p.QueryNorm.Centred || p.KeyNorm.Centred) {
		l.err = fmt.Errorf("%s: centred norms of heads are not computed on cards", p.QueryNorm.Tensor)
	}
	l.products(s.query, s.key, s.value)
	return s
}

func (l *loader) attend(p *model.Attend) *attend {
	s := &attend{Attend: p}
	if l.err == nil {
		s.sinks, l.err = l.vector(p.Sinks)
	}
	s.layout = slices.IndexFunc(l.layouts, func(o itemLayout) bool { return o.window == p.Window })
	if s.layout < 0 {
		s.layout, l.layouts = len(l.layouts), append(l.layouts, itemLayout{window: p.Window})
	}
	return s
}

func (s *attend) settle(b *Backend) (err error) {
	settings := attendSettings{heads: int32(b.part.Heads.Size()), kvHeads: int32(b.part.KVHeads.Size()),
		keyDims: int32(b.config.HeadDim), valueDims: int32(b.config.ValueDims()), terms: int32(b.terms), window: int32(s.Window),
		scale: s.Scale, limit: s.Cap, group: int32(b.headGroup()), firstHead: int32(b.part.Heads.From),
		firstKVHead: int32(b.part.KVHeads.From)}
	s.told, err = b.tell(bytesOfStruct(&settings))
	return err
}

func (s *project) settle(b *Backend) (err error) {
	query := b.products
	key := query + Address(4*b.maxRows*s.query.outputs())
	value := key + Address(4*b.maxRows*s.key.outputs())
	s.settings = turnSettings{query: query, key: key, value: value, queryBias: s.query.bias, keyBias: s.key.bias, valueBias: s.value.bias,
		queryNorm: s.queryNorm.weight, keyNorm: s.keyNorm.weight, queryStride: int32(s.query.outputs()), keyStride: int32(s.key.outputs()),
		valueStride: int32(s.value.outputs()), epsilon: s.QueryNorm.Epsilon}
	s.told, err = b.tellTurn(&s.settings, s.Rotation)
	return err
}

// tellTurn adds what is the same for all layers of a rotation (-1: none), and uploads the settings.
func (b *Backend) tellTurn(settings *turnSettings, rotation int) (Address, error) {
	settings.heads, settings.kvHeads = int32(b.part.Heads.Size()), int32(b.part.KVHeads.Size())
	settings.keyDims, settings.valueDims, settings.terms = int32(b.config.HeadDim), int32(b.config.ValueDims()), int32(b.terms)
	if rotation >= 0 {
		settings.half = int32(b.part.Rotations[rotation].Half())
	}
	return b.tell(bytesOfStruct(settings))
}

// compute leaves rotated queries in queries and stores keys and values in the cache.
func (s *project) compute(b *Backend) error {
	if err := b.outputs(b.normed, result{s.settings.query, &s.query}, result{s.settings.key, &s.key},
		result{s.settings.value, &s.value}); err != nil {
		return err
	}
	return b.turn(&s.settings, s.told, s.Layer, s.Rotation)
}

// turn puts queries into queries and keys and values into the cache.
func (b *Backend) turn(settings *turnSettings, told Address, layer, rotation int) error {
	if settings.heads+settings.kvHeads == 0 {
		return nil
	}
	how := turns{}
	if rotation >= 0 {
		how = b.inputs.turns[rotation]
	}
	return b.launch("turn", [3]int{b.shape.rows, 1, 1}, 128, 0, b.queries, b.layerCache(layer), told, b.inputs.rowBlocks,
		b.inputs.positions, how.cos, how.sin, how.queryScales, how.byPosition)
}

// resultFloats is the size of a result of a part: values, the largest score and the sum of weights.
func (b *Backend) resultFloats() int { return steps(b.config.ValueDims())*step + 2 }

// What bounds the results of attention, and the items, that are kept at once, but for those of one row.
var (
	maxResultBytes = 256 << 20
	maxItems       = 1 << 18
)

// attentionRoom is how much of them there is memory for.
type attentionRoom struct{ resultBytes, items int }

// resultBytes is what a row's results take, of so many parts.
func (b *Backend) resultBytes(parts int) int {
	return max(b.part.Heads.Size(), 1) * parts * b.resultFloats() * 4
}

// rowItems is how many items a row has at most.
func (b *Backend) rowItems(parts int) int {
	group := b.headGroup()
	return max(b.part.KVHeads.Size(), 1) * ((group + 7) / 8) * parts
}

// roomForAttention is what steps of maxRows rows of the longest sequences need.
func (b *Backend) roomForAttention() attentionRoom {
	parts := min(b.config.MaxPositions, b.blocks*blockTokens)/partTokens + 2
	return attentionRoom{max(min(maxResultBytes, b.maxRows*b.resultBytes(parts)), b.resultBytes(parts)),
		max(min(maxItems, b.maxRows*b.rowItems(parts)), b.rowItems(parts))}
}

// compute leaves the heads' values in inner.
func (s *attend) compute(b *Backend) error {
	if s.to.columns == 0 {
		return nil
	}
	rows := b.rowsAtOnce(b.shape.parts)
	for from := 0; from < b.shape.rows; from += rows {
		if err := s.computeRows(b, from, min(from+rows, b.shape.rows)); err != nil {
			return err
		}
	}
	return nil
}

// rowsAtOnce is of how many rows there is memory for the results and the items, of so many parts each.
func (b *Backend) rowsAtOnce(parts int) int {
	return max(min(b.attention.resultBytes/b.resultBytes(parts), b.attention.items/b.rowItems(parts)), 1)
}

// computeRows computes a range of rows, whose results are kept at once.
func (s *attend) computeRows(b *Backend, from, to int) error {
	if b.part.KVHeads.Size() > 0 {
		if err := s.launch(b, from, to); err != nil {
			return err
		}
	}
	pad := b.part.Heads.From*b.config.ValueDims() - b.part.AttentionColumns.From
	return b.launch("attend_join", [3]int{to - from, 1, 1}, 128, 0, b.inner, b.results, b.inputs.positions, s.sinks, s.told,
		int32(b.shape.parts), int32(pad), int32(s.to.columns), int32(s.to.chunks), int32(s.to.steps), int32(from), int32(b.shape.rows))
}

// launch computes the parts of a range of rows.
func (s *attend) launch(b *Backend, from, to int) error {
	pairs, kernel, items, tableOf := 8, "attend_8", Address(0), b.inputs.tableOf
	grid := [3]int{b.shape.parts, b.part.KVHeads.Size() * ((b.headGroup() + 7) / 8), to - from}
	if !b.shape.single {
		if b.attendShared(32) <= b.device.Describe().Shared {
			pairs, kernel = 32, "attend_32"
		}
		var err error
		if items, grid[0], err = b.layOut(s.layout, from, to, pairs); err != nil || grid[0] == 0 {
			return err
		}
		grid[1], grid[2] = 1, 1
	}
	return b.launch(kernel, grid, 128, b.attendShared(pairs), b.results, b.queries, b.layerCache(s.Layer), items, b.inputs.tables, tableOf,
		b.inputs.positions, s.told, int32(b.shape.rows), int32(b.shape.parts), int32(from))
}

// headGroup is how many query heads have the same keys and values.
func (b *Backend) headGroup() int { return b.config.Heads / b.config.KVHeads }

// attendShared is the dynamic shared memory of attend for so many pairs.
func (b *Backend) attendShared(pairs int) int {
	scores, shares := 4*pairs*(partTokens+4), 2*b.terms*pairs*(partTokens+16)
	return scores + 8*pairs + shares + 2*b.terms*pairs*(steps(b.config.HeadDim)*step+8)
}

// layOut returns where the items of a range of rows lie, which the first layer of a window uploads.
func (b *Backend) layOut(layout, from, to, pairs int) (at Address, count int, err error) {
	l, end := &b.layouts[layout], 0
	place := func(r itemRange) Address { return b.items + Address((layout*b.attention.items+r.at)*itemBytes) }
	for _, r := range l.ranges {
		if r.from == from && r.to == to {
			return place(r), r.count, nil
		}
		end = r.at + r.count
	}
	items := b.cut(l.window, from, to, pairs)
	if end+len(items) > b.attention.items { // the copy comes behind the launches that read what it overwrites
		l.ranges, end = l.ranges[:0], 0
	}
	r := itemRange{from, to, end, len(items)}
	if l.ranges = append(l.ranges, r); len(items) > 0 {
		err = b.device.Upload(place(r), bytesOf(items))
	}
	return place(r), len(items), err
}

// cut cuts the attention of rows into items of at most so many pairs.
func (b *Backend) cut(window, from, to, pairs int) (items []attendItem) {
	group := b.headGroup()
	for _, c := range b.chunks {
		first, end := max(c.first, from), min(c.first+c.rows, to)
		if first >= end {
			continue
		}
		begin, last := 0, b.rows[end-1].position/partTokens
		if window > 0 {
			begin = max(b.rows[first].position+1-window, 0) / partTokens
		}
		for kv := range b.part.KVHeads.Size() {
			global := b.part.KVHeads.From + kv
			head := max(global*group, b.part.Heads.From)
			heads := min((global+1)*group, b.part.Heads.To) - head
			item := attendItem{kv: int32(kv), head: int32(head - b.part.Heads.From), heads: int32(heads), row: int32(first),
				table: int32(c.table)}
			for pair := 0; pair < (end-first)*heads; pair += pairs {
				item.pair, item.pairs = int32(pair), int32(min(pairs, (end-first)*heads-pair))
				deepest := b.rows[first+(pair+int(item.pairs)-1)/heads].position / partTokens
				for part := begin; part <= min(last, deepest); part++ {
					item.part = int32(part)
					items = append(items, item)
				}
			}
		}
	}
	return items
}

package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

// loaded is a model of random weights on the card.
type loaded struct {
	*mirror
	backend *gpu.Backend
	source  *model.Model
	name    string
	blocks  int
	weights int // bytes that are read of in a step, without the embedding
	closers []func()
}

// format names that of weights.
func format(name string) string {
	if name == "" {
		return "bf16"
	}
	return name
}

// load makes a model on the card, with a cache of so many tokens if there is room for them.
func (c *check) load(shape, quantise string, layers, tokens, maxRows int) (_ *loaded, err error) {
	if c.quick {
		shape, tokens, maxRows = "tiny", min(tokens, 2048), min(maxRows, 64)
	}
	m := &loaded{name: shape + " " + format(quantise)}
	defer func() {
		if err != nil {
			m.close()
			err = fmt.Errorf("%s: %w", m.name, err)
		}
	}()
	var done func()
	if m.source, done, err = openShape(shape, quantise, layers); err != nil {
		return nil, err
	}
	m.closers = append(m.closers, done)
	card, err := c.open()
	if err != nil {
		return nil, err
	}
	m.closers = append(m.closers, func() { card.Close() }) //nolint:errcheck // the process ends soon
	m.mirror = newMirror(card)
	part, err := m.source.Part(0, 1)
	if err != nil {
		return nil, err
	}
	team := workers.New(2, nil)
	m.closers = append(m.closers, team.Close)
	m.filling = true
	if m.backend, err = gpu.Load(part, m.mirror, team, gpu.Options{Numerics: gpu.DefaultNumerics,
		Graphs: gpu.DefaultGraphs, Unread: true}); err != nil {
		return nil, err
	}
	m.closers = append(m.closers, m.backend.Close)
	m.filling, m.mirror.loaded = false, len(m.memory)
	for _, a := range m.memory {
		m.weights += a.bytes
	}
	m.weights -= 2 * m.source.Config.Vocabulary * m.source.Config.Hidden // of bfloat16
	free, _, err := card.FreeBytes()
	if err != nil {
		return nil, err
	}
	blockBytes := m.backend.Describe().BlockBytes
	m.blocks = min(tokens/16, int(free-free/8-(2<<30))/blockBytes)
	if m.blocks < 1 {
		return nil, fmt.Errorf("%d MiB are free, too few for a cache", free>>20)
	}
	detach, err := alone(m.backend, m.blocks, maxRows)
	if err != nil {
		return nil, err
	}
	m.closers = append(m.closers, detach)
	return m, nil
}

func (m *loaded) close() {
	for _, f := range slices.Backward(m.closers) {
		f()
	}
}

// decodeStep is a step of so many sequences, each of which reads so many positions and computes the next.
func (m *loaded) decodeStep(rows, position int) (chunks []model.Chunk) {
	position = min(position, m.blocks*16-1)
	for i := range rows {
		chunks = append(chunks, model.Chunk{Start: position, PromptTokens: position, Tokens: []int32{int32((i*37 + 5) % m.tokens())},
			Blocks: m.table(i*(position/16+1), position+1), Logits: model.LogitsBest})
	}
	return chunks
}

// prefillStep is a step of one sequence's first tokens.
func (m *loaded) prefillStep(rows int) []model.Chunk {
	tokens := make([]int32, rows)
	for i := range tokens {
		tokens[i] = int32((i*37 + 5) % m.tokens())
	}
	return []model.Chunk{{PromptTokens: rows, Tokens: tokens, Blocks: m.table(0, rows), Logits: model.LogitsBest}}
}

func (m *loaded) tokens() int { return min(knownTokens, m.source.Config.Vocabulary) }

// table is a block table of so many positions. Where the cache is too small sequences share blocks.
func (m *loaded) table(first, positions int) []int32 {
	table := make([]int32, (positions+15)/16)
	for i := range table {
		table[i] = int32((first + i) % m.blocks)
	}
	return table
}

// compute computes a step, and chooses the likeliest tokens, as the server does.
func (m *loaded) compute(chunks []model.Chunk) error {
	return m.backend.Forward(chunks, best)
}

// best chooses the likeliest tokens.
func best(scores model.Scores) {
	for row := range scores.Rows() {
		scores.Best(row)
	}
}

// record are the launches of a step.
func (m *loaded) record(chunks []model.Chunk) ([]gpu.Launch, error) {
	m.launches, m.keeping = nil, true
	defer func() { m.keeping = false }()
	err := m.compute(chunks)
	return m.launches, err
}

// settle waits for the card.
func settle(device gpu.Device, at gpu.Address) error { return device.Download(make([]byte, 4), at) }

// mostLaunches is how many are in a queue at most.
const mostLaunches = 2000

// pace is the time of one of a list of launches, which are repeated in turn for so long.
func (m *loaded) pace(list []gpu.Launch, long time.Duration) (time.Duration, error) {
	somewhere := gpu.Address(addressMark | middle)
	run := func(rounds int) (time.Duration, error) {
		began := time.Now()
		for range rounds {
			for i := range list {
				if err := m.Launch(&list[i]); err != nil {
					return 0, err
				}
			}
		}
		err := settle(m, somewhere)
		return time.Since(began), err
	}
	first, err := run(1)
	if err == nil {
		first, err = run(1)
	}
	if err != nil {
		return 0, err
	}
	rounds := max(1, min(int(long/max(first, time.Microsecond)), mostLaunches/len(list)))
	best := time.Duration(math.MaxInt64)
	for range 3 {
		took, err := run(rounds)
		if err != nil {
			return 0, err
		}
		best = min(best, took/time.Duration(rounds*len(list)))
	}
	return best, nil
}

// part is a kind of launches of a step: those of one kernel with the same sizes.
type part struct {
	kernel, sizes string
	matrices      string // whose product it is, where that is known
	launches      []gpu.Launch
	bytes         int // weights that one reads
	each          time.Duration
}

// parts sorts the launches of a step into kinds, in the order of the first of each, and times those that are wanted.
func (m *loaded) parts(list []gpu.Launch, long time.Duration, want func(p *part) bool) (all []*part, err error) {
	kinds := map[string]*part{}
	for i := range list {
		l := &list[i]
		sizes := fmt.Sprintf("%v", l.Grid)
		for _, arg := range l.Args {
			if n, ok := arg.(int32); ok {
				sizes += fmt.Sprintf(" %d", n)
			}
		}
		p := kinds[l.Kernel+sizes]
		if p == nil {
			p = &part{kernel: l.Kernel, sizes: sizes, bytes: m.weightBytes(l)}
			kinds[l.Kernel+sizes], all = p, append(all, p)
		}
		p.launches = append(p.launches, *l)
	}
	m.nameProducts(all)
	all = slices.DeleteFunc(all, func(p *part) bool { return !want(p) })
	for _, p := range all {
		if p.each, err = m.pace(p.launches, long); err != nil {
			return nil, fmt.Errorf("%s: %w", p.kernel, err)
		}
	}
	return all, nil
}

// matrices are those of a layer of Llama and the head, in their order; those of one size are one kind.
var matrices = []string{"q", "k, v", "o", "gate, up", "down", "head"}

// multiplies reports whether a part is a product: others read no weights but of norms.
func (m *loaded) multiplies(p *part) bool { return p.bytes >= 16*m.source.Config.Hidden }

// nameProducts names the products of a step that has one kind of them for each of these.
func (m *loaded) nameProducts(all []*part) {
	products := slices.DeleteFunc(slices.Clone(all), func(p *part) bool { return !m.multiplies(p) })
	if len(products) == len(matrices) {
		for i, p := range products {
			p.matrices = matrices[i]
		}
	}
}

// rate is how fast a part reads weights, in bytes a second.
func (p *part) rate() float64 { return float64(p.bytes) / p.each.Seconds() }

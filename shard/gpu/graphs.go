package gpu

import (
	"errors"
	"fmt"
	"slices"

	"lockstep/shard/model"
)

// Decode steps of like shape have the same launches. A card that keeps them as a graph is told one word for all, where a launch each
// takes longer than many a kernel.

// DefaultGraphs are the numbers of rows that decode steps are filled up to. Larger steps are launched one kernel after the other.
var DefaultGraphs = []int{1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128}

// graphPartsFactor is how far numbers of parts that graphs are made for lie apart: 256 positions, 512, 1024 and so on.
const graphPartsFactor = 2

// Grapher is a Device that keeps launches for later.
type Grapher interface {
	Device
	// Capture keeps what f launches and runs none of it; f asks for nothing else of the device.
	Capture(f func() error) (Graph, error)
	// Replay runs what was kept.
	Replay(graph Graph) error
}

// Graph is what a Grapher keeps, until its end.
type Graph any

// graphs are a backend's.
type graphs struct {
	device Grapher // nil: there are none
	rows   []int   // numbers of rows, in order
	of     map[stepShape]*captured
}

// captured is a graph of steps. It is made when a shape comes for the second time: then all kernels are on the card.
type captured struct {
	graph     Graph // nil: the shape came once
	exchanges int   // of a step
}

func (b *Backend) useGraphs(rows []int) {
	device, able := b.device.(Grapher)
	if !able || len(rows) == 0 {
		return
	}
	b.graphs = graphs{device: device, rows: slices.Sorted(slices.Values(rows)), of: map[stepShape]*captured{}}
}

// fill turns the shape of a step into that of the graph which computes it, with rows and parts that are not there. It leaves steps that
// are not decode steps alone, and those that need the host in between or are too large.
func (b *Backend) fill(exact stepShape, chunks []model.Chunk) stepShape {
	if b.graphs.device == nil || !exact.single || b.part.Ranks > 1 && b.peers.told == 0 {
		return exact
	}
	for i := range chunks {
		if c := &chunks[i]; c.Adapter != 0 || c.Logits == model.LogitsNone {
			return exact
		}
	}
	at, _ := slices.BinarySearch(b.graphs.rows, exact.rows)
	if at == len(b.graphs.rows) {
		return exact
	}
	filled := stepShape{rows: b.graphs.rows[at], parts: 1, single: true, followed: exact.followed, filled: true}
	for filled.parts < exact.parts {
		filled.parts *= graphPartsFactor
	}
	filled.parts = min(filled.parts, min(b.config.MaxPositions, b.blocks*blockTokens)/partTokens+1)
	if filled.rows > b.maxRows || filled.rows > b.rowsAtOnce(filled.parts) {
		return exact
	}
	return filled
}

// launchStages launches all of a step, by its graph where there is one.
func (b *Backend) launchStages() error {
	if !b.shape.filled {
		return b.launchAll()
	}
	c := b.graphs.of[b.shape]
	if c == nil {
		b.graphs.of[b.shape] = &captured{}
		return b.launchAll()
	}
	if c.graph == nil {
		graph, err := b.graphs.device.Capture(b.launchAll)
		if err != nil {
			return b.giveUpGraphs(err)
		}
		c.graph, c.exchanges = graph, b.peers.place
	}
	b.peers.place = c.exchanges
	return b.graphs.device.Replay(c.graph)
}

// giveUpGraphs computes the step without, as all to come: a driver that cannot capture launches can run them. Where the card itself has
// failed they do as well.
func (b *Backend) giveUpGraphs(err error) error {
	b.graphs, b.peers.place = graphs{}, 0
	if failed := b.launchAll(); failed != nil {
		return errors.Join(failed, err)
	}
	b.warn(fmt.Errorf("no graphs of launches can be made, and kernels are launched one by one: %w", err))
	return nil
}

// launchAll launches all stages, and the output where a step has it whole.
func (b *Backend) launchAll() error {
	for _, s := range b.stages {
		if err := s.compute(b); err != nil {
			return err
		}
	}
	if !b.outputFilled() {
		return nil
	}
	return b.output.launch(b, 0, b.shape.rows)
}

// outputFilled reports whether the output of a filled step is among its launches.
func (b *Backend) outputFilled() bool { return b.shape.filled && b.shape.rows <= b.logitRows() }

// logitRows is how many rows of logits are computed at once.
func (b *Backend) logitRows() int { return min(model.LogitRows, b.maxRows) }

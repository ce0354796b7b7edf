package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lockstep/shard/gpu"
	"lockstep/shard/gpu/driver"
	"lockstep/shard/gpu/kernels"
	"lockstep/shard/model"
)

// bindings opens the driver and the card, which loads the code of all kernels, and times launches.
func (c *check) bindings(r *report) error {
	manifest, err := kernels.ReadManifest()
	if err != nil {
		return err
	}
	r.table("what", "result")
	note := func(what string, result any) {
		r.row(what, result)
		r.record(map[string]any{"what": what, "result": result})
	}
	note("kernels", fmt.Sprintf("%v for %v, by NVRTC %s", kernels.Names, manifest.Targets, manifest.Compiler))
	if !c.emulated {
		cards, err := driver.Cards(c.library)
		if err != nil {
			return err // names the symbol that is missing
		}
		for _, card := range cards {
			note("the driver, with all of its functions that are called, shows",
				fmt.Sprintf("%v, %s, %d MiB, compute capability %d.%d", card, card.UUID, card.Memory>>20, card.Major, card.Minor))
		}
	}
	began := time.Now()
	card, err := c.open()
	if err != nil {
		return err
	}
	defer card.Close()
	note("opening it and loading all modules, ms", float64(time.Since(began).Microseconds())/1e3)
	about := card.Describe()
	note("class of sums; multiprocessors; shared memory of a block", fmt.Sprintf("%s; %d; %d", about.Class, about.Processors, about.Shared))
	free, _, err := card.FreeBytes()
	if err != nil {
		return err
	}
	note("MiB free", free>>20)
	at, err := card.Alloc(1 << 20)
	if err != nil {
		return err
	}
	empty := &gpu.Launch{Kernel: "fill", Grid: [3]int{1, 1, 1}, Threads: [3]int{32, 1, 1}, Args: []any{at, uint64(0), int32(0)}}
	many := 2000
	if c.quick {
		many = 50
	}
	launch := func(each bool) (float64, error) {
		began := time.Now()
		for range many {
			err := card.Launch(empty)
			if err == nil && each {
				err = settle(card, at)
			}
			if err != nil {
				return 0, err
			}
		}
		err := settle(card, at)
		return float64(time.Since(began).Nanoseconds()) / 1e3 / float64(many), err
	}
	for _, each := range []bool{false, false, true} {
		took, err := launch(each)
		if err != nil {
			return err
		}
		note(map[bool]string{false: "an empty launch among many, us", true: "an empty launch and the wait for it, us"}[each], took)
	}
	return nil
}

// roofs measures the rate at which the card reads its memory.
func (c *check) roofs(r *report) error {
	card, err := c.open()
	if err != nil {
		return err
	}
	defer card.Close()
	bytes := 8 << 30
	if c.quick {
		bytes = 1 << 20
	}
	m := newMirror(card)
	m.filling = true
	from, err := m.Alloc(bytes)
	if err != nil {
		return err
	}
	to, err := m.Alloc(4 << 20)
	if err != nil {
		return err
	}
	if err := m.Launch(&gpu.Launch{Kernel: "fill", Grid: [3]int{1024, 1, 1}, Threads: [3]int{256, 1, 1},
		Args: []any{from, uint64(bytes / 4), int32(1)}}); err != nil {
		return err
	}
	l, best := &loaded{mirror: m}, 0.0
	r.table("blocks a multiprocessor", "GB/s read")
	for _, blocks := range []int{1, 2, 4, 8, 16} {
		if c.quick && blocks > 2 {
			break
		}
		each, err := l.pace([]gpu.Launch{{Kernel: "read_all", Grid: [3]int{blocks * card.Describe().Processors, 1, 1},
			Threads: [3]int{256, 1, 1}, Args: []any{to, from, uint64(bytes / 16)}}}, c.long())
		if err != nil {
			return err
		}
		rate := float64(bytes) / each.Seconds() / 1e9
		best = max(best, rate)
		r.row(blocks, rate)
	}
	r.line("\nThe read rate that shares below refer to: %.4g GB/s.", best)
	r.record(map[string]any{"readRate": best})
	return nil
}

// long is how long a figure is measured.
func (c *check) long() time.Duration {
	if c.quick {
		return time.Microsecond
	}
	return 25 * time.Millisecond
}

// readRate is what roofs has found, in bytes a second; 0: nothing.
func (c *check) readRate() (rate float64) {
	for _, values := range records(c.out) {
		if found, ok := values["readRate"].(float64); ok {
			rate = found * 1e9
		}
	}
	return rate
}

// share is a rate as a share of the read rate.
func (c *check) share(bytesPerSecond float64) string {
	if rate := c.readRate(); rate > 0 {
		return fmt.Sprintf("%.1f %%", 100*bytesPerSecond/rate)
	}
	return "unknown"
}

// products times the launches that read weights, as steps of so many rows have them, in all formats.
func (c *check) products(r *report) error {
	rows := []int{1, 2, 4, 8, 16, 32, 64}
	kinds := [][2]string{{"8B", ""}, {"8B", "int8"}, {"8B", "int4"}, {"1B", ""}, {"7B", ""}}
	if c.quick {
		rows, kinds = []int{1, 8}, kinds[:3]
	}
	r.line("\nTimes are of launches in a queue, in turn over the layers, so that weights come from memory. One as short as an empty " +
		"launch (bindings) is the host's.")
	var failed []error
	for _, kind := range kinds {
		failed = append(failed, func() error {
			m, err := c.load(kind[0], kind[1], 8, 4096, 64)
			if err != nil {
				return err
			}
			defer m.close()
			r.table(m.name+", product", "kernel", "rows", "MiB of weights", "launches a step", "us each", "GB/s",
				"share of the read rate")
			for _, n := range rows {
				if err := c.tell(r, m, m.decodeStep(n, 16), m.multiplies, func(p *part) {
					r.row(p.matrices, p.kernel, n, float64(p.bytes)/(1<<20), len(p.launches), micro(p.each), p.rate()/1e9,
						c.share(p.rate()))
				}); err != nil {
					return err
				}
			}
			return nil
		}())
	}
	return errors.Join(failed...)
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// tell computes a step, times some of its parts, and records and shows each.
func (c *check) tell(r *report, m *loaded, step []model.Chunk, want func(p *part) bool, show func(p *part)) error {
	list, err := m.record(step)
	if err != nil {
		return err
	}
	all, err := m.parts(list, c.long(), want)
	if err != nil {
		return err
	}
	rows := 0
	for _, chunk := range step {
		rows += len(chunk.Tokens)
	}
	for _, p := range all {
		show(p)
		r.record(map[string]any{"model": m.name, "rows": rows, "position": step[0].Start, "kernel": p.kernel, "matrices": p.matrices,
			"sizes": p.sizes, "launches": len(p.launches), "us": micro(p.each), "bytes": p.bytes,
			"usOfStep": micro(p.each) * float64(len(p.launches))})
	}
	return nil
}

func attends(p *part) bool { return strings.HasPrefix(p.kernel, "attend") }

// attention times the attention of decode steps at several positions.
func (c *check) attention(r *report) error {
	m, err := c.load("8B", "", 4, 64*32768, 64)
	if err != nil {
		return err
	}
	defer m.close()
	r.table("8B shape, kernel", "rows", "positions before", "us each", "GB/s of keys and values", "share of the read rate")
	for _, position := range []int{512, 4096, 32767} {
		for _, rows := range []int{1, 8, 64} {
			if c.quick && (rows > 1 || position > 512) {
				continue
			}
			position := min(position, m.blocks*16-1)
			config := &m.source.Config
			bytes := 2 * 2 * rows * (position + 1) * config.KVHeads * config.HeadDim
			if err := c.tell(r, m, m.decodeStep(rows, position), attends, func(p *part) {
				rate := float64(bytes) / p.each.Seconds()
				if strings.Contains(p.kernel, "join") {
					r.row(p.kernel, rows, position, micro(p.each), "", "")
					return
				}
				r.row(p.kernel, rows, position, micro(p.each), rate/1e9, c.share(rate))
			}); err != nil {
				return err
			}
		}
	}
	r.line("\nThe cache has %d positions; sequences that need more together share blocks, which the second cache may hold.", m.blocks*16)
	return nil
}

// prefill times products and attention of steps with many rows of one sequence.
func (c *check) prefill(r *report) error {
	m, err := c.load("8B", "", 2, 4096, 2048)
	if err != nil {
		return err
	}
	defer m.close()
	r.table("8B shape, product", "kernel", "rows", "launches", "MiB of weights", "us each", "TFLOP/s")
	for _, rows := range []int{128, 512, 2048} {
		if c.quick && rows > 128 {
			break
		}
		rows := min(rows, m.tokensAtOnce())
		show := func(p *part) {
			r.row(p.matrices, p.kernel, rows, len(p.launches), float64(p.bytes)/(1<<20), micro(p.each),
				m.operations(p, rows)/p.each.Seconds()/1e12)
		}
		wanted := func(p *part) bool { return m.multiplies(p) || attends(p) }
		if err := c.tell(r, m, m.prefillStep(rows), wanted, show); err != nil {
			return err
		}
		m.capability = 80 // products as on cards without wgmma
		err := c.tell(r, m, m.prefillStep(rows), m.multiplies, show)
		if m.capability = 0; err != nil {
			return err
		}
	}
	return nil
}

// once computes a step of each kind, of one layer, for a tool that looks at kernels.
func (c *check) once(r *report) error {
	m, err := c.load("8B", "", 1, 64*1024, 2048)
	if err != nil {
		return err
	}
	defer m.close()
	for _, step := range [][]model.Chunk{m.decodeStep(1, 512), m.decodeStep(64, 512), m.prefillStep(min(512, m.tokensAtOnce()))} {
		if err := m.compute(step); err != nil {
			return err
		}
	}
	r.record(map[string]any{"computed": m.name})
	return nil
}

// operations are those that a part takes at the beginning of a sequence: of attention those of pairs that see each other.
func (m *loaded) operations(p *part, rows int) float64 {
	config := &m.source.Config
	switch {
	case p.matrices == "head": // of the last row
		return float64(p.bytes)
	case m.multiplies(p):
		return float64(p.bytes) * float64(rows)
	case strings.Contains(p.kernel, "join"):
		return 0
	}
	return 4 * float64(config.Heads*config.HeadDim) * float64(rows) * float64(rows+1) / 2
}

// tokensAtOnce is the most rows of a step.
func (m *loaded) tokensAtOnce() int {
	if strings.HasPrefix(m.name, "tiny") {
		return 64
	}
	return 2048
}

// whole times whole steps of models of random weights.
func (c *check) whole(r *report) error {
	kinds := [][2]string{{"1B", ""}, {"8B", ""}, {"8B", "int4"}, {"8B", "int8"}, {"7B", ""}}
	if c.quick {
		kinds = kinds[:1]
	}
	r.table("model", "step", "launched", "ms", "ms of its launches alone", "tokens/s", "GB/s of weights", "share of the read rate")
	var failed []error
	for _, kind := range kinds {
		failed = append(failed, func() error {
			m, err := c.load(kind[0], kind[1], 0, 64*1024, 2048)
			if err != nil {
				return err
			}
			defer m.close()
			for _, s := range []struct {
				name  string
				step  []model.Chunk
				graph bool
			}{{"decode, 1 sequence at 512", m.decodeStep(1, 512), true}, {"decode, 8 at 512", m.decodeStep(8, 512), true},
				{"decode, 64 at 512", m.decodeStep(64, 512), true}, {"prefill of 512", m.prefillStep(min(512, m.tokensAtOnce())), false},
				{"prefill of 2048", m.prefillStep(m.tokensAtOnce()), false}} {
				if c.quick && s.name != "decode, 1 sequence at 512" {
					continue
				}
				if err := c.wholeStep(r, m, s.name, s.step, s.graph); err != nil {
					return fmt.Errorf("%s, %s: %w", m.name, s.name, err)
				}
			}
			return nil
		}())
	}
	return errors.Join(failed...)
}

// wholeStep times a step in all ways that it can be launched in, the server's last.
func (c *check) wholeStep(r *report, m *loaded, name string, step []model.Chunk, graph bool) error {
	ways := []way{{single: true, serial: true}, {single: true}}
	if graph {
		ways = append(ways, way{serial: true}, way{}, way{ahead: true})
	}
	for _, m.way = range ways {
		took, err := c.median(m, step)
		if err != nil {
			return err
		}
		kernels, err := c.launchesAlone(m, step)
		if err != nil {
			return err
		}
		tokens := 0
		for _, chunk := range step {
			tokens += len(chunk.Tokens)
		}
		rate := float64(m.weights) / took.Seconds()
		r.row(m.name, name, m.way, micro(took)/1e3, micro(kernels)/1e3, float64(tokens)/took.Seconds(), rate/1e9, c.share(rate))
		r.record(map[string]any{"model": m.name, "step of": name, "launched": m.way.String(), "ms": micro(took) / 1e3,
			"launchesMs": micro(kernels) / 1e3, "tokensPerSecond": float64(tokens) / took.Seconds(), "weights": m.weights})
	}
	return nil
}

// launchesAlone is the time of a step's launches one behind the other, without what the host does between them.
func (c *check) launchesAlone(m *loaded, step []model.Chunk) (time.Duration, error) {
	list, err := m.record(step)
	if err != nil {
		return 0, err
	}
	each, err := m.pace(list, c.long())
	return each * time.Duration(len(list)), err
}

// median is the median time of a step.
func (c *check) median(m *loaded, step []model.Chunk) (time.Duration, error) {
	if m.way.ahead {
		return c.ahead(m, step)
	}
	times, began := []time.Duration{}, time.Now()
	for i := range 24 {
		at := time.Now()
		if err := m.compute(step); err != nil {
			return 0, err
		}
		if i >= 2 || c.quick {
			times = append(times, time.Since(at))
		}
		if len(times) > 0 && (c.quick || len(times) >= 3 && time.Since(began) > 600*time.Millisecond) {
			break
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// ahead is the time of one of many decode steps, each of which is launched before the one before it is collected.
func (c *check) ahead(m *loaded, first []model.Chunk) (time.Duration, error) {
	next := slices.Clone(first)
	for i := range next {
		next[i].Tokens = []int32{model.ChosenBy(i)}
	}
	count := 30
	if c.quick {
		count = 2
	}
	if err := m.backend.Launch(first, true); err != nil {
		return 0, err
	}
	const before = 3 // until graphs are made
	began := time.Now()
	for i := range before + count {
		if i == before {
			began = time.Now()
		}
		if err := errors.Join(m.backend.Launch(next, i < before+count-1), m.backend.Collect(best)); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	return took / time.Duration(count), m.backend.Collect(best)
}

package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"lockstep/shard/collective"
	"lockstep/shard/gpu"
	"lockstep/shard/gpu/kernels"
	"lockstep/shard/gpu/ptx"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

func emulate() (gpu.Device, error) {
	return gpu.NewEmulated(runtime.GOMAXPROCS(0), func() (int64, string, error) { return 8 << 30, "the check", nil })
}

// variant is a model with what is done to it.
type variant struct {
	folder, quantise, numerics string
	adapters                   bool
}

func (v variant) String() string {
	parts := []string{filepath.Base(v.folder), v.numerics}
	if v.quantise != "" {
		parts = append(parts, v.quantise)
	}
	if v.adapters {
		parts = append(parts, "with adapters")
	}
	return strings.Join(parts, " ")
}

// quantised is a model that can be: its columns are whole groups of codes.
const quantised = "llama_rope_llama3_f16"

// variants are all models, with one term and with two, and some that are quantised or have adapters.
func (c *check) variants() (all []variant, err error) {
	folders, err := filepath.Glob(filepath.Join(c.dir, "models", "*"))
	if err != nil || len(folders) == 0 {
		return nil, fmt.Errorf("there are no models in %s: make the folder with check build", c.dir)
	}
	for _, folder := range folders {
		name := filepath.Base(folder)
		adapters, _ := filepath.Glob(filepath.Join(c.dir, "adapters", name, "*"))
		if c.quick && !slices.Contains([]string{"llama_gqa_9q3kv", "deepseek_v2_mla", quantised}, name) {
			continue
		}
		all = append(all, variant{folder: folder, numerics: "bf16", adapters: len(adapters) > 0},
			variant{folder: folder, numerics: "two-term", adapters: len(adapters) > 0})
		if name == quantised {
			all = append(all, variant{folder: folder, quantise: "int8", numerics: "bf16"},
				variant{folder: folder, quantise: "int4", numerics: "two-term"})
		}
	}
	return all, nil
}

// open opens a variant's part on one rank.
func (v variant) open(dir string) (*model.Part, func(), error) {
	source, err := model.Open(v.folder)
	if err != nil {
		return nil, nil, err
	}
	closers := []func(){source.Close}
	done := func() {
		for _, f := range closers {
			f()
		}
	}
	if v.quantise != "" {
		_, err = source.Quantise(v.quantise)
	}
	var adapters []*model.Adapter
	if v.adapters && err == nil {
		folders, _ := filepath.Glob(filepath.Join(dir, "adapters", filepath.Base(v.folder), "*"))
		for _, folder := range folders {
			var opened *model.Adapter
			if opened, err = model.OpenAdapter(filepath.Base(folder), folder); err != nil {
				break
			}
			adapters, closers = append(adapters, opened), append(closers, opened.Close)
		}
	}
	var part *model.Part
	if err == nil {
		part, err = source.Part(0, 1, adapters...)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return part, done, nil
}

// alone attaches a backend that has no other ranks.
func alone(b *gpu.Backend, blocks, maxRows int) (func(), error) {
	memory, err := collective.NewMemory("check")
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	reduce, gather := b.ExchangeFloats(maxRows)
	group, err := collective.Open(memory, 0, collective.Sizes{Ranks: 1, ReduceFloats: reduce, GatherFloats: gather, PlanBytes: 64})
	if err != nil {
		return nil, err
	}
	if err := b.Attach(group, blocks, maxRows); err != nil {
		group.Close() //nolint:errcheck // the first error counts
		return nil, err
	}
	return func() { group.Close() }, nil //nolint:errcheck // it was mapped
}

// mostFailures is how many models may fail before the others are left alone.
const mostFailures = 3

// vectors launches what models launch on an emulation and on the card, with the same memory before, and compares the memory behind.
func (c *check) vectors(r *report) error {
	all, err := c.variants()
	if err != nil {
		return err
	}
	emulation, err := emulate()
	if err != nil {
		return err
	}
	card, err := c.open()
	if err != nil {
		return err
	}
	defer card.Close()
	found := map[string]*comparison{}
	if class := card.Describe().Class; class != "h" {
		r.line("\nThe emulation adds as cards of class h; this one, of class %s, must differ in what tensor cores compute.", class)
	}
	r.table("model", "launches", "that differ", "s")
	total, differ, failed := 0, 0, []error{}
	for _, v := range all {
		m, began := newMirror(emulation, card), time.Now()
		err := v.launchAll(c.dir, m)
		launches, wrong := 0, 0
		for kernel, f := range m.found {
			launches, wrong = launches+f.launches, wrong+f.differ
			sum := found[kernel]
			if sum == nil {
				sum = &comparison{}
				found[kernel] = sum
			}
			sum.launches, sum.bytes, sum.differ = sum.launches+f.launches, sum.bytes+f.bytes, sum.differ+f.differ
			if sum.first == "" && f.first != "" {
				sum.first = v.String() + ": " + f.first
			}
		}
		total, differ = total+launches, differ+wrong
		if err != nil {
			r.row(v, launches, fmt.Sprintf("failed: %v", err), time.Since(began).Seconds())
			if failed = append(failed, fmt.Errorf("%v: %w", v, err)); len(failed) == mostFailures {
				break // the card's context may be dead
			}
			continue
		}
		r.row(v, launches, wrong, time.Since(began).Seconds())
		r.record(map[string]any{"model": v.String(), "launches": launches, "differ": wrong})
	}
	if err := c.byKernel(r, found); err != nil {
		return err
	}
	if differ > 0 {
		return fmt.Errorf("%d of %d launches differ from the emulation, in bits", differ, total)
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	r.line("\nAll %d launches leave the emulation's bits.", total)
	return nil
}

// byKernel tells of each kernel that there is.
func (c *check) byKernel(r *report, found map[string]*comparison) error {
	names := map[string]bool{}
	for _, module := range kernels.Names {
		code, err := kernels.Module(module, kernels.PTX90)
		if err != nil {
			return err
		}
		parsed, err := ptx.Parse(string(code))
		if err != nil {
			return err
		}
		for kernel := range parsed.Kernels() {
			names[kernel] = names[kernel] || module != "check"
		}
	}
	r.table("kernel", "launches", "bytes compared", "launches that differ", "first difference")
	for _, kernel := range slices.Sorted(maps.Keys(names)) {
		if f := found[kernel]; f != nil {
			r.row(kernel, f.launches, f.bytes, f.differ, f.first)
			r.record(map[string]any{"kernel": kernel, "launches": f.launches, "bytes": f.bytes, "differ": f.differ, "first": f.first})
		} else if names[kernel] {
			r.row(kernel, "not launched", "", "", "")
		}
	}
	return nil
}

// launchAll computes steps that launch every kernel that a model has, on both sides of a mirror.
func (v variant) launchAll(dir string, m *mirror) error {
	part, done, err := v.open(dir)
	if err != nil {
		return err
	}
	defer done()
	team := workers.New(2, nil)
	defer team.Close()
	b, err := gpu.Load(part, m, team, gpu.Options{Numerics: v.numerics})
	if err != nil {
		return err
	}
	defer b.Close()
	m.loaded, m.compare = len(m.memory), true
	const blocks, maxRows = 40, 130
	detach, err := alone(b, blocks, maxRows)
	if err != nil {
		return err
	}
	defer detach()
	tokens := make([]int32, maxRows)
	for i := range tokens {
		tokens[i] = int32((i*37 + 5) % part.Config.Vocabulary)
	}
	table := make([]int32, blocks)
	for i := range table {
		table[i] = int32((i*7 + 3) % blocks)
	}
	chunk := func(start, count, first, blocks, fresh, adapter int) model.Chunk {
		return model.Chunk{Start: start, PromptTokens: start + count, Adapter: adapter, Tokens: tokens[first:][:count],
			Blocks: table[first%3:][:blocks], Fresh: fresh, Logits: model.LogitsLast}
	}
	adapter := 0
	if v.adapters {
		adapter = 1
	}
	steps := [][]model.Chunk{{chunk(0, 3, 0, 1, 1, adapter)}, {chunk(3, 1, 3, 1, 0, adapter)},
		{chunk(0, 9, 1, 1, 1, 0), chunk(4, 4, 0, 1, 0, adapter)}, {chunk(9, 1, 1, 1, 0, 0), chunk(8, 1, 0, 1, 0, adapter)}}
	if part.Config.MaxPositions >= 272 { // over parts of attention; what was not computed before is zero
		steps = append(steps, []model.Chunk{chunk(254, 3, 0, 17, 17, adapter)}, []model.Chunk{chunk(257, 1, 0, 17, 0, adapter)})
	}
	var many []int
	name := filepath.Base(v.folder)
	if name == "llama_gqa_9q3kv" || name == quantised || strings.Contains(name, "mixtral") { // more rows at a time
		steps = append(steps, []model.Chunk{chunk(0, 20, 1, 2, 2, adapter)}, []model.Chunk{chunk(0, 40, 1, 3, 3, adapter)},
			[]model.Chunk{chunk(0, 66, 2, 5, 5, adapter)})
		many = []int{66, maxRows}
	}
	for _, step := range steps {
		if err := b.Forward(step, func(model.Scores) {}); err != nil {
			return err
		}
	}
	m.processors = 1 // whose launches are those of large models, whose products fill a card
	for _, rows := range many {
		if err := b.Forward([]model.Chunk{chunk(0, rows, 0, (rows+15)/16, (rows+15)/16, adapter)}, func(model.Scores) {}); err != nil {
			return err
		}
	}
	return nil
}

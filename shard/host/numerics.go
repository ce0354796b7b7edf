package host

import (
	"cmp"
	"slices"

	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/weights"
)

// Numerics are the arithmetics of the CPU by name, each of which rounds as the ones before it do and more:
//
//   - f32: every product is a chain of float32 over the exact weights.
//   - bf16: those of bfloat16 weights have activations of bfloat16 (package cpu, dot.go).
//   - q8: those of quantised weights have activations of 8 bits (package cpu, integer.go), where their groups allow it.
//
// A model computes by the first of those up to the one that is asked for that comes to the same: its device says which.
var Numerics = []string{"f32", "bf16", "q8"}

// DefaultNumerics lets every kind of weights have its fast products.
const DefaultNumerics = "q8"

// numerics is an index of Numerics.
type numerics int

const (
	exact numerics = iota
	rounding
	integer
)

// id names the numerics of a backend whose KV cache has numbers of a kind, among them that kind if it is not the usual one.
func (n numerics) id(kind cpu.CacheType) string {
	id := Numerics[n] + ".1"
	if kind != n.cache() {
		for name, k := range CacheTypes {
			if k == kind {
				id += "+kv-" + name
			}
		}
	}
	return id
}

// cache is the usual type of numbers in the KV cache.
func (n numerics) cache() cpu.CacheType {
	if n == exact {
		return cpu.CacheF32
	}
	return cpu.CacheF16
}

// Options are how a backend computes.
type Options struct {
	Kernels *cpu.Kernels
	// Numerics is one of Numerics; empty: DefaultNumerics.
	Numerics string
	// Cache is the type of numbers in the KV cache, one of CacheTypes; empty: the usual one of the numerics.
	Cache string
	// Kept is memory in which packed weights outlive this process; nil: there is none.
	Kept *Kept
	// Progress gets the share of the load that is done, from 0 to 1, from one goroutine.
	Progress func(done float64)
}

// numerics is what is asked for.
func (o Options) numerics() numerics {
	return numerics(slices.Index(Numerics, cmp.Or(o.Numerics, DefaultNumerics)))
}

// format is how a matrix is packed, and the numerics of its products. A rank that has none of it finds the same as all others.
func (n numerics) format(l *model.Linear) (cpu.Format, numerics) {
	form := l.Encoding.Form()
	plain := l.Encoding.Plain()
	switch {
	case form == weights.FormBF16 && n >= rounding:
		return cpu.BF16Dot, rounding
	case plain:
		return formats[form], exact
	case n == integer && (l.Columns.Size() == 0 || cpu.IntegerBytes(l.Scheme(), l.Columns.From, 1, l.Columns.Size(), l.Chunks) > 0):
		return cpu.Integers, integer
	case form != weights.FormCodes:
		return formats[form], exact
	}
	if format, ok := blocksOf(l); ok {
		return format, exact
	}
	return cpu.Coded, exact
}

// formats are the kernels' formats of the forms of rows.
var formats = map[weights.Form]cpu.Format{weights.FormF32: cpu.F32, weights.FormF16: cpu.F16, weights.FormBF16: cpu.BF16,
	weights.FormInt8: cpu.Q8_0, weights.FormInt4: cpu.Q4_0, weights.FormInt4Min: cpu.Q4_1}

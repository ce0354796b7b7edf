package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"lockstep/shard/codes"
	"lockstep/shard/cpu"
)

// integerSchemes are those of schemes that have products of integers, all forms of package cpu among them.
func integerSchemes() map[string]*codes.Scheme {
	half := &codes.Scheme{Kind: codes.F16}
	all := schemes(1536)
	for _, name := range []string{"float8", "any order", "any order 8"} {
		delete(all, name)
	}
	all["Q8_0"] = &codes.Scheme{Kind: codes.Bits8, Group: 32, Scale: half, Bias: -128}
	all["Q4_0"] = &codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: half, Bias: -8}
	all["Q4_1"] = &codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: half, Offset: half}
	all["IQ4_NL"] = &codes.Scheme{Kind: codes.NonLinear4, Group: 32, Scale: half}
	all["Q5_K"] = &codes.Scheme{Kind: codes.Bits5, Group: 32, Scale: all["Q4_K"].Scale, Offset: all["Q4_K"].Offset}
	for bits, kind := range map[int]codes.Kind{2: codes.Bits2, 3: codes.Bits3, 8: codes.Bits8} {
		all[fmt.Sprintf("groups of %d bits", bits)] = &codes.Scheme{Kind: kind, Group: 64, Scale: half, Offset: half, Zero: true}
	}
	return all
}

func packIntegers(t testing.TB, s *codes.Scheme, first, columns, chunks int, rows []*codes.Row) *cpu.Matrix {
	t.Helper()
	data := aligned(cpu.IntegerBytes(s, first, len(rows), columns, chunks))
	for i := range data {
		data[i] = 0xa5 // nothing of what was there stays
	}
	m, err := cpu.NewIntegers(s, first, len(rows), columns, chunks, data)
	if err != nil {
		t.Fatal(err)
	}
	for p := range m.Panels() {
		m.PackCoded(p, func(row int) *codes.Row { return rows[row] })
	}
	return m
}

// integersNaive is the definition of numerics q8.1 for one output, from the scheme alone.
func integersNaive(x []float32, s *codes.Scheme, first int, row *codes.Row, chunks int) float32 {
	start, end := s.Span(first, first+len(x))
	scales, offsets := make([]float32, end-start), make([]float32, end-start)
	s.Scale.Values(scales, row.Scale, start)
	if s.Offset != nil {
		s.Offset.Values(offsets, row.Offset, start)
	}
	size := min(s.Group, 32)
	var stack []float32
	for chunk := range chunks {
		total := float32(0)
		for at := chunk * len(x) / chunks; at < (chunk+1)*len(x)/chunks; at += 32 {
			largest := float32(0)
			for _, v := range x[at:][:32] {
				largest = max(largest, float32(math.Abs(float64(v))))
			}
			d := largest / 127
			for g := at; g < at+32; g += size {
				sum, plain := 0, 0
				for c := g; c < g+size; c++ {
					q := int(math.RoundToEven(float64(float32(x[c] * float32(127/largest)))))
					sum += q * int(s.Kind.Level(row.Codes[c])+s.Bias)
					plain += q
				}
				group := s.GroupOf(first+g) - start
				total = cpu.FMA32(float32(sum), float32(scales[group]*d), total)
				if s.Offset != nil {
					offset := offsets[group]
					if s.Zero {
						offset = -offset * scales[group]
					}
					total = cpu.FMA32(offset, float32(d*float32(plain)), total)
				}
			}
		}
		stack = append(stack, total)
	}
	for len(stack) > 1 {
		for i := range len(stack) / 2 {
			stack[i] = stack[2*i] + stack[2*i+1]
		}
		stack = stack[:len(stack)/2]
	}
	return stack[0]
}

// Matrices of integers have the scheme's values, and all kernels give the products that q8.1 defines.
func TestIntegers(t *testing.T) {
	kernels := append(fast(t), plainGo(t))
	for name, s := range integerSchemes() {
		for i, c := range []struct{ first, columns, chunks, outputs int }{
			{0, 160, 1, 45}, {96, 608, 1, 17}, {32, 256, 8, 33}, {288, 1152, 4, 9}, {0, 1536, 2, 16}, {0, 64, 1, 150},
		} {
			rng := rand.New(rand.NewPCG(uint64(i), 5))
			var rows []*codes.Row
			for range c.outputs {
				rows = append(rows, codedRow(rng, s, c.first, c.columns))
			}
			m := packIntegers(t, s, c.first, c.columns, c.chunks, rows)
			values := make([]float32, c.columns)
			for r, row := range rows {
				s.Values(values, row, c.first)
				for column, want := range values {
					if got := m.At(r, column); got != want {
						t.Fatalf("%s %v: weight %d,%d is %v, want %v", name, c, r, column, got, want)
					}
				}
			}
			x := normals(rng, 14*c.columns)
			want := make([]float32, 14*c.outputs)
			for r := range 14 {
				for n := range c.outputs {
					want[r*c.outputs+n] = integersNaive(x[r*c.columns:][:c.columns], s, c.first, rows[n], c.chunks)
				}
			}
			for _, k := range kernels {
				for _, count := range []int{1, 2, 3, 4, 5, 6, 7, 14} {
					dst := guarded(14 * c.outputs)
					k.MatMul(cpu.Rows{dst, c.outputs, count}, cpu.Rows{x, c.columns, count}, m, 0, m.Panels(), cpu.NewScratch())
					if at := differ(dst[:count*c.outputs], want); at >= 0 {
						t.Fatalf("%s %s %v, %d rows: output %d is %v, want %v", k.Name(), name, c, count, at, dst[at], want[at])
					}
				}
			}
		}
	}
}

// What is no finite number, and what is too small to divide by, has a block of its own, which is the same in all kernels.
func TestIntegersOfAnyActivations(t *testing.T) {
	const columns, outputs = 128, 16
	s, rng := integerSchemes()["Q4_K"], rand.New(rand.NewPCG(6, 6))
	var rows []*codes.Row
	for range outputs {
		rows = append(rows, codedRow(rng, s, 0, columns))
	}
	m := packIntegers(t, s, 0, columns, 1, rows)
	inf := float32(math.Inf(1))
	for _, special := range []float32{0, 0x1p-149, -0x1p-101, 0x1p-100, 3e38, inf, -inf, inf - inf} {
		x := make([]float32, columns) // of four blocks one
		x[40] = special
		for i := range 32 {
			x[i] = float32(i)
		}
		want := make([]float32, outputs)
		product := func(k *cpu.Kernels, dst []float32) {
			k.MatMul(cpu.Rows{dst, outputs, 1}, cpu.Rows{x, columns, 1}, m, 0, 1, cpu.NewScratch())
		}
		product(plainGo(t), want)
		if finite := special-special == 0; finite != (want[0] == want[0]) {
			t.Errorf("%v: the product is %v", special, want[0])
		}
		for _, k := range fast(t) {
			got := make([]float32, outputs)
			product(k, got)
			for i, v := range got {
				if math.Float32bits(v) != math.Float32bits(want[i]) && (v == v || want[i] == want[i]) {
					t.Errorf("%s, %v: output %d is %v, want %v", k.Name(), special, i, v, want[i])
				}
			}
		}
	}
}

func TestNewIntegersRefuses(t *testing.T) {
	half, all := &codes.Scheme{Kind: codes.F16}, schemes(128)
	for name, c := range map[string]struct {
		scheme                 *codes.Scheme
		first, columns, chunks int
	}{
		"plain numbers":          {half, 0, 64, 1},
		"float8":                 {all["float8"], 0, 128, 1},
		"any order":              {all["any order"], 0, 128, 1},
		"groups of 36":           {&codes.Scheme{Kind: codes.Bits8, Group: 36, Scale: half, Bias: -128}, 0, 96, 1},
		"a start within a block": {all["Q4_K"], 16, 64, 1},
		"columns":                {all["Q4_K"], 0, 80, 1},
		"cut chunks":             {all["Q4_K"], 0, 96, 2},
	} {
		if n := cpu.IntegerBytes(c.scheme, c.first, 16, c.columns, c.chunks); n != 0 {
			t.Errorf("%s: %d bytes", name, n)
		}
		if _, err := cpu.NewIntegers(c.scheme, c.first, 16, c.columns, c.chunks, aligned(1<<16)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// BenchmarkIntegers has 2048 columns and as many outputs as fill 32 MiB, or 1024 for many rows.
func BenchmarkIntegers(b *testing.B) {
	const columns = 2048
	rng := rand.New(rand.NewPCG(1, 2))
	for name, s := range integerSchemes() {
		for _, count := range []int{1, 2, 4, 6, 16, 64, 512} {
			outputs := 32 << 20 / cpu.IntegerBytes(s, 0, 16, columns, 1) * 16
			if count > 6 {
				outputs = 1024
			}
			m := packIntegers(b, s, 0, columns, 1, repeat(codedRows(rng, s, columns), outputs))
			benchmarkProduct(b, name, rng, m, count)
		}
	}
}

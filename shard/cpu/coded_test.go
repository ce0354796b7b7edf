package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"lockstep/shard/codes"
	"lockstep/shard/cpu"
)

// schemes are those of the encodings that package weights knows, and one with groups of any size in any order.
func schemes(columns int) map[string]*codes.Scheme {
	half, upper, whole := &codes.Scheme{Kind: codes.F16}, &codes.Scheme{Kind: codes.BF16}, &codes.Scheme{Kind: codes.F32}
	index := make([]int32, columns)
	for i, p := range rand.New(rand.NewPCG(1, 1)).Perm(columns) {
		index[i] = int32(p / 24)
	}
	nested := func(kind codes.Kind, group int, bias float32) *codes.Scheme {
		return &codes.Scheme{Kind: kind, Group: group, Scale: half, Bias: bias}
	}
	return map[string]*codes.Scheme{
		"Q5_0":        {Kind: codes.Bits5, Group: 32, Scale: half, Bias: -16},
		"Q5_1":        {Kind: codes.Bits5, Group: 32, Scale: half, Offset: half},
		"Q2_K":        {Kind: codes.Bits2, Group: 16, Scale: nested(codes.Bits4, 16, 0), Offset: nested(codes.Bits4, 16, 0)},
		"Q3_K":        {Kind: codes.Bits3, Group: 16, Scale: nested(codes.Bits8, 16, -32), Bias: -4},
		"Q4_K":        {Kind: codes.Bits4, Group: 32, Scale: nested(codes.Bits8, 8, 0), Offset: nested(codes.Bits8, 8, 0)},
		"Q6_K":        {Kind: codes.Bits6, Group: 16, Scale: nested(codes.Bits8, 16, -128), Bias: -32},
		"IQ4_XS":      {Kind: codes.NonLinear4, Group: 32, Scale: nested(codes.Bits8, 8, -32)},
		"MXFP4":       {Kind: codes.FP4, Group: 32, Scale: upper},
		"groups":      {Kind: codes.Bits4, Group: 128, Scale: half, Offset: half, Zero: true},
		"rows":        {Kind: codes.Bits8, Group: columns, Scale: upper, Bias: -128},
		"float8":      {Kind: codes.E4M3, Group: 128, Scale: whole},
		"any order":   {Kind: codes.Bits4, Index: index, Groups: (columns + 23) / 24, Scale: half, Offset: half, Zero: true},
		"any order 8": {Kind: codes.Bits8, Index: index, Groups: (columns + 23) / 24, Scale: half, Bias: -128},
	}
}

// codedRow returns count random columns of a row, from one on.
func codedRow(rng *rand.Rand, s *codes.Scheme, from, count int) *codes.Row {
	row := &codes.Row{}
	if s.Kind.Plain() {
		for range count {
			bits := math.Float32bits(float32(rng.NormFloat64()))
			switch s.Kind {
			case codes.F16:
				bits = uint32(half(rng, 4+rng.IntN(8)))
			case codes.BF16:
				bits >>= 16
			}
			row.Numbers = append(row.Numbers, bits)
		}
		return row
	}
	for range count {
		code := byte(rng.Uint32()) & byte(1<<s.Kind.Bits()-1)
		if s.Kind == codes.E4M3 && code&0x7f == 0x7f {
			code = 0
		}
		row.Codes = append(row.Codes, code)
	}
	first, end := s.Span(from, from+count)
	row.Scale = codedRow(rng, s.Scale, first, end-first)
	if s.Offset != nil {
		row.Offset = codedRow(rng, s.Offset, first, end-first)
		if s.Zero {
			for i := range row.Offset.Numbers {
				row.Offset.Numbers[i] = uint32(0x4400 + i%7*0x40) // 4 and more
			}
		}
	}
	return row
}

func packCoded(t testing.TB, s *codes.Scheme, first, columns, chunks int, rows []*codes.Row) *cpu.Matrix {
	t.Helper()
	m, err := cpu.NewCoded(s, first, len(rows), columns, chunks, aligned(cpu.CodedBytes(s, first, len(rows), columns)))
	if err != nil {
		t.Fatal(err)
	}
	for p := range m.Panels() {
		m.PackCoded(p, func(row int) *codes.Row { return rows[row] })
	}
	return m
}

// Matrices of codes, wherever their columns begin in whole rows, have the scheme's values, and all kernels multiply with them.
func TestCoded(t *testing.T) {
	const whole = 1536
	kernels := append(fast(t), plainGo(t))
	for name, s := range schemes(whole) {
		for i, c := range []struct{ first, columns, chunks, outputs int }{
			{0, 160, 1, 45}, {96, 608, 1, 17}, {32, 256, 8, 33}, {288, 1152, 4, 9}, {64, 77, 1, 70}, {0, whole, 2, 16},
		} {
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			var rows []*codes.Row
			for range c.outputs {
				rows = append(rows, codedRow(rng, s, c.first, c.columns))
			}
			m := packCoded(t, s, c.first, c.columns, c.chunks, rows)
			values := make([]float32, c.columns)
			for r, row := range rows {
				s.Values(values, row, c.first)
				for column, want := range values {
					if got := m.At(r, column); got != want {
						t.Fatalf("%s %v: weight %d,%d is %v, want %v", name, c, r, column, got, want)
					}
				}
			}
			checkMatMul(t, fmt.Sprintf("%s %v", name, c), kernels, m, rng, []int{1, 2, 3, 4, 5, 6, 7, 11, 13, 30})
		}
	}
}

// Every number of eight bits is that of the definition, also the ones that are subnormal or none.
func TestFloat8(t *testing.T) {
	s := &codes.Scheme{Kind: codes.E4M3, Group: 1, Scale: &codes.Scheme{Kind: codes.F32}}
	rows := make([]*codes.Row, 256)
	for i := range rows {
		rows[i] = &codes.Row{Codes: []byte{byte(i)}, Scale: &codes.Row{Numbers: []uint32{math.Float32bits(1)}}}
	}
	m := packCoded(t, s, 0, 1, 1, rows)
	for _, k := range cpu.Available() {
		got := make([]float32, 256)
		k.MatMul(cpu.Rows{got, 0, 1}, cpu.Rows{[]float32{1}, 0, 1}, m, 0, m.Panels(), cpu.NewScratch())
		for i, v := range got {
			exponent, fraction := i>>3&15, float64(i&7)
			want := math.Ldexp(8+fraction, exponent-10)
			if exponent == 0 {
				want = math.Ldexp(fraction, -9)
			}
			if i >= 128 {
				want = -want
			}
			if i&127 == 127 {
				if v == v {
					t.Errorf("%s: code %#x is %v, want NaN", k.Name(), i, v)
				}
			} else if float64(v) != want {
				t.Errorf("%s: code %#x is %v, want %v", k.Name(), i, v, want)
			}
		}
	}
}

func TestNewCodedRefuses(t *testing.T) {
	half := &codes.Scheme{Kind: codes.F16}
	odd := &codes.Scheme{Kind: codes.Bits3, Group: 8, Scale: half}
	good := &codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: half}
	for name, c := range map[string]struct {
		scheme          *codes.Scheme
		columns, chunks int
		data            []byte
	}{
		"plain numbers":    {half, 64, 1, aligned(1 << 16)},
		"scales of 3 bits": {&codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: odd}, 64, 1, aligned(1 << 16)},
		"cut chunks":       {good, 80, 2, aligned(1 << 16)},
		"short storage":    {good, 64, 1, aligned(64)},
		"no columns":       {good, 0, 1, aligned(1 << 16)},
	} {
		if _, err := cpu.NewCoded(c.scheme, 0, 16, c.columns, c.chunks, c.data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// codedRows returns 16 rows.
func codedRows(rng *rand.Rand, s *codes.Scheme, columns int) (rows []*codes.Row) {
	for range 16 {
		rows = append(rows, codedRow(rng, s, 0, columns))
	}
	return rows
}

// BenchmarkCoded has 2048 columns and as many outputs as fill 32 MiB.
func BenchmarkCoded(b *testing.B) {
	const columns = 2048
	rng := rand.New(rand.NewPCG(1, 2))
	for name, s := range schemes(columns) {
		outputs := 32 << 20 / cpu.CodedBytes(s, 0, 16, columns) * 16
		for _, count := range []int{1, 4, 16} {
			m := packCoded(b, s, 0, columns, 1, repeat(codedRows(rng, s, columns), outputs))
			benchmarkProduct(b, name, rng, m, count)
		}
	}
}

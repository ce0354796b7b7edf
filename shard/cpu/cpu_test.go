package cpu_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"lockstep/shard/cpu"
)

var allFormats = []cpu.Format{cpu.F32, cpu.F16, cpu.BF16, cpu.Q8_0, cpu.Q4_0, cpu.Q4_1, cpu.BF16Dot}

// fast returns the implementations beside plain Go; a build or CPU may have
// none, and then a test only compares plain Go with the definition.
func fast(t testing.TB) []*cpu.Kernels {
	all := cpu.Available()
	if len(all) == 1 {
		t.Log("this build and CPU have plain Go only")
	}
	return all[:len(all)-1]
}

func plainGo(t testing.TB) *cpu.Kernels {
	k, err := cpu.Named("go")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func aligned(n int) []byte {
	raw := make([]byte, n+64)
	return raw[-int(uintptr(unsafe.Pointer(&raw[0])))&63:][:n]
}

func normals(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// half returns a float16 near 2^-e.
func half(rng *rand.Rand, e int) uint16 {
	return uint16(15-e)<<10 | uint16(rng.IntN(1024)) | uint16(rng.IntN(2))<<15
}

// source returns rows of random weights in the source layout of f.
func source(rng *rand.Rand, f cpu.Format, rows, columns int) [][]byte {
	out := make([][]byte, rows)
	for r := range out {
		row := make([]byte, f.RowBytes(columns))
		for i := range row {
			row[i] = byte(rng.Uint32())
		}
		switch f {
		case cpu.F32:
			for i := range columns {
				binary.LittleEndian.PutUint32(row[i*4:], math.Float32bits(float32(rng.NormFloat64())))
			}
		case cpu.F16:
			for i := range columns {
				binary.LittleEndian.PutUint16(row[i*2:], half(rng, rng.IntN(15)))
			}
		case cpu.BF16, cpu.BF16Dot:
			for i := range columns {
				binary.LittleEndian.PutUint16(row[i*2:], uint16(math.Float32bits(float32(rng.NormFloat64()))>>16))
			}
		default:
			block := f.RowBytes(32)
			for i := 0; i < len(row); i += block {
				binary.LittleEndian.PutUint16(row[i:], half(rng, 8))
				if f == cpu.Q4_1 {
					binary.LittleEndian.PutUint16(row[i+2:], half(rng, 6))
				}
			}
		}
		out[r] = row
	}
	return out
}

func pack(t testing.TB, f cpu.Format, rows, columns, chunks int, source [][]byte) *cpu.Matrix {
	t.Helper()
	m, err := cpu.NewMatrix(f, rows, columns, chunks, aligned(cpu.PackedBytes(f, rows, columns)))
	if err != nil {
		t.Fatal(err)
	}
	for p := range m.Panels() {
		m.PackPanel(p, func(row int) []byte { return source[row] })
	}
	return m
}

// sourceValue decodes one weight from the source layout, for finite numbers.
func sourceValue(f cpu.Format, row []byte, column int) float32 {
	half := func(b []byte) float64 {
		h := binary.LittleEndian.Uint16(b)
		v := float64(h & 0x3ff)
		if e := int(h >> 10 & 31); e == 0 {
			v = math.Ldexp(v, -24)
		} else {
			v = math.Ldexp(v+1024, e-25)
		}
		if h>>15 != 0 {
			v = -v
		}
		return v
	}
	switch f {
	case cpu.F32:
		return math.Float32frombits(binary.LittleEndian.Uint32(row[column*4:]))
	case cpu.F16:
		return float32(half(row[column*2:]))
	case cpu.BF16, cpu.BF16Dot:
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(row[column*2:])) << 16)
	}
	b, i := row[f.RowBytes(column&^31):], column%32
	switch f {
	case cpu.Q8_0:
		return float32(half(b) * float64(int8(b[2+i])))
	case cpu.Q4_0:
		return float32(half(b) * float64(int(b[2+i%16]>>(i/16*4)&15)-8))
	default: // exact in float64
		return float32(half(b)*float64(b[4+i%16]>>(i/16*4)&15) + half(b[2:]))
	}
}

func TestPackedValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, f := range allFormats {
		columns := 64
		if f.BlockColumns() == 1 {
			columns = 67
		}
		rows := source(rng, f, 21, columns)
		m := pack(t, f, 21, columns, 1, rows)
		for r := range rows {
			for c := range columns {
				if got, want := m.At(r, c), sourceValue(f, rows[r], c); got != want {
					t.Fatalf("%v: weight %d,%d is %v, want %v", f, r, c, got, want)
				}
			}
		}
		if got, limit := cpu.PackedBytes(f, 32, 64), 32*f.RowBytes(64); got > limit {
			t.Errorf("%v: packed %d bytes, source %d", f, got, limit)
		}
	}
}

func TestNewMatrixRefuses(t *testing.T) {
	data := aligned(1 << 16)
	for _, c := range []struct {
		name                  string
		f                     cpu.Format
		rows, columns, chunks int
		data                  []byte
	}{
		{"no rows", cpu.F32, 0, 8, 1, data},
		{"no columns", cpu.F32, 8, 0, 1, data},
		{"three chunks", cpu.F32, 8, 12, 3, data},
		{"odd chunk", cpu.BF16, 8, 6, 2, data},
		{"part of a block", cpu.Q8_0, 8, 48, 1, data},
		{"chunk of half a block", cpu.Q4_0, 8, 96, 2, data},
		{"short storage", cpu.F32, 8, 8, 1, data[:64]},
		{"unaligned storage", cpu.F32, 8, 8, 1, data[4:]},
		{"unknown format", cpu.Format(99), 8, 8, 1, data},
	} {
		if _, err := cpu.NewMatrix(c.f, c.rows, c.columns, c.chunks, c.data); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}

const guard = float32(-12345.5)

func guarded(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = guard
	}
	return x
}

// differ returns the first index where the bits differ, or -1.
func differ(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// dotNaive is the chain of numerics bf16.1 over columns [from, to), in numbers of any precision.
func dotNaive(x []float32, m *cpu.Matrix, row, from, to int) float32 {
	exact := func(v float32) *big.Float { return new(big.Float).SetPrec(600).SetFloat64(float64(v)) }
	short := func(v float32) *big.Float { return exact(v).SetMode(big.ToNearestEven).SetPrec(8).SetPrec(600) }
	sum := exact(0)
	for pair := from; pair < to; pair += 2 {
		for column := min(pair+1, to-1); column >= pair; column-- {
			sum = sum.Add(sum, new(big.Float).SetPrec(600).Mul(short(x[column]), exact(m.At(row, column))))
			if sum.SetPrec(24).SetPrec(600); sum.MantExp(nil) < -125 {
				sum = exact(0)
			}
		}
	}
	v, _ := sum.Float32()
	return v
}

// matMulNaive is the definition of MatMul, from At.
func matMulNaive(fma func(a, b, c float32) float32, x []float32, m *cpu.Matrix, row int) float32 {
	var stack []float32
	chunk := m.Columns / m.Chunks
	for c := range m.Chunks {
		sum := float32(0)
		for k := c * chunk; k < (c+1)*chunk && m.Format != cpu.BF16Dot; k++ {
			sum = fma(x[k], m.At(row, k), sum)
		}
		if m.Format == cpu.BF16Dot {
			sum = dotNaive(x, m, row, c*chunk, (c+1)*chunk)
		}
		stack = append(stack, sum)
	}
	for len(stack) > 1 {
		for i := range len(stack) / 2 {
			stack[i] = stack[2*i] + stack[2*i+1]
		}
		stack = stack[:len(stack)/2]
	}
	return stack[0]
}

func TestMatMul(t *testing.T) {
	ref := plainGo(t)
	kernels := append(fast(t), ref)
	rowCounts := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 50}
	for _, f := range allFormats {
		columnCounts := []int{1, 2, 7, 31, 32, 60, 66, 576}
		if f.BlockColumns() == 32 {
			columnCounts = []int{32, 96, 160, 512}
		}
		for ci, columns := range columnCounts {
			for _, chunks := range []int{1, 2, 4, 8} {
				if columns%(chunks*f.BlockColumns()) != 0 || chunks > 1 && columns/chunks%2 != 0 {
					continue
				}
				rng := rand.New(rand.NewPCG(uint64(f), uint64(ci)))
				for _, outputs := range []int{9, 16, 45, 117} {
					if outputs > 45 && columns > 66 {
						continue
					}
					m := pack(t, f, outputs, columns, chunks, source(rng, f, outputs, columns))
					name := fmt.Sprintf("%v %dx%d/%d", f, outputs, columns, chunks)
					checkMatMul(t, name, kernels, m, rng, rowCounts)
				}
			}
		}
	}
}

// TestMatMulBlocks crosses every block boundary of MatMul: of rows, of panels
// and of columns.
func TestMatMulBlocks(t *testing.T) {
	kernels := append(fast(t), plainGo(t))
	rng := rand.New(rand.NewPCG(13, 14))
	for _, f := range allFormats {
		m := pack(t, f, 290, 32, 1, source(rng, f, 290, 32))
		checkMatMul(t, fmt.Sprintf("%v, many rows and panels", f), kernels, m, rng, []int{1, 129, 140})
		for _, chunks := range []int{1, 2} {
			m = pack(t, f, 40, 2*2112, chunks, source(rng, f, 40, 2*2112))
			checkMatMul(t, fmt.Sprintf("%v, many columns in %d", f, chunks), kernels, m, rng, []int{1, 3, 7, 9})
		}
	}
}

// checkMatMul computes the rows once by the last kernel, one at a time, and
// demands its bits from every kernel for the first n of them at once.
func checkMatMul(t *testing.T, name string, kernels []*cpu.Kernels, m *cpu.Matrix, rng *rand.Rand, rowCounts []int) {
	t.Helper()
	const xPad, dstPad = 3, 5
	most := rowCounts[len(rowCounts)-1]
	ref := kernels[len(kernels)-1]
	s := cpu.NewScratch()
	xStride, stride := m.Columns+xPad, m.Rows+dstPad
	x := normals(rng, most*xStride)
	want := guarded(most * stride)
	for r := range most {
		ref.MatMul(cpu.Rows{want[r*stride:], stride, 1}, cpu.Rows{x[r*xStride:], xStride, 1}, m, 0, m.Panels(), s)
	}
	for _, r := range []int{0, most - 1} {
		n := rng.IntN(m.Rows)
		if naive := matMulNaive(cpu.FMA32, x[r*xStride:], m, n); math.Float32bits(naive) != math.Float32bits(want[r*stride+n]) {
			t.Fatalf("%s: row %d output %d is %v, by definition %v", name, r, n, want[r*stride+n], naive)
		}
	}
	for _, k := range kernels {
		for _, rows := range rowCounts {
			if k == ref && rows != 7 {
				continue
			}
			dst := guarded(most * stride)
			cut := rng.IntN(m.Panels() + 1)
			k.MatMul(cpu.Rows{dst, stride, rows}, cpu.Rows{x, xStride, rows}, m, cut, m.Panels(), s)
			k.MatMul(cpu.Rows{dst, stride, rows}, cpu.Rows{x, xStride, rows}, m, 0, cut, s)
			for i := range dst {
				expect := want[i]
				if i >= rows*stride {
					expect = guard
				}
				if math.Float32bits(dst[i]) != math.Float32bits(expect) {
					t.Fatalf("%s %s, %d rows: row %d output %d of %d is %v, want %v",
						k.Name(), name, rows, i/stride, i%stride, m.Rows, dst[i], expect)
				}
			}
		}
	}
}

// The parts of an input give the rows that the whole gives, and touch no others.
func TestPartsOfInputs(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	const outputs, columns = 70, 96
	for _, f := range []cpu.Format{cpu.F32, cpu.BF16, cpu.BF16Dot} {
		m := pack(t, f, outputs, columns, 1, source(rng, f, outputs, columns))
		for _, k := range cpu.Available() {
			for _, rows := range []int{1, 2, 23, 300} {
				x, s, memory := normals(rng, rows*columns), cpu.NewScratch(), aligned(4*k.InputFloats(rows, m))
				var in cpu.Input
				k.Begin(&in, rows, m, unsafe.Slice((*float32)(unsafe.Pointer(&memory[0])), len(memory)/4))
				for r := range rows {
					k.Fill(&in, r, x[r*columns:][:columns])
				}
				want, got := make([]float32, rows*outputs), make([]float32, rows*outputs)
				k.Multiply(cpu.Rows{want, outputs, rows}, &in, m, 0, m.Panels(), s)
				for part := range 3 {
					before := slices.Clone(got)
					x := in.Part(part, 3)
					k.Multiply(cpu.Rows{got, outputs, rows}, &x, m, 0, m.Panels(), s)
					for i := range got {
						if got[i] != before[i] && before[i] != 0 {
							t.Fatalf("%s: part %d of %d rows changes the output %d of another", k.Name(), part, rows, i)
						}
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%v, %s, %d rows: the parts give other bits", f, k.Name(), rows)
				}
			}
		}
	}
}

package cpu_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"lockstep/shard/cpu"
)

// fmaBig is a*b+c rounded once, by exact arithmetic. The result is not zero.
func fmaBig(a, b, c float32) float32 {
	wide := func(v float32) *big.Float { return new(big.Float).SetPrec(700).SetFloat64(float64(v)) }
	sum := wide(a)
	sum.Mul(sum, wide(b))
	sum.Add(sum, wide(c))
	v, _ := sum.Float32()
	return v
}

// hard returns a finite float32 likely to hit ties, cancellation and the ends
// of the range.
func hard(rng *rand.Rand) float32 {
	fraction := rng.Uint32() & (1<<23 - 1)
	switch rng.IntN(4) {
	case 0:
		fraction &= 0x7ff000 << rng.IntN(12) & (1<<23 - 1)
	case 1:
		fraction = 1<<23 - 1 - fraction>>(10+rng.IntN(13))
	}
	exponent := uint32(120 + rng.IntN(16))
	switch rng.IntN(8) {
	case 0:
		exponent = uint32(rng.IntN(255))
	case 1:
		exponent = uint32(rng.IntN(3))
	case 2:
		exponent = uint32(60 + rng.IntN(10)) // products of two are subnormal
	}
	return math.Float32frombits(rng.Uint32()&(1<<31) | exponent<<23 | fraction)
}

// triples returns operands of FMA; a third of them have c near a tie of the
// product.
func triples(rng *rand.Rand, n int) (a, b, c []float32) {
	for range n {
		x, y, z := hard(rng), hard(rng), hard(rng)
		if rng.IntN(3) == 0 {
			// Scale x*y to half a unit of z or so, where double rounding fails.
			x = math.Float32frombits(math.Float32bits(x)&0x807fffff | 127<<23)
			y = float32(math.Ldexp(1+float64(rng.IntN(3)-1)*0x1p-23, rng.IntN(4)-26))
			z = math.Float32frombits(math.Float32bits(z)&0x807fffff | 127<<23)
		}
		a, b, c = append(a, x), append(b, y), append(c, z)
	}
	return a, b, c
}

func TestFMA32(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	a, b, c := triples(rng, 200_000)
	twice := 0
	for i := range a {
		want := fmaBig(a[i], b[i], c[i])
		if want == 0 {
			continue
		}
		got := cpu.FMA32(a[i], b[i], c[i])
		if math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("fma(%x, %x, %x) is %x, want %x", a[i], b[i], c[i], got, want)
		}
		if naive := float32(math.FMA(float64(a[i]), float64(b[i]), float64(c[i]))); naive != want {
			twice++
		}
	}
	if twice == 0 {
		t.Error("no operands on which rounding twice fails: the test is too weak")
	}
	t.Logf("rounding twice fails on %d of %d", twice, len(a))
}

// TestFMA32Hardware compares with the instruction, through a matrix of one
// column: fma(x, w, 0), and of two: fma(x1, w1, x0*1).
func TestFMA32Hardware(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	a, b, c := triples(rng, 16*2000)
	inf := float32(math.Inf(1))
	copy(a, []float32{inf, inf, 1, 0, -0x1p-149, math.MaxFloat32, 0x1p-75, 0x1p-75})
	copy(b, []float32{1, 1, 1, inf, 0.5, 1 + 0x1p-23, 0x1p-75, -0x1p-74})
	copy(c, []float32{1, -inf, -inf, 1, 0, 0, 0, 0x1p-149})
	for _, k := range fast(t) {
		s := cpu.NewScratch()
		w := aligned(cpu.PackedBytes(cpu.F32, 16, 2))
		m, err := cpu.NewMatrix(cpu.F32, 16, 2, 1, w)
		if err != nil {
			t.Fatal(err)
		}
		_ = m
		for i := 0; i < len(a); i += 16 {
			rows := make([][]byte, 16)
			for lane := range rows {
				rows[lane] = floatBytes(c[i+lane], b[i+lane])
			}
			m.PackPanel(0, func(row int) []byte { return rows[row] })
			var got [16]float32
			for lane := range got {
				var out [16]float32
				k.MatMul(cpu.Rows{out[:], 16, 1}, cpu.Rows{[]float32{1, a[i+lane]}, 2, 1}, m, 0, 1, s)
				got[lane] = out[lane]
			}
			for lane, v := range got {
				want := cpu.FMA32(a[i+lane], b[i+lane], cpu.FMA32(1, c[i+lane], 0))
				if math.Float32bits(v) != math.Float32bits(want) && (v == v || want == want) {
					t.Fatalf("%s: fma(%x, %x, %x) is %x, plain Go says %x", k.Name(), a[i+lane], b[i+lane], c[i+lane], v, want)
				}
			}
		}
	}
}

func floatBytes(values ...float32) []byte {
	var out []byte
	for _, v := range values {
		bits := math.Float32bits(v)
		out = append(out, byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24))
	}
	return out
}

// TestHalf checks all float16 through a column of weights.
func TestHalf(t *testing.T) {
	for _, k := range cpu.Available() {
		s := cpu.NewScratch()
		m := pack(t, cpu.F16, 1<<16, 1, 1, func() (rows [][]byte) {
			for i := range 1 << 16 {
				rows = append(rows, []byte{byte(i), byte(i >> 8)})
			}
			return rows
		}())
		got := make([]float32, 1<<16)
		k.MatMul(cpu.Rows{got, 0, 1}, cpu.Rows{[]float32{1}, 0, 1}, m, 0, m.Panels(), s)
		for i, v := range got {
			if i>>10&31 == 31 {
				continue
			}
			want := sourceValue(cpu.F16, []byte{byte(i), byte(i >> 8)}, 0)
			if v != want {
				t.Fatalf("%s: float16 %#04x is %v, want %v", k.Name(), i, v, want)
			}
		}
	}
}

func TestExp(t *testing.T) {
	var x []float32
	for v := float32(-90); v < 90; v += 0.00137 {
		x = append(x, v)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for range 100_000 {
		x = append(x, float32(rng.NormFloat64()*math.Ldexp(1, rng.IntN(30)-24)))
	}
	inf := float32(math.Inf(1))
	x = append(x, 0, float32(math.Copysign(0, -1)), inf, -inf, 88.7228, 88.72284, 88.73, -87.33, -87.34, -1e30, 1e30)
	want := make([]float32, len(x))
	plainGo(t).Exp(want, x)
	worst := 0.0
	for i, v := range x {
		exact := math.Exp(float64(v))
		switch {
		case v < -87.33:
			if want[i] != 0 {
				t.Fatalf("exp(%v) is %v, want 0", v, want[i])
			}
		case v > 88.7228:
			if want[i] != inf {
				t.Fatalf("exp(%v) is %v, want +Inf", v, want[i])
			}
		default:
			ulp := math.Abs(float64(want[i])-exact) / math.Ldexp(1, math.Ilogb(exact)-23)
			if worst = max(worst, ulp); ulp > 2 {
				t.Fatalf("exp(%v) is %v, want %v: %.2f ulp", v, want[i], exact, ulp)
			}
		}
	}
	t.Logf("worst error %.2f ulp", worst)
	for _, k := range fast(t) {
		got := make([]float32, len(x))
		k.Exp(got, x)
		if i := differ(got, want); i >= 0 {
			t.Fatalf("%s: exp(%v) is %v, plain Go says %v", k.Name(), x[i], got[i], want[i])
		}
	}
	nan := []float32{float32(math.NaN())}
	for _, k := range cpu.Available() {
		x := make([]float32, 16)
		for i := range x {
			x[i] = nan[0]
		}
		k.Exp(x, x)
		if x[0] == x[0] || x[15] == x[15] {
			t.Errorf("%s: exp(NaN) is %v", k.Name(), x)
		}
	}
}

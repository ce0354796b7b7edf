package ptx_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

const cases = 20_000 // of an instruction

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func float(bits uint64) float32 { return math.Float32frombits(uint32(bits)) }
func bitsOf(f float32) uint64   { return uint64(math.Float32bits(f)) }

// randomFloat is a float32 of any kind: of any exponent, near 1, subnormal, of few bits, and what is special.
func randomFloat(r *rand.Rand) uint64 {
	bits := uint64(r.Uint32())
	switch r.IntN(8) {
	case 0, 1:
		return bits
	case 2, 3, 4:
		return bits&0x807fffff | uint64(120+r.IntN(16))<<23
	case 5:
		return bits & 0x807fffff
	case 6:
		return bits & 0xfff80000
	}
	special := []uint64{0, 1 << 31, 0x7f800000, 0xff800000, 0x7fc00000, 0x3f800000, 0x7f7fffff, 1, 0x807fffff, 0x00800000}
	return special[r.IntN(len(special))]
}

func list(n int, f func() uint64) []uint64 {
	numbers := make([]uint64, n)
	for i := range numbers {
		numbers[i] = f()
	}
	return numbers
}

// exact has room for every sum of products of float32 numbers.
func exact(f float32) *big.Float { return new(big.Float).SetPrec(700).SetFloat64(float64(f)) }

// rounded is an exact number as float32, once rounded.
func rounded(f *big.Float) float32 {
	v, _ := f.Float32()
	return v
}

func finite(numbers ...float32) bool {
	for _, f := range numbers {
		if math.IsInf(float64(f), 0) || f != f {
			return false
		}
	}
	return true
}

// same compares floats by their bits; one NaN is like the other.
func same(t *testing.T, what string, got uint64, want float32, operands ...float32) {
	t.Helper()
	if g := float(got); got>>32 != 0 || math.Float32bits(g) != math.Float32bits(want) && (g == g || want == want) {
		t.Fatalf("%s of %v: %v (%#x), want %v (%#x)", what, operands, g, got, want, bitsOf(want))
	}
}

// operations are those that round, with their definition where all is finite and the result is not zero; elsewhere IEEE 754's rules for
// float64 say the same as for float32.
var operations = []struct {
	name    string
	defined func(a, b, c float32) *big.Float
	special func(a, b, c float64) float64
}{
	{"add.rn.f32", func(a, b, _ float32) *big.Float { return exact(0).Add(exact(a), exact(b)) },
		func(a, b, _ float64) float64 { return a + b }},
	{"sub.rn.f32", func(a, b, _ float32) *big.Float { return exact(0).Sub(exact(a), exact(b)) },
		func(a, b, _ float64) float64 { return a - b }},
	{"mul.rn.f32", func(a, b, _ float32) *big.Float { return exact(0).Mul(exact(a), exact(b)) },
		func(a, b, _ float64) float64 { return a * b }},
	{"div.rn.f32", func(a, b, _ float32) *big.Float { return exact(0).Quo(exact(a), exact(b)) },
		func(a, b, _ float64) float64 { return a / b }},
	{"fma.rn.f32", func(a, b, c float32) *big.Float { return exact(0).Add(exact(0).Mul(exact(a), exact(b)), exact(c)) }, math.FMA},
}

func TestRounding(t *testing.T) {
	r := random(1)
	for _, op := range operations {
		x := [3][]uint64{}
		for i := range x {
			x[i] = list(cases, func() uint64 { return randomFloat(r) })
		}
		operands := x[:2]
		if op.name == "fma.rn.f32" {
			operands = x[:]
			halfway(r, x)
		}
		for i, got := range apply(t, op.name, operands...) {
			a, b, c := float(x[0][i]), float(x[1][i]), float(x[2][i])
			want := float32(op.special(float64(a), float64(b), float64(c)))
			if finite(a, b) && (finite(c) || len(operands) == 2) && (b != 0 || op.name != "div.rn.f32") {
				if result := op.defined(a, b, c); result.Sign() != 0 {
					want = rounded(result)
				}
			}
			same(t, op.name, got, want, a, b, c)
		}
	}
}

// halfway makes half of the operands products that lie between two floats, to which a number is added that says which is nearer: who
// rounds twice gets them wrong.
func halfway(r *rand.Rand, x [3][]uint64) {
	for i := 0; i < len(x[0]); i += 2 {
		a, b := 1+float32(r.IntN(1<<12))/(1<<12), 1+float32(2*r.IntN(1<<11)+1)/(1<<12)
		scale := math.Ldexp(1, r.IntN(100)-120) // subnormal results too
		x[0][i], x[1][i] = bitsOf(a*float32(scale)), bitsOf(b)
		x[2][i] = bitsOf(float32(math.Ldexp(float64(a)*float64(b)*scale, -24-r.IntN(60)))) ^ uint64(r.IntN(2))<<31
	}
}

// TestFusedIsNotRoundedTwice has cases that a product rounded to float64, and a sum rounded to it, get wrong.
func TestFusedIsNotRoundedTwice(t *testing.T) {
	a, b, c := float32(1+1.0/4096), float32(1+1.0/4096), float32(math.Ldexp(1, -60))
	got := apply(t, "fma.rn.f32", []uint64{bitsOf(a), bitsOf(a)}, []uint64{bitsOf(b), bitsOf(b)}, []uint64{bitsOf(c), bitsOf(-c)})
	same(t, "above the middle", got[0], float32(1+2.0/4096+1.0/(1<<23)), a, b, c)
	same(t, "below the middle", got[1], float32(1+2.0/4096), a, b, -c)
}

func TestRoots(t *testing.T) {
	r := random(2)
	x := list(cases, func() uint64 { return randomFloat(r) })
	roots, inverses := apply(t, "sqrt.rn.f32", x), apply(t, "rcp.rn.f32", x)
	for i := range x {
		a := float(x[i])
		root, inverse := float32(math.Sqrt(float64(a))), float32(1/float64(a))
		if finite(a) && a > 0 {
			root = rounded(exact(0).Sqrt(exact(a)))
		}
		if finite(a) && a != 0 {
			inverse = rounded(exact(0).Quo(exact(1), exact(a)))
		}
		same(t, "sqrt", roots[i], root, a)
		same(t, "rcp", inverses[i], inverse, a)
	}
}

func TestExtremes(t *testing.T) {
	nan, zero := uint64(0x7fc00000), uint64(1)<<31
	a := []uint64{bitsOf(1), nan, bitsOf(2), 0, zero, bitsOf(-1)}
	b := []uint64{bitsOf(2), bitsOf(3), nan, zero, 0, bitsOf(-2)}
	least, most := apply(t, "min.f32", a, b), apply(t, "max.f32", a, b)
	for i, want := range []struct{ least, most uint64 }{{bitsOf(1), bitsOf(2)}, {bitsOf(3), bitsOf(3)}, {bitsOf(2), bitsOf(2)}, {zero, 0},
		{zero, 0}, {bitsOf(-2), bitsOf(-1)}} {
		if least[i] != want.least || most[i] != want.most {
			t.Errorf("of %#x and %#x: %#x and %#x, want %#x and %#x", a[i], b[i], least[i], most[i], want.least, want.most)
		}
	}
}

// nearestBF16 is the one of the two bfloat16 around a finite number that is nearer, of two equally near ones the even.
func nearestBF16(f float32) uint64 {
	value := func(bits uint64) float64 { // an infinity as what would be the next number
		if bits&0x7fff == 0x7f80 {
			return math.Copysign(math.Ldexp(1, 128), float64(float(bits<<16)))
		}
		return float64(float(bits << 16))
	}
	low := bitsOf(f) >> 16
	high := low + 1
	below, above := math.Abs(float64(f)-value(low)), math.Abs(value(high)-float64(f))
	if below < above || below == above && low&1 == 0 {
		return low
	}
	return high
}

func TestConversionsOfFloats(t *testing.T) {
	r := random(3)
	x := list(cases, func() uint64 { return randomFloat(r) })
	for i := 0; i < len(x); i += 4 { // in the middle of two
		x[i] = x[i]&^0xffff | 0x8000
	}
	short, pairs := apply(t, "cvt.rn.bf16.f32", x), apply(t, "cvt.rn.bf16x2.f32", x, x[1:])
	whole, integers := apply(t, "cvt.rni.f32.f32", x), apply(t, "cvt.rzi.s32.f32", x)
	for i := range x {
		a := float(x[i])
		want := uint64(0x7fff)
		if a == a {
			want = nearestBF16(a)
		}
		if math.IsInf(float64(a), 0) {
			want = x[i] >> 16
		}
		if short[i] != want {
			t.Fatalf("bfloat16 of %v (%#x): %#x, want %#x", a, x[i], short[i], want)
		}
		if i+1 < len(x) && pairs[i] != short[i]<<16|short[i+1] {
			t.Fatalf("bfloat16 pair: %#x, want %#x and %#x", pairs[i], short[i], short[i+1])
		}
		same(t, "rni", whole[i], float32(math.RoundToEven(float64(a))), a)
		cut := int64(0)
		if a == a {
			cut = int64(math.Trunc(min(math.MaxInt32, max(math.MinInt32, float64(a)))))
		}
		if integers[i] != uint64(uint32(cut)) {
			t.Fatalf("integer of %v: %#x, want %d", a, integers[i], cut)
		}
	}
}

func TestConversionsToFloats(t *testing.T) {
	r := random(4)
	x := list(cases, func() uint64 { return uint64(r.Uint32() >> r.IntN(31)) })
	signed, unsigned := apply(t, "cvt.rn.f32.s32", x), apply(t, "cvt.rn.f32.u32", x)
	for i, v := range x {
		same(t, "s32", signed[i], rounded(new(big.Float).SetInt64(int64(int32(v)))), float32(int32(v)))
		same(t, "u32", unsigned[i], rounded(new(big.Float).SetInt64(int64(v))), float32(v))
	}
	halves := list(1<<16, func() uint64 { return 0 })
	for i := range halves {
		halves[i] = uint64(i)
	}
	for i, got := range apply(t, "cvt.f32.f16", halves) {
		exponent, fraction := i>>10&31, float64(i&1023)
		want := math.Ldexp(1024+fraction, exponent-25)
		switch {
		case exponent == 0:
			want = math.Ldexp(fraction, -24)
		case exponent == 31 && fraction == 0:
			want = math.Inf(1)
		case exponent == 31:
			want = math.NaN()
		}
		same(t, "f16", got, float32(math.Copysign(want, float64(1-i>>15*2))))
	}
}

// integers are defined by math/big, or by what PTX says of their bits.
func TestIntegers(t *testing.T) {
	r := random(5)
	number := func() uint64 { return uint64((r.Uint32() >> r.IntN(32)) * (1 - uint32(r.IntN(2))*2)) } // of both signs and any size
	x, y, z := list(cases, number), list(cases, number), list(cases, number)
	of := func(v uint64) *big.Int { return big.NewInt(int64(int32(v))) }
	ofUnsigned := func(v uint64) *big.Int { return new(big.Int).SetUint64(v) }
	low := func(v *big.Int) uint64 { return new(big.Int).And(v, big.NewInt(math.MaxUint32)).Uint64() }
	product := func(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }
	wide := func(v *big.Int) uint64 {
		return new(big.Int).And(v, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	}
	for _, op := range []struct {
		name string
		want func(a, b, c uint64) uint64
	}{
		{"mul.lo.s32", func(a, b, _ uint64) uint64 { return low(product(of(a), of(b))) }},
		{"mul.hi.s32", func(a, b, _ uint64) uint64 { return low(new(big.Int).Rsh(product(of(a), of(b)), 32)) }},
		{"mul.hi.u32", func(a, b, _ uint64) uint64 { return low(new(big.Int).Rsh(product(ofUnsigned(a), ofUnsigned(b)), 32)) }},
		{"mul.wide.s32", func(a, b, _ uint64) uint64 { return wide(product(of(a), of(b))) }},
		{"mul.wide.u32", func(a, b, _ uint64) uint64 { return wide(product(ofUnsigned(a), ofUnsigned(b))) }},
		{"mad.lo.s32", func(a, b, c uint64) uint64 { return low(new(big.Int).Add(product(of(a), of(b)), of(c))) }},
		{"add.s32", func(a, b, _ uint64) uint64 { return low(new(big.Int).Add(of(a), of(b))) }},
		{"sub.s32", func(a, b, _ uint64) uint64 { return low(new(big.Int).Sub(of(a), of(b))) }},
		{"min.s32", func(a, b, _ uint64) uint64 { return uint64(uint32(min(int32(a), int32(b)))) }},
		{"max.u32", func(a, b, _ uint64) uint64 { return max(a, b) }},
		{"shl.b32", func(a, b, _ uint64) uint64 { return low(new(big.Int).Lsh(ofUnsigned(a), uint(min(b, 32)))) }},
		{"shr.u32", func(a, b, _ uint64) uint64 { return new(big.Int).Rsh(ofUnsigned(a), uint(min(b, 32))).Uint64() }},
		{"shr.s32", func(a, b, _ uint64) uint64 { return low(new(big.Int).Rsh(of(a), uint(min(b, 32)))) }},
		{"bfe.u32", func(a, b, c uint64) uint64 {
			field := new(big.Int).Rsh(ofUnsigned(a), uint(b&0xff))
			return field.And(field, big.NewInt(1<<min(c&0xff, 32)-1)).Uint64()
		}},
		{"prmt.b32", func(a, b, c uint64) (v uint64) {
			bytes := [8]byte{byte(a), byte(a >> 8), byte(a >> 16), byte(a >> 24), byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)}
			for i := range 4 {
				chosen := bytes[c>>(4*i)&7]
				if c>>(4*i)&8 != 0 { // its sign
					chosen = byte(int8(chosen) >> 7)
				}
				v |= uint64(chosen) << (8 * i)
			}
			return v
		}},
	} {
		operands := [][]uint64{x, y, z}
		if op.name[:3] != "mad" && op.name != "bfe.u32" && op.name != "prmt.b32" {
			operands = operands[:2]
		}
		for i, got := range apply(t, op.name, operands...) {
			if want := op.want(x[i], y[i], z[i]); got != want {
				t.Fatalf("%s of %#x, %#x, %#x: %#x, want %#x", op.name, x[i], y[i], z[i], got, want)
			}
		}
	}
}

// Division cuts off towards zero, and its rest has the sign of what is divided.
func TestDivision(t *testing.T) {
	x := []uint64{7, 0xfffffff9, 7, 0xfffffff9, 0x80000000, 5}
	y := []uint64{2, 2, 0xfffffffe, 0xfffffffe, 0xffffffff, 9}
	quotients, rests := apply(t, "div.s32", x, y), apply(t, "rem.s32", x, y)
	for i, want := range [][2]int32{{3, 1}, {-3, -1}, {-3, 1}, {3, -1}, {math.MinInt32, 0}, {0, 5}} {
		if int32(quotients[i]) != want[0] || int32(rests[i]) != want[1] {
			t.Errorf("%d / %d: %d, %d, want %d", int32(x[i]), int32(y[i]), int32(quotients[i]), int32(rests[i]), want)
		}
	}
}

// Of comparisons with what is no number only those that say so hold.
func TestComparisons(t *testing.T) {
	x, y := []uint64{bitsOf(1), bitsOf(2), bitsOf(1), 0x7fc00000, 0}, []uint64{bitsOf(2), bitsOf(1), bitsOf(1), bitsOf(1), 1 << 31}
	for op, want := range map[string][]uint64{"lt": {1, 0, 0, 0, 0}, "le": {1, 0, 1, 0, 1}, "gt": {0, 1, 0, 0, 0}, "eq": {0, 0, 1, 0, 1},
		"ne": {1, 1, 0, 0, 0}, "neu": {1, 1, 0, 1, 0}, "ltu": {1, 0, 0, 1, 0}, "nan": {0, 0, 0, 1, 0}, "num": {1, 1, 1, 0, 1}} {
		for i, got := range apply(t, "setp."+op+".f32", x, y) {
			if got != want[i] {
				t.Errorf("%v %s %v: %d, want %d", float(x[i]), op, float(y[i]), got, want[i])
			}
		}
	}
	for op, want := range map[string]uint64{"setp.lt.s32": 1, "setp.lt.u32": 0, "setp.ge.u32": 1} {
		if got := apply(t, op, []uint64{0xffffffff}, []uint64{1}); got[0] != want {
			t.Errorf("%s of -1 and 1: %d, want %d", op, got[0], want)
		}
	}
}

package ptx

import (
	"fmt"
	"math"
	"math/bits"

	"lockstep/shard/half"
)

// What instructions of one, two and three operands do, by their names.
var (
	ofOne   = map[string]func(a uint64) uint64{}
	ofTwo   = map[string]func(a, b uint64) uint64{}
	ofThree = map[string]func(a, b, c uint64) uint64{}
)

func init() {
	for _, size := range []int{16, 32, 64} {
		integers(size)
		comparisons(fmt.Sprintf("u%d", size), func(a, b uint64) order { return compare(masked(a, size), masked(b, size)) })
		comparisons(fmt.Sprintf("s%d", size), func(a, b uint64) order { return compare(widened(a, size), widened(b, size)) })
		comparisons(fmt.Sprintf("b%d", size), func(a, b uint64) order { return compare(masked(a, size), masked(b, size)) })
	}
	comparisons("f32", func(a, b uint64) order { return compareFloats(number(a), number(b)) })
	predicates()
	floats()
	conversions()
}

// masked are the bits of a number of so many, widened the signed number that they are.
func masked(v uint64, size int) uint64 { return v & (math.MaxUint64 >> (64 - size)) }
func widened(v uint64, size int) int64 { return int64(v<<(64-size)) >> (64 - size) }

func number(v uint64) float32 { return math.Float32frombits(uint32(v)) }
func bitsOf(f float32) uint64 { return uint64(math.Float32bits(f)) }
func choice(a, b, p uint64) uint64 {
	if p != 0 {
		return a
	}
	return b
}

// integers are the operations on integers of so many bits.
func integers(size int) {
	mask := func(v uint64) uint64 { return masked(v, size) }
	b := fmt.Sprintf("b%d", size)
	ofOne["not."+b] = func(a uint64) uint64 { return mask(^a) }
	ofOne["mov."+b] = mask
	ofTwo["and."+b] = func(a, b uint64) uint64 { return a & b }
	ofTwo["or."+b] = func(a, b uint64) uint64 { return a | b }
	ofTwo["xor."+b] = func(a, b uint64) uint64 { return a ^ b }
	ofTwo["shl."+b] = func(a, b uint64) uint64 { return mask(a << uint32(b)) }
	ofThree["selp."+b] = choice
	for _, sign := range []string{"u", "s"} {
		t := fmt.Sprintf("%s%d", sign, size)
		value := func(v uint64) int64 { return int64(mask(v)) } // of 64 bits those that are compared or divided are small
		if sign == "s" {
			value = func(v uint64) int64 { return widened(v, size) }
		}
		ofOne["mov."+t] = mask
		ofOne["neg."+t] = func(a uint64) uint64 { return mask(-a) }
		ofOne["abs."+t] = func(a uint64) uint64 { return mask(uint64(max(value(a), -value(a)))) }
		ofTwo["add."+t] = func(a, b uint64) uint64 { return mask(a + b) }
		ofTwo["sub."+t] = func(a, b uint64) uint64 { return mask(a - b) }
		ofTwo["mul.lo."+t] = func(a, b uint64) uint64 { return mask(a * b) }
		ofTwo["mul.wide."+t] = func(a, b uint64) uint64 { return uint64(value(a) * value(b)) }
		ofThree["mad.lo."+t] = func(a, b, c uint64) uint64 { return mask(a*b + c) }
		ofThree["mad.wide."+t] = func(a, b, c uint64) uint64 { return uint64(value(a)*value(b)) + c }
		ofTwo["div."+t] = func(a, b uint64) uint64 { return mask(uint64(value(a) / divisor(value(b)))) }
		ofTwo["rem."+t] = func(a, b uint64) uint64 { return mask(uint64(value(a) % divisor(value(b)))) }
		ofTwo["min."+t] = func(a, b uint64) uint64 { return mask(uint64(min(value(a), value(b)))) }
		ofTwo["max."+t] = func(a, b uint64) uint64 { return mask(uint64(max(value(a), value(b)))) }
		ofTwo["shr."+t] = func(a, b uint64) uint64 { return mask(uint64(value(a) >> min(uint32(b), 63))) }
		ofThree["selp."+t] = choice
	}
	if size == 32 {
		ofTwo["mul.hi.u32"] = func(a, b uint64) uint64 { return masked(a, 32) * masked(b, 32) >> 32 }
		ofTwo["mul.hi.s32"] = func(a, b uint64) uint64 { return mask(uint64(widened(a, 32) * widened(b, 32) >> 32)) }
		ofThree["bfe.u32"] = func(a, b, c uint64) uint64 { return mask(a) >> (b & 0xff) & (1<<min(c&0xff, 32) - 1) }
		ofTwo["shr.b32"] = ofTwo["shr.u32"]
		ofThree["prmt.b32"] = permute
		ofOne["popc.b32"] = func(a uint64) uint64 { return uint64(bits.OnesCount32(uint32(a))) }
		ofOne["clz.b32"] = func(a uint64) uint64 { return uint64(bits.LeadingZeros32(uint32(a))) }
	}
	if size == 64 {
		ofTwo["shr.b64"] = func(a, b uint64) uint64 { return a >> uint32(b) }
		ofTwo["shr.u64"] = ofTwo["shr.b64"]
		for _, op := range []string{"cvta.shared.u64", "cvta.to.shared.u64", "cvta.to.global.u64", "cvta.global.u64"} {
			ofOne[op] = mask
		}
	}
}

// divisor refuses division by zero, whose result a card does not define.
func divisor(v int64) int64 {
	if v == 0 {
		panic(fault("division by zero"))
	}
	return v
}

// permute is prmt: each nibble of the selector names a byte of two numbers, or, with its highest bit, that byte's sign.
func permute(a, b, selector uint64) (result uint64) {
	both := masked(a, 32) | b<<32
	for i := range 4 {
		choice := selector >> (4 * i) & 15
		v := both >> (8 * (choice & 7)) & 0xff
		if choice&8 != 0 {
			v = v >> 7 * 0xff
		}
		result |= v << (8 * i)
	}
	return result
}

// order is the result of a comparison.
type order int8

const (
	less order = iota - 1
	equal
	greater
	unordered // one is no number
)

func compare[T int64 | uint64](a, b T) order {
	switch {
	case a < b:
		return less
	case a > b:
		return greater
	}
	return equal
}

func compareFloats(a, b float32) order {
	switch {
	case a < b:
		return less
	case a > b:
		return greater
	case a == b:
		return equal
	}
	return unordered
}

// comparisons are setp of a type, and what it gives joined with another predicate.
func comparisons(t string, compared func(a, b uint64) order) {
	holds := map[string]func(o order) bool{
		"eq": func(o order) bool { return o == equal },
		"ne": func(o order) bool { return o == less || o == greater },
		"lt": func(o order) bool { return o == less },
		"le": func(o order) bool { return o == less || o == equal },
		"gt": func(o order) bool { return o == greater },
		"ge": func(o order) bool { return o == greater || o == equal },
	}
	for name, hold := range holds {
		ofTwo["setp."+name+"."+t] = func(a, b uint64) uint64 { return truth(hold(compared(a, b))) }
		ofTwo["setp."+name+"u."+t] = func(a, b uint64) uint64 {
			o := compared(a, b)
			return truth(o == unordered || hold(o))
		}
		ofThree["setp."+name+".and."+t] = func(a, b, c uint64) uint64 { return truth(hold(compared(a, b)) && c != 0) }
		ofThree["setp."+name+".or."+t] = func(a, b, c uint64) uint64 { return truth(hold(compared(a, b)) || c != 0) }
	}
	ofTwo["setp.nan."+t] = func(a, b uint64) uint64 { return truth(compared(a, b) == unordered) }
	ofTwo["setp.num."+t] = func(a, b uint64) uint64 { return truth(compared(a, b) != unordered) }
}

func truth(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

func predicates() {
	ofOne["mov.pred"] = func(a uint64) uint64 { return a & 1 }
	ofOne["not.pred"] = func(a uint64) uint64 { return ^a & 1 }
	ofTwo["and.pred"] = func(a, b uint64) uint64 { return a & b & 1 }
	ofTwo["or.pred"] = func(a, b uint64) uint64 { return (a | b) & 1 }
	ofTwo["xor.pred"] = func(a, b uint64) uint64 { return (a ^ b) & 1 }
}

// floats are the operations on float32 that round as IEEE 754 says, or need not round.
func floats() {
	ofOne["mov.f32"] = func(a uint64) uint64 { return masked(a, 32) }
	ofOne["neg.f32"] = func(a uint64) uint64 { return a ^ 1<<31 }
	ofOne["abs.f32"] = func(a uint64) uint64 { return a &^ (1 << 31) }
	ofOne["rcp.rn.f32"] = func(a uint64) uint64 { return bitsOf(1 / number(a)) }
	ofOne["sqrt.rn.f32"] = func(a uint64) uint64 { return bitsOf(float32(math.Sqrt(float64(number(a))))) }
	ofTwo["add.rn.f32"] = func(a, b uint64) uint64 { return bitsOf(number(a) + number(b)) }
	ofTwo["sub.rn.f32"] = func(a, b uint64) uint64 { return bitsOf(number(a) - number(b)) }
	ofTwo["mul.rn.f32"] = func(a, b uint64) uint64 { return bitsOf(number(a) * number(b)) }
	ofTwo["div.rn.f32"] = func(a, b uint64) uint64 { return bitsOf(number(a) / number(b)) }
	ofTwo["min.f32"] = func(a, b uint64) uint64 { return extreme(a, b, less) }
	ofTwo["max.f32"] = func(a, b uint64) uint64 { return extreme(a, b, greater) }
	ofThree["fma.rn.f32"] = func(a, b, c uint64) uint64 { return bitsOf(fma(number(a), number(b), number(c))) }
	ofThree["selp.f32"] = choice
}

// extreme is the number of two that is less or greater; of a number and a NaN the number, and -0 is less than +0.
func extreme(a, b uint64, wanted order) uint64 {
	switch compared := compareFloats(number(a), number(b)); {
	case compared == wanted:
		return a
	case compared == equal && (a>>31 == 1) == (wanted == less):
		return a
	case compared == unordered && number(a) == number(a):
		return a
	}
	return b
}

// fma rounds a*b+c once: the sum in float64 is rounded to odd before it becomes float32
// (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008).
func fma(a, b, c float32) float32 {
	p, z := float64(a)*float64(b), float64(c)
	sum := p + z
	if math.IsInf(sum, 0) || sum != sum {
		return float32(sum)
	}
	back := sum - p
	if e := (p - (sum - back)) + (z - back); e != 0 && math.Float64bits(sum)&1 == 0 {
		if (e > 0) == (sum > 0) {
			sum = math.Float64frombits(math.Float64bits(sum) + 1)
		} else {
			sum = math.Float64frombits(math.Float64bits(sum) - 1)
		}
	}
	return float32(sum)
}

func conversions() {
	for _, to := range []int{8, 16, 32, 64} {
		for _, from := range []int{8, 16, 32, 64} {
			for _, sign := range []string{"u", "s"} {
				ofOne[fmt.Sprintf("cvt.%s%d.u%d", sign, to, from)] = func(a uint64) uint64 { return masked(masked(a, from), to) }
				ofOne[fmt.Sprintf("cvt.%s%d.s%d", sign, to, from)] = func(a uint64) uint64 { return masked(uint64(widened(a, from)), to) }
			}
		}
	}
	for _, from := range []int{8, 16, 32} {
		ofOne[fmt.Sprintf("cvt.rn.f32.s%d", from)] = func(a uint64) uint64 { return bitsOf(float32(widened(a, from))) }
		ofOne[fmt.Sprintf("cvt.rn.f32.u%d", from)] = func(a uint64) uint64 { return bitsOf(float32(masked(a, from))) }
	}
	ofOne["cvt.rni.f32.f32"] = func(a uint64) uint64 { return bitsOf(float32(math.RoundToEven(float64(number(a))))) }
	ofOne["cvt.rzi.s32.f32"] = func(a uint64) uint64 {
		f := float64(number(a))
		if f != f {
			return 0
		}
		return masked(uint64(int64(max(math.MinInt32, min(math.MaxInt32, f)))), 32)
	}
	ofOne["cvt.f32.f16"] = func(a uint64) uint64 { return bitsOf(half.Float32(uint16(a))) }
	ofOne["cvt.rn.bf16.f32"] = func(a uint64) uint64 { return roundBF16(a) }
	ofTwo["cvt.rn.bf16x2.f32"] = func(a, b uint64) uint64 { return roundBF16(a)<<16 | roundBF16(b) }
}

// roundBF16 rounds to the nearest bfloat16, of two equally near ones the even.
func roundBF16(a uint64) uint64 {
	if f := number(a); f != f {
		return 0x7fff
	}
	return (a + 0x7fff + a>>16&1) >> 16 & 0xffff
}

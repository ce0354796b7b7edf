package sample

import "math"

// expSteps is how many powers of two from 1 to 2 are tabled.
const (
	expShift = 6
	expSteps = 1 << expShift
)

// powers[i] holds the bits of 2^(i/expSteps).
var powers = func() (bits [expSteps]uint64) {
	for i := range bits {
		x, term, sum := float64(i)*(math.Ln2/expSteps), 1.0, 1.0
		for n := 1.0; n < 25; n++ {
			term = float64(term * (x / n))
			sum += term
		}
		bits[i] = math.Float64bits(sum)
	}
	return bits
}()

// exp returns e^x for x <= 0 with a relative error below 1e-10, and 0 for NaN and below -700. With x = k ln 2 / expSteps + r
// it is the tabled power of two times a cubic in r, which is at most ln 2 / (2 expSteps).
func exp(x float64) float64 {
	const round = 3 << 51 // a small number that is added to it is rounded to an integer, which stands in the low bits
	if !(x > -700) {
		return 0
	}
	shifted := float64(x*(expSteps/math.Ln2)) + round
	k := int64(math.Float64bits(shifted)<<13) >> 13
	r := x - float64((shifted-round)*(math.Ln2/expSteps))
	cubic := 1 + float64(r*(1+float64(r*(0.5+float64(r*(1.0/6))))))
	return float64(math.Float64frombits(powers[k&(expSteps-1)]+uint64(k>>expShift)<<52) * cubic)
}

// log returns the natural logarithm of a positive number to the last bits: with x = m 2^e and s = (m-1)/(m+1),
// log m = 2 (s + s^3/3 + s^5/5 + ...). It is exactly 0 at 1.
func log(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	s := (m - 1) / (m + 1)
	square, sum := s*s, 0.0
	for n := 23.0; n > 0; n -= 2 {
		sum = float64(sum*square) + 1/n
	}
	return float64(2*s*sum) + float64(float64(e)*math.Ln2)
}

// power returns base^exponent by squaring; the exponent is not negative.
func power(base float64, exponent int) float64 {
	product := 1.0
	for ; exponent > 0; exponent /= 2 {
		if exponent%2 == 1 {
			product = float64(product * base)
		}
		base = float64(base * base)
	}
	return product
}

package cpu

import "math"

// fma32 returns a*b+c rounded once to float32, like the FMA instruction.
//
// The product is exact in float64, so the sum is the true value rounded to 53
// bits. Rounding that again to 24 bits differs from one rounding only if the
// sum landed exactly on a tie of float32: ties are numbers of float64, and
// rounding does not move a value across them. Below the normal range the ties
// lie elsewhere, so there the slow path decides.
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	s := p + float64(c)
	bits := math.Float64bits(s)
	if bits&(1<<29-1) == 1<<28 || bits&(0x7ff<<52) < (1023-126)<<52 {
		return fmaOdd(p, float64(c), s)
	}
	return float32(s)
}

// fmaOdd rounds p+c to float32 once, where s is the sum rounded to float64. It
// rounds the sum to odd first: the error of s (Knuth's TwoSum) tells on which
// side of s the true value lies, and an even s is moved to that neighbour.
func fmaOdd(p, c, s float64) float32 {
	if s == 0 || s-s != 0 { // zero is exact; infinities and NaNs pass
		return float32(s)
	}
	back := s - p
	err := (p - (s - back)) + (c - back)
	if bits := math.Float64bits(s); err != 0 && bits&1 == 0 {
		if (err > 0) == (s > 0) {
			bits++
		} else {
			bits--
		}
		s = math.Float64frombits(bits)
	}
	return float32(s)
}

// The constants of exp, shared with the assembly through its generator's copy;
// the tests compare both paths bit for bit.
const (
	expLow   = -87.33  // below, the result is 0: it would not be normal
	expHigh  = 88.7228 // above, the result is +Inf
	expLog2e = 1.44269504088896341
	expMagic = 0x1.8p23 // adding it rounds to an integer
	expLn2Hi = 0.693359375
	expLn2Lo = -2.12194440e-4
	expC0    = 1.9875691500e-4
	expC1    = 1.3981999507e-3
	expC2    = 8.3334519073e-3
	expC3    = 4.1665795894e-2
	expC4    = 1.6666665459e-1
	expC5    = 5.0000001201e-1
)

// exp32 is e^x within 2 units in the last place, 0 below expLow, +Inf above
// expHigh. It splits x into n*ln 2 + r, |r| <= ln(2)/2, evaluates a polynomial
// in r (the one of Cephes) and adds n to the exponent bits.
func exp32(x float32) float32 {
	if x < expLow {
		return 0
	}
	if x > expHigh {
		return float32(math.Inf(1))
	}
	t := fma32(x, expLog2e, expMagic)
	n := t - expMagic
	r := fma32(n, -expLn2Hi, x)
	r = fma32(n, -expLn2Lo, r)
	p := fma32(expC0, r, expC1)
	p = fma32(p, r, expC2)
	p = fma32(p, r, expC3)
	p = fma32(p, r, expC4)
	p = fma32(p, r, expC5)
	p = fma32(p, float32(r*r), r) + 1
	return math.Float32frombits(math.Float32bits(p) + math.Float32bits(t)<<23)
}

// silu32 is x/(1+e^-x).
func silu32(x float32) float32 { return x / (1 + exp32(-x)) }

// sumLanes adds 16 virtual lanes: 8 apart, then 4, 2 and 1.
func sumLanes(l *[lanes]float32) float32 {
	even := ((l[0] + l[8]) + (l[4] + l[12])) + ((l[2] + l[10]) + (l[6] + l[14]))
	odd := ((l[1] + l[9]) + (l[5] + l[13])) + ((l[3] + l[11]) + (l[7] + l[15]))
	return even + odd
}

// maxLanes returns the largest of 16 lanes, none of which is NaN.
func maxLanes(l *[lanes]float32) float32 {
	a, b := max(l[0], l[1], l[2], l[3]), max(l[4], l[5], l[6], l[7])
	c, d := max(l[8], l[9], l[10], l[11]), max(l[12], l[13], l[14], l[15])
	return max(a, b, c, d)
}

// The constants of GELU by tanh: -2 sqrt(2/pi), and that times 0.044715.
const (
	geluLinear = -1.5957691216057308
	geluCubic  = -0.07135481282671037
)

// gelu32 is x / (1 + e^(x (geluLinear + geluCubic x^2))).
func gelu32(x float32) float32 {
	return x / (1 + exp32(x*fma32(float32(x*x), geluCubic, geluLinear)))
}

// The polynomials of erf32, from Cephes: erf(x) = x P(x^2) up to 1, and erfc(x) = e^(-x^2)/x Q(1/x^2) from there to 2, and R
// beyond.
var (
	erfP = [...]float32{7.853861353153693e-5, -8.010193625184903e-4, 5.188327685732524e-3, -2.685381193529856e-2, 1.128358514861418e-1,
		-3.761262582423300e-1, 1.128379165726710}
	erfQ = [...]float32{2.326819970068386e-2, -1.387039388740657e-1, 3.687424674597105e-1, -5.824733027278666e-1, 6.210004621745983e-1,
		-4.944515323274145e-1, 3.404879937665872e-1, -2.741127028184656e-1, 5.638259427386472e-1}
	erfR = [...]float32{-1.047766399936249e+1, 1.297719955372516e+1, -7.495518717768503, 2.921019019210786, -1.015265279202700,
		4.218463358204948e-1, -2.820767439740514e-1, 5.641895067754075e-1}
)

// erf32 is the error function within a few units in the last place.
func erf32(x float32) float32 {
	size := float32(math.Abs(float64(x)))
	if !(size > 1) {
		return x * polynomial(erfP[:], float32(x*x))
	}
	if size > 9 { // also where 1/x^2 would vanish
		return float32(math.Copysign(1, float64(x)))
	}
	inverse := 1 / size
	coefficients := erfQ[:]
	if size >= 2 {
		coefficients = erfR[:]
	}
	complement := exp32(-float32(size*size)) * float32(inverse*polynomial(coefficients, float32(inverse*inverse)))
	return float32(math.Copysign(float64(1-complement), float64(x)))
}

// polynomial has the highest coefficient first.
func polynomial(coefficients []float32, x float32) float32 {
	sum := coefficients[0]
	for _, c := range coefficients[1:] {
		sum = fma32(sum, x, c)
	}
	return sum
}

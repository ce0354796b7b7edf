package cpu

import (
	"math"
	"slices"
)

// whole returns how many of n elements the vector primitives take.
func whole(n int) int { return n &^ (lanes - 1) }

// RMSNorm normalises one row: dst[i] = (x[i]*inv)*weight[i] with both products
// rounded, inv = 1/sqrt(mean(x^2)+eps). The squares are summed by FMA in 16
// virtual lanes. dst and weight are as long as x; dst may be x.
func (k *Kernels) RMSNorm(dst, x, weight []float32, eps float32) {
	if len(x) == 0 {
		return
	}
	n := whole(len(x))
	dst, weight = dst[:len(x)], weight[:len(x)]
	sums := k.squares(&x[0], n)
	for i, v := range x[n:] {
		sums[i] = fma32(v, v, sums[i])
	}
	mean := sumLanes(&sums) / float32(len(x))
	inv := 1 / float32(math.Sqrt(float64(mean+eps)))
	k.scale(&dst[0], &x[0], &weight[0], n, inv)
	for i := n; i < len(x); i++ {
		dst[i] = float32(x[i]*inv) * weight[i]
	}
}

// SiLUMul sets dst[i] to silu(gate[i])*up[i], silu(x) = x/(1+exp(-x)), every
// operation rounded. gate and up are as long as dst; dst may be either.
func (k *Kernels) SiLUMul(dst, gate, up []float32) {
	if len(dst) == 0 {
		return
	}
	n := whole(len(dst))
	gate, up = gate[:len(dst)], up[:len(dst)]
	k.siluMul(&dst[0], &gate[0], &up[0], n)
	for i := n; i < len(dst); i++ {
		dst[i] = silu32(gate[i]) * up[i]
	}
}

// Add sets dst[i] to a[i]+b[i]. a and b are as long as dst; dst may be either.
func (k *Kernels) Add(dst, a, b []float32) {
	if len(dst) == 0 {
		return
	}
	n := whole(len(dst))
	a, b = a[:len(dst)], b[:len(dst)]
	k.add(&dst[0], &a[0], &b[0], n)
	for i := n; i < len(dst); i++ {
		dst[i] = a[i] + b[i]
	}
}

// Exp sets dst[i] to the exponential of x[i], see exp32. dst may be x.
func (k *Kernels) Exp(dst, x []float32) {
	if len(dst) == 0 {
		return
	}
	n := whole(len(dst))
	x = x[:len(dst)]
	k.exp(&dst[0], &x[0], n)
	for i := n; i < len(dst); i++ {
		dst[i] = exp32(x[i])
	}
}

// RoPE rotates one head in place: with half = len(cos), x[i] and x[i+half]
// become x[i]*cos[i] - x[i+half]*sin[i] and x[i+half]*cos[i] + x[i]*sin[i],
// each product rounded before the sum. len(x) is 2*len(cos), and sin is as
// long as cos.
func (k *Kernels) RoPE(x []float32, cos, sin []float32) {
	half := len(cos)
	if half == 0 {
		return
	}
	n := whole(half)
	x, sin = x[:2*half], sin[:half]
	k.rotate(&x[0], &x[half], &cos[0], &sin[0], n)
	for i := n; i < half; i++ {
		a, b := x[i], x[i+half]
		x[i] = float32(a*cos[i]) - float32(b*sin[i])
		x[i+half] = float32(b*cos[i]) + float32(a*sin[i])
	}
}

// GELUMul sets dst[i] to gelu(gate[i])*up[i], with the approximation of GELU by tanh (https://arxiv.org/abs/1606.08415):
// gelu(x) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3), every operation rounded but for the sum in u, which is
// fused. gate and up are as long as dst; dst may be either.
func (k *Kernels) GELUMul(dst, gate, up []float32) {
	if len(dst) == 0 {
		return
	}
	n := whole(len(dst))
	gate, up = gate[:len(dst)], up[:len(dst)]
	k.geluMul(&dst[0], &gate[0], &up[0], n)
	for i := n; i < len(dst); i++ {
		dst[i] = gelu32(gate[i]) * up[i]
	}
}

// SiLU sets x[i] to silu(x[i]), and GELU to gelu(x[i]), as SiLUMul and GELUMul have them.
func (k *Kernels) SiLU(x []float32) { withoutGate(x, k.SiLUMul) }
func (k *Kernels) GELU(x []float32) { withoutGate(x, k.GELUMul) }

// withoutGate lets all through.
func withoutGate(x []float32, activation func(dst, gate, up []float32)) {
	for ; len(x) > 0; x = x[min(len(x), len(ones)):] {
		part := x[:min(len(x), len(ones))]
		activation(part, part, ones[:len(part)])
	}
}

// GELUErf sets x[i] to x[i]/2 * (1 + erf(x[i]/sqrt(2))), GELU as it is defined.
func (k *Kernels) GELUErf(x []float32) {
	for i, v := range x {
		x[i] = float32(0.5*v) * (1 + erf32(float32(v*math.Sqrt2/2)))
	}
}

// SoftCap sets x[i] to limit * tanh(x[i]/limit), every operation rounded (https://arxiv.org/abs/2408.00118, 2).
func (k *Kernels) SoftCap(x []float32, limit float32) {
	var e [lanes]float32
	for ; len(x) > 0; x = x[min(len(x), lanes):] {
		part := x[:min(len(x), lanes)]
		for i, v := range part {
			part[i] = v / limit
			e[i] = -2 * float32(math.Abs(float64(part[i])))
		}
		k.Exp(e[:len(part)], e[:len(part)])
		for i, v := range part {
			tanh := (1 - e[i]) / (1 + e[i])
			part[i] = limit * float32(math.Copysign(float64(tanh), float64(v)))
		}
	}
}

// LayerNorm normalises one row (https://arxiv.org/abs/1607.06450): dst[i] = ((x[i]-mean)*inv)*weight[i] + bias[i], every
// operation rounded, inv = 1/sqrt(mean((x-mean)^2)+eps). Both sums have 16 virtual lanes; the squares are summed by FMA.
// bias may be nil. All are as long as x; dst may be x.
func (k *Kernels) LayerNorm(dst, x, weight, bias []float32, eps float32) {
	if len(x) == 0 {
		return
	}
	dst = dst[:len(x)]
	var sums [lanes]float32
	for i, v := range x {
		sums[i%lanes] += v
	}
	mean := sumLanes(&sums) / float32(len(x))
	for i, v := range x {
		dst[i] = v - mean
	}
	k.RMSNorm(dst, dst, weight, eps)
	if bias != nil {
		k.Add(dst, dst, bias)
	}
}

// bestColumns is how many numbers ExpSum adds in float32.
const bestColumns = 1024

// Largest returns the largest number of a row, NaN not counted, and the first place where it is. Without any it is (0, -Inf).
func (k *Kernels) Largest(x []float32) (at int, top float32) {
	top = float32(math.Inf(-1))
	for from := 0; from < len(x); from += bestColumns {
		part := x[from:min(from+bestColumns, len(x))]
		if n := whole(len(part)); n > 0 {
			lanes := k.largest(&part[0], n)
			if slices.Max(lanes[:]) > top {
				for i, v := range part[:n] {
					if v > top {
						at, top = from+i, v
					}
				}
			}
		}
		for i, v := range part[whole(len(part)):] {
			if v > top {
				at, top = from+whole(len(part))+i, v
			}
		}
	}
	return at, top
}

// ExpSum returns the sum of exp(x - top) over a row, of which top is the largest number: exp is exp32, sums of bestColumns numbers
// have 16 virtual lanes, and those are added in float64 in order.
func (k *Kernels) ExpSum(x []float32, top float32) (sum float64) {
	for from := 0; from < len(x); from += bestColumns {
		part := x[from:min(from+bestColumns, len(x))]
		var sums [lanes]float32
		n := whole(len(part))
		if n > 0 {
			sums = k.expSum(&part[0], n, top)
		}
		for i, v := range part[n:] {
			sums[i] += exp32(v - top)
		}
		sum += float64(sumLanes(&sums))
	}
	return sum
}

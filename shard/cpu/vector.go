package cpu

import "math"

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

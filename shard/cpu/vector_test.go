package cpu_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/shard/cpu"
)

var lengths = []int{0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 100, 576}

// vectorCases are the operations over rows: each writes its result to dst, of
// which n elements are its own.
var vectorCases = []struct {
	name string
	run  func(k *cpu.Kernels, dst, a, b []float32)
}{
	{"RMSNorm", func(k *cpu.Kernels, dst, a, b []float32) { k.RMSNorm(dst, a, b, 1e-5) }},
	{"RMSNorm in place", func(k *cpu.Kernels, dst, a, b []float32) { copy(dst, a); k.RMSNorm(dst, dst, b, 1e-5) }},
	{"SiLUMul", func(k *cpu.Kernels, dst, a, b []float32) { k.SiLUMul(dst, a, b) }},
	{"SiLUMul in place", func(k *cpu.Kernels, dst, a, b []float32) { copy(dst, a); k.SiLUMul(dst, dst, b) }},
	{"GELUMul", func(k *cpu.Kernels, dst, a, b []float32) { k.GELUMul(dst, a, b) }},
	{"GELUMul in place", func(k *cpu.Kernels, dst, a, b []float32) { copy(dst, a); k.GELUMul(dst, dst, b) }},
	{"GELU", func(k *cpu.Kernels, dst, a, _ []float32) { copy(dst, a); k.GELU(dst) }},
	{"GELUErf", func(k *cpu.Kernels, dst, a, _ []float32) { copy(dst, a); k.GELUErf(dst) }},
	{"SoftCap", func(k *cpu.Kernels, dst, a, _ []float32) { copy(dst, a); k.SoftCap(dst, 1.5) }},
	{"LayerNorm", func(k *cpu.Kernels, dst, a, b []float32) { k.LayerNorm(dst, a, b, b, 1e-5) }},
	{"LayerNorm in place, no bias", func(k *cpu.Kernels, dst, a, b []float32) { copy(dst, a); k.LayerNorm(dst, dst, b, nil, 1e-5) }},
	{"Add", func(k *cpu.Kernels, dst, a, b []float32) { k.Add(dst, a, b) }},
	{"Add in place", func(k *cpu.Kernels, dst, a, b []float32) { copy(dst, b); k.Add(dst, a, dst) }},
	{"Exp", func(k *cpu.Kernels, dst, a, _ []float32) { k.Exp(dst, a) }},
	{"RoPE", func(k *cpu.Kernels, dst, a, b []float32) {
		copy(dst, a)
		half := len(dst) / 2
		k.RoPE(dst[:2*half], b[:half], b[half:2*half])
	}},
}

func TestVectors(t *testing.T) {
	ref := plainGo(t)
	rng := rand.New(rand.NewPCG(9, 10))
	for _, c := range vectorCases {
		for _, n := range lengths {
			a, b := normals(rng, n+1)[1:], normals(rng, n+3)[3:]
			want := guarded(n + 16)
			c.run(ref, want[:n:n], a, b)
			for _, k := range fast(t) {
				got := guarded(n + 16)
				c.run(k, got[:n:n], a, b)
				if i := differ(got, want); i >= 0 {
					t.Fatalf("%s %s of %d: element %d is %v, want %v", k.Name(), c.name, n, i, got[i], want[i])
				}
			}
		}
	}
}

// TestVectorValues compares plain Go with the formulas in float64.
func TestVectorValues(t *testing.T) {
	k := plainGo(t)
	rng := rand.New(rand.NewPCG(11, 12))
	const n = 100
	a, b, got := normals(rng, n), normals(rng, n), make([]float32, n)
	near := func(name string, want func(i int) float64) {
		t.Helper()
		for i := range got {
			if w := want(i); math.Abs(float64(got[i])-w) > 1e-6*(1+math.Abs(w)) {
				t.Fatalf("%s: element %d is %v, want %v", name, i, got[i], w)
			}
		}
	}
	k.RMSNorm(got, a, b, 1e-5)
	squares := 0.0
	for _, v := range a {
		squares += float64(v) * float64(v)
	}
	near("RMSNorm", func(i int) float64 { return float64(a[i]) / math.Sqrt(squares/n+1e-5) * float64(b[i]) })
	k.SiLUMul(got, a, b)
	near("SiLUMul", func(i int) float64 { return float64(a[i]) / (1 + math.Exp(-float64(a[i]))) * float64(b[i]) })
	gelu := func(x float64) float64 {
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	k.GELUMul(got, a, b)
	near("GELUMul", func(i int) float64 { return gelu(float64(a[i])) * float64(b[i]) })
	copy(got, a)
	k.GELU(got)
	near("GELU", func(i int) float64 { return gelu(float64(a[i])) })
	copy(got, a)
	k.GELUErf(got)
	near("GELUErf", func(i int) float64 { return 0.5 * float64(a[i]) * (1 + math.Erf(float64(a[i])/math.Sqrt2)) })
	copy(got, a)
	k.SoftCap(got, 1.5)
	near("SoftCap", func(i int) float64 { return 1.5 * math.Tanh(float64(a[i])/1.5) })
	k.LayerNorm(got, a, b, a, 1e-5)
	mean, variance := 0.0, 0.0
	for _, v := range a {
		mean += float64(v) / n
	}
	for _, v := range a {
		variance += (float64(v) - mean) * (float64(v) - mean) / n
	}
	near("LayerNorm", func(i int) float64 {
		return (float64(a[i])-mean)/math.Sqrt(variance+1e-5)*float64(b[i]) + float64(a[i])
	})
	copy(got, a)
	k.RoPE(got, b[:50], b[50:])
	near("RoPE", func(i int) float64 {
		j := i % 50
		x0, x1, cos, sin := float64(a[j]), float64(a[j+50]), float64(b[j]), float64(b[j+50])
		if i < 50 {
			return x0*cos - x1*sin
		}
		return x1*cos + x0*sin
	})
}

// The error function over its three polynomials, where they meet, and at the ends.
func TestGELUErfEverywhere(t *testing.T) {
	k := plainGo(t)
	for x := -14.0; x <= 14; x += 1.0 / 512 {
		got := []float32{float32(x)}
		k.GELUErf(got)
		if want := 0.5 * x * (1 + math.Erf(x/math.Sqrt2)); math.Abs(float64(got[0])-want) > 3e-7*(1+math.Abs(x)) {
			t.Fatalf("GELU of %v is %v, want %v", x, got[0], want)
		}
	}
}

// TestActivationEnds checks that large arguments neither overflow nor leave a NaN.
func TestActivationEnds(t *testing.T) {
	x := []float32{-1e38, -1e30, -100, 0, 100, 1e30, 1e38}
	for name, run := range map[string]func(k *cpu.Kernels, x []float32){
		"GELU": (*cpu.Kernels).GELU, "GELUErf": (*cpu.Kernels).GELUErf,
		"SoftCap": func(k *cpu.Kernels, x []float32) { k.SoftCap(x, 30) },
	} {
		for _, k := range cpu.Available() {
			got := append([]float32(nil), x...)
			run(k, got)
			for i, v := range got {
				want := max(x[i], 0)
				if name == "SoftCap" {
					want = max(min(x[i], 30), -30)
				}
				if math.Abs(float64(v-want)) > 0.1 {
					t.Errorf("%s %s of %v is %v, want %v", k.Name(), name, x[i], v, want)
				}
			}
		}
	}
}

// TestSiLUEnds checks that large arguments neither overflow nor leave a NaN.
func TestSiLUEnds(t *testing.T) {
	x := make([]float32, 16)
	copy(x, []float32{-1e30, -1000, -88.7, -88, 0, 88, 1000, 1e30})
	up, got := make([]float32, 16), make([]float32, 16)
	for i := range up {
		up[i] = 1
	}
	for _, k := range cpu.Available() {
		k.SiLUMul(got, x, up)
		for i, v := range x {
			want := max(float64(v), 0)
			if math.Abs(float64(got[i])-want) > 1e-6*want+1e-36 {
				t.Errorf("%s: silu(%v) is %v", k.Name(), v, got[i])
			}
		}
	}
}

// Largest and ExpSum are what they say, and give the same bits in all kernels.
func TestLargestAndExpSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	for _, n := range []int{1, 15, 16, 100, 1024, 1040, 5000, 49152} {
		x := normals(rng, n)
		for i := range x {
			x[i] *= 6
		}
		x[rng.IntN(n)] = float32(math.NaN())
		if n > 1 {
			x[n-1] = slices.Max(slices.DeleteFunc(slices.Clone(x), func(v float32) bool { return v != v }))
		}
		wantAt, wantTop := 0, float32(math.Inf(-1))
		for i, v := range x {
			if v > wantTop {
				wantAt, wantTop = i, v
			}
		}
		for i, v := range x {
			if v != v {
				x[i] = -3
			}
		}
		if n == 1 {
			wantTop = -3
		}
		sum := 0.0
		for _, v := range x {
			sum += math.Exp(float64(v) - float64(wantTop))
		}
		want := plainGo(t).ExpSum(x, wantTop)
		if math.Abs(want-sum) > 2e-6*sum {
			t.Errorf("%d numbers: got %v, want %v", n, want, sum)
		}
		for _, k := range append(fast(t), plainGo(t)) {
			if at, top := k.Largest(x); at != wantAt || top != wantTop {
				t.Errorf("%s, %d numbers: got %v at %d, want %v at %d", k.Name(), n, top, at, wantTop, wantAt)
			}
			if got := k.ExpSum(x, wantTop); got != want {
				t.Errorf("%s, %d numbers: got %v, want %v", k.Name(), n, got, want)
			}
		}
	}
}

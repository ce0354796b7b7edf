package model

import "math"

// Rotation computes the rotations of positions (RoFormer, https://arxiv.org/abs/2104.09864, and its extensions to longer
// contexts). Frequencies and angles are rounded to float32 as the reference does.
type Rotation struct {
	Rope
	headDim      int
	maxPositions int
	frequencies  []float32
	scale        float64 // of cos and sin (YaRN)
}

// NewRotation returns the rotation of heads of headDim dimensions by a model that was trained with maxPositions.
func NewRotation(rope Rope, headDim, maxPositions int) *Rotation {
	r := &Rotation{Rope: rope, headDim: headDim, maxPositions: maxPositions, scale: 1}
	base := r.powers(rope.Theta)
	switch r.Type {
	case "linear":
		for i := range base {
			base[i] /= r.Factor
		}
	case "llama3":
		r.llama3(base)
	case "yarn":
		r.yarn(base)
	}
	r.frequencies = rounded(base)
	for i, divisor := range r.Divisors {
		r.frequencies[i] /= divisor
	}
	return r
}

// powers returns theta^(-2i/d), rounded to float32.
func (r *Rotation) powers(theta float64) []float64 {
	out := make([]float64, r.headDim/2)
	for i := range out {
		out[i] = float64(float32(1 / math.Pow(theta, float64(2*i)/float64(r.headDim))))
	}
	return out
}

func rounded(values []float64) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v)
	}
	return out
}

// llama3 slows the low frequencies down by Factor and blends between (Llama 3.1's rope scaling).
func (r *Rotation) llama3(frequencies []float64) {
	original := float64(r.OriginalMaxPositions)
	for i, f := range frequencies {
		wavelength := 2 * math.Pi / f
		switch {
		case wavelength > original/r.LowFreqFactor:
			frequencies[i] = f / r.Factor
		case wavelength >= original/r.HighFreqFactor:
			smooth := (original/wavelength - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			frequencies[i] = (1-smooth)*f/r.Factor + smooth*f
		}
	}
}

// yarn blends by the number of rotations within the original context (YaRN, https://arxiv.org/abs/2309.00071, 3.2).
func (r *Rotation) yarn(frequencies []float64) {
	fast, slow := r.BetaFast, r.BetaSlow
	if fast == 0 {
		fast = 32
	}
	if slow == 0 {
		slow = 1
	}
	dim := float64(r.headDim)
	correction := func(rotations float64) float64 {
		return dim * math.Log(float64(r.OriginalMaxPositions)/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high := max(math.Floor(correction(fast)), 0), min(math.Ceil(correction(slow)), dim-1)
	if low == high {
		high += 0.001
	}
	for i, f := range frequencies {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		frequencies[i] = f/r.Factor*ramp + f*(1-ramp)
	}
	if r.scale = r.AttentionFactor; r.scale == 0 {
		r.scale = 1
		if r.Factor > 1 {
			r.scale = 0.1*math.Log(r.Factor) + 1
		}
	}
}

// Fill writes the cosines and sines of a position. promptTokens matters to "dynamic" only: a sequence within the trained
// positions turns as trained; beyond, frequencies follow the length that the sequence had when this position was computed
// first, which is the prompt's for its tokens. So they depend on the request alone, not on how it was cut into steps.
func (r *Rotation) Fill(cos, sin []float32, position, promptTokens int) {
	frequencies := r.frequencies
	if length := max(position+1, promptTokens); r.Type == "dynamic" && length > r.maxPositions {
		dim := float64(r.headDim)
		stretch := r.Factor*float64(length)/float64(r.maxPositions) - (r.Factor - 1)
		frequencies = rounded(r.powers(r.Theta * math.Pow(stretch, dim/(dim-2))))
	}
	for i, f := range frequencies {
		angle := float64(float32(position) * f)
		sine, cosine := math.Sincos(angle)
		cos[i], sin[i] = float32(cosine*r.scale), float32(sine*r.scale)
	}
}

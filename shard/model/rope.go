package model

import "math"

// Rotation computes the rotations of positions (RoFormer, https://arxiv.org/abs/2104.09864, and its extensions to longer
// contexts). Frequencies and angles are rounded to float32 as the reference does.
type Rotation struct {
	Rope
	dims        int // that are rotated
	frequencies []float32
	long        []float32 // beyond the original positions (LongRoPE); nil: the same
	scale       float64   // of cos and sin (YaRN, LongRoPE)
}

// NewRotation returns the rotation of heads of headDim dimensions by a model of so many positions.
func NewRotation(rope Rope, headDim, maxPositions int) *Rotation {
	r := &Rotation{Rope: rope, dims: headDim, scale: 1}
	if rope.Dims > 0 {
		r.dims = rope.Dims
	}
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
	case "longrope":
		r.long = divided(rounded(base), r.LongDivisors)
		r.scale = r.longScale(maxPositions)
	}
	r.frequencies = divided(rounded(base), r.Divisors)
	return r
}

// Half is half of how many dimensions of a head are rotated: the length of Fill's cos and sin.
func (r *Rotation) Half() int { return r.dims / 2 }

// QueryScale is what a position's queries are multiplied by after they are rotated.
func (r *Rotation) QueryScale(position int) float32 {
	if r.Sharpening == 0 || position < r.OriginalMaxPositions {
		return 1
	}
	return float32(1 + r.Sharpening*math.Log(float64(1+position/r.OriginalMaxPositions)))
}

// finite reports whether positions turn by numbers, also the last one and in the longest sequence.
func (r *Rotation) finite() bool {
	for _, frequencies := range [][]float32{r.frequencies, r.long} {
		for _, f := range frequencies {
			if f-f != 0 {
				return false
			}
		}
	}
	cos, sin := make([]float32, r.Half()), make([]float32, r.Half())
	for _, tokens := range []int{1, 1 << 20} {
		r.Fill(cos, sin, tokens-1, tokens)
		for i := range cos {
			if cos[i]-cos[i] != 0 || sin[i]-sin[i] != 0 {
				return false
			}
		}
	}
	return true
}

// divided divides frequencies, where there are divisors.
func divided(frequencies, divisors []float32) []float32 {
	for i, divisor := range divisors {
		frequencies[i] /= divisor
	}
	return frequencies
}

// longScale is LongRoPE's scale of cos and sin (https://arxiv.org/abs/2402.13753, and Phi-3's models).
func (r *Rotation) longScale(maxPositions int) float64 {
	if r.AttentionFactor != 0 {
		return r.AttentionFactor
	}
	factor := r.Factor
	if factor == 0 {
		factor = float64(maxPositions) / float64(r.OriginalMaxPositions)
	}
	if factor <= 1 {
		return 1
	}
	return math.Sqrt(1 + math.Log(factor)/math.Log(float64(r.OriginalMaxPositions)))
}

// powers returns theta^(-2i/d), rounded to float32.
func (r *Rotation) powers(theta float64) []float64 {
	out := make([]float64, r.dims/2)
	for i := range out {
		out[i] = float64(float32(1 / math.Pow(theta, float64(2*i)/float64(r.dims))))
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
	dim := float64(r.dims)
	correction := func(rotations float64) float64 {
		return dim * math.Log(float64(r.OriginalMaxPositions)/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high := correction(fast), correction(slow)
	if !r.Fractional {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, dim-1)
	if low == high {
		high += 0.001
	}
	for i, f := range frequencies {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		frequencies[i] = f/r.Factor*ramp + f*(1-ramp)
	}
	switch {
	case r.AttentionFactor != 0:
		r.scale = r.AttentionFactor
	case r.MScale != 0 && r.MScaleAllDim != 0:
		r.scale = yarnScale(r.Factor, r.MScale) / yarnScale(r.Factor, r.MScaleAllDim)
	default:
		r.scale = yarnScale(r.Factor, 1)
	}
}

// yarnScale is YaRN's scale of attention for a factor, itself multiplied by m (DeepSeek-V2).
func yarnScale(factor, m float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*m*math.Log(factor) + 1
}

// Fill writes the cosines and sines of a position. promptTokens matters where Rope.DependsOnLength: a sequence within the
// original positions turns as trained; beyond, frequencies follow the length that the sequence had when this position was
// computed first, which is the prompt's for its tokens. So they depend on the request alone, not on how it was cut into steps.
func (r *Rotation) Fill(cos, sin []float32, position, promptTokens int) {
	frequencies := r.frequencies
	if length := max(position+1, promptTokens); r.DependsOnLength() && length > r.OriginalMaxPositions {
		if frequencies = r.long; r.Type == "dynamic" {
			dim := float64(r.dims)
			stretch := r.Factor*float64(length)/float64(r.OriginalMaxPositions) - (r.Factor - 1)
			frequencies = rounded(r.powers(r.Theta * math.Pow(stretch, dim/(dim-2))))
		}
	}
	for i, f := range frequencies {
		angle := float64(float32(position) * f)
		sine, cosine := math.Sincos(angle)
		cos[i], sin[i] = float32(cosine*r.scale), float32(sine*r.scale)
	}
}

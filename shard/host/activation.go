package host

import (
	"fmt"

	"lockstep/shard/model"
)

// activateGate sets a row of gates to activation(gate) x up.
func (b *Backend) activateGate(activation model.Activation, gate, up []float32) {
	switch activation {
	case model.SiLU:
		b.kernels.SiLUMul(gate, gate, up)
	case model.GELU:
		b.kernels.GELUMul(gate, gate, up)
	case model.ClampedSwiGLU:
		b.clampedSwiGLU(gate, up)
	default:
		b.activate(activation, gate)
		for i, v := range up {
			gate[i] *= v
		}
	}
}

// activate applies an activation to a row.
func (b *Backend) activate(activation model.Activation, x []float32) {
	switch activation {
	case model.GELU:
		b.kernels.GELU(x)
	case model.GELUErf:
		b.kernels.GELUErf(x)
	case model.SiLU:
		b.kernels.SiLU(x)
	case model.ReLU:
		for i, v := range x {
			x[i] = max(v, 0)
		}
	default:
		panic(fmt.Sprintf("host: activation %q without a gate", activation))
	}
}

// The constants of gpt-oss's activation.
const (
	swiGLULimit = 7
	swiGLUAlpha = 1.702
)

// clampedSwiGLU is model.ClampedSwiGLU, every operation rounded.
func (b *Backend) clampedSwiGLU(gate, up []float32) {
	for i, v := range up {
		up[i] = max(min(v, swiGLULimit), -swiGLULimit) + 1
		gate[i] = min(gate[i], swiGLULimit)
	}
	// x / (1 + e^(-alpha x)) is silu(alpha x) / alpha.
	for i, v := range gate {
		gate[i] = v * swiGLUAlpha
	}
	b.kernels.SiLUMul(gate, gate, up)
	for i, v := range gate {
		gate[i] = v / swiGLUAlpha
	}
}

package cpu_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"lockstep/shard/cpu"
)

// Numbers of all kinds, among them such that results and activations lie at the ends of the normal numbers, give equal bits in all
// kernels.
func TestDotCorners(t *testing.T) {
	const outputs, columns = 64, 12
	rng := rand.New(rand.NewPCG(21, 22))
	anything := func() float32 {
		bits := rng.Uint32()
		switch rng.IntN(4) {
		case 0: // near the square root of the smallest normal number
			bits = bits&0x807fffff | uint32(60+rng.IntN(8))<<23
		case 1: // near that itself
			bits = bits&0x807fffff | uint32(rng.IntN(4))<<23
		case 2:
			bits = bits&0x807fffff | uint32(120+rng.IntN(12))<<23
		}
		return math.Float32frombits(bits)
	}
	for range 400 {
		weights := make([][]byte, outputs)
		for i := range weights {
			for range columns {
				weights[i] = binary.LittleEndian.AppendUint16(weights[i], uint16(math.Float32bits(anything())>>16))
			}
		}
		m := pack(t, cpu.BF16Dot, outputs, columns, 1, weights)
		x := make([]float32, 8*columns)
		for i := range x {
			x[i] = anything()
		}
		want, got := make([]float32, 8*outputs), make([]float32, 8*outputs)
		product := func(k *cpu.Kernels, dst []float32) {
			k.MatMul(cpu.Rows{dst, outputs, 8}, cpu.Rows{x, columns, 8}, m, 0, m.Panels(), cpu.NewScratch())
		}
		product(plainGo(t), want)
		for _, k := range fast(t) {
			product(k, got)
			for i, v := range got {
				if math.Float32bits(v) != math.Float32bits(want[i]) && (v == v || want[i] == want[i]) {
					t.Fatalf("%s: output %d of row %d is %v, want %v", k.Name(), i%outputs, i/outputs, v, want[i])
				}
			}
		}
	}
}

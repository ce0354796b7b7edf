package weights_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"lockstep/shard/half"
	"lockstep/shard/weights"
)

// plainRows are random numbers of float32, with a block of zeros and one with an outlier in each row.
func plainRows(rows, columns int) weights.Tensor {
	rng := rand.New(rand.NewPCG(1, 2))
	var data []byte
	for range rows {
		for column := range columns {
			v := float32(rng.NormFloat64() / 50)
			switch {
			case column < 32:
				v = 0
			case column == 40:
				v = 3
			}
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	return weights.NewTensor(weights.F32, rows, columns, data)
}

// Blocks of Q8_0 are those of the definition: the scale is the largest magnitude / 127 in half precision, and codes are the
// nearest, or the even ones.
func TestRequantise8(t *testing.T) {
	const rows, columns = 7, 160
	plain := plainRows(rows, columns)
	made := plain.As(weights.Q8_0)
	var buffer []byte
	for row := range rows {
		values := plain.Floats(row, nil)
		blocks := made.Bytes(&buffer, row, 32, columns)
		for at := 32; at < columns; at += 32 {
			block, largest := blocks[(at-32)/32*34:][:34], 0.0
			for _, v := range values[at : at+32] {
				largest = max(largest, math.Abs(float64(v)))
			}
			scale := half.Float32(half.Bits(float32(largest) / 127))
			if got := half.Float32(binary.LittleEndian.Uint16(block)); got != scale {
				t.Fatalf("row %d column %d: the scale is %v, want %v", row, at, got, scale)
			}
			for i, v := range values[at : at+32] {
				want := max(-127, min(127, math.RoundToEven(float64(v)/float64(scale))))
				if got := int8(block[2+i]); float64(got) != want {
					t.Fatalf("row %d column %d: the code of %v is %d, want %v", row, at+i, v, got, want)
				}
			}
		}
		for i, v := range made.Floats(row, nil)[:32] {
			if v != 0 {
				t.Errorf("a zero at %d became %v", i, v)
			}
		}
	}
}

// Blocks of Q4_1 have less error than the grid from the least to the largest number, in each block, and clearly less in all.
func TestRequantise4(t *testing.T) {
	const rows, columns = 50, 160
	plain := plainRows(rows, columns)
	made := plain.As(weights.Q4_1)
	all, allSimple := 0.0, 0.0
	for row := range rows {
		values, got := plain.Floats(row, nil), made.Floats(row, nil)
		for at := 0; at < columns; at += 32 {
			low, high := values[at], values[at]
			for _, v := range values[at : at+32] {
				low, high = min(low, v), max(high, v)
			}
			scale, minimum := half.Float32(half.Bits((high-low)/15)), half.Float32(half.Bits(low))
			sum, simple := 0.0, 0.0
			for i, v := range values[at : at+32] {
				sum += math.Pow(float64(got[at+i]-v), 2)
				if scale > 0 {
					code := max(0, min(15, math.RoundToEven(float64(v-minimum)/float64(scale))))
					simple += math.Pow(float64(scale*float32(code)+minimum-v), 2)
				}
			}
			if sum > simple*(1+1e-6) {
				t.Fatalf("row %d column %d: the squared error is %v, and %v without a search", row, at, sum, simple)
			}
			all, allSimple = all+sum, allSimple+simple
		}
	}
	if !(all < 0.9*allSimple) {
		t.Errorf("the squared error is %v, and %v without a search", all, allSimple)
	}
	t.Logf("squared error: %.3f of that without a search", all/allSimple)
}

// Numbers that are none come through, and stop nothing.
func TestRequantiseNaN(t *testing.T) {
	for name, bits := range map[string]uint32{"NaN": 0x7fc00000, "infinity": 0x7f800000, "largest": 0x7f7fffff} {
		data := make([]byte, 128)
		binary.LittleEndian.PutUint32(data[8:], bits)
		plain := weights.NewTensor(weights.F32, 1, 32, data)
		for _, e := range []weights.Encoding{weights.Q8_0, weights.Q4_1} {
			values := plain.As(e).Floats(0, nil)
			finite := true
			for _, v := range values {
				finite = finite && v-v == 0
			}
			if finite {
				t.Errorf("%s in %v became %v, all finite", name, e, values)
			}
		}
	}
}

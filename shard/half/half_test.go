package half_test

import (
	"math"
	"testing"

	"lockstep/shard/half"
)

// Every number of half precision comes back, and what lies between two goes to the nearer one, or to the even one.
func TestBits(t *testing.T) {
	for i := range 0x7c00 {
		bits := uint16(i)
		v, next := half.Float32(bits), half.Float32(bits+1)
		if i == 0x7bff {
			next = 65536 // where the next one would be
		}
		middle := (v + next) / 2
		even := bits + bits&1
		for _, c := range []struct {
			v    float32
			want uint16
		}{
			{v, bits}, {-v, bits | 0x8000}, {middle, even}, {-middle, even | 0x8000},
			{math.Nextafter32(middle, 0), bits}, {math.Nextafter32(middle, 1e6), bits + 1},
		} {
			if got := half.Bits(c.v); got != c.want {
				t.Fatalf("%v (%#x): got %#x, want %#x", c.v, math.Float32bits(c.v), got, c.want)
			}
		}
	}
	inf := float32(math.Inf(1))
	for v, want := range map[float32]uint16{65520: 0x7c00, 1e30: 0x7c00, inf: 0x7c00, -inf: 0xfc00, 0x1p-30: 0, 0x1p-149: 0} {
		if got := half.Bits(v); got != want {
			t.Errorf("%v: got %#x, want %#x", v, got, want)
		}
	}
	if v := half.Float32(half.Bits(float32(math.NaN()))); v == v {
		t.Errorf("NaN became %v", v)
	}
}

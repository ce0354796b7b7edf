package ptx_test

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"lockstep/shard/gpu/ptx"
)

// definition computes what Core's comment says, in integers of any size: numbers are whole multiples of 2^-scale.
type definition struct {
	core      ptx.Core
	sum, term big.Int
}

const scale = 320

// parts are a number's integer and its exponent: it is integer x 2^(exponent-places), and below 2^(exponent+1).
func parts(bits uint32, places, exponentBits int) (integer int64, exponent int) {
	integer = int64(bits & (1<<places - 1))
	exponent = int(bits>>places) & (1<<exponentBits - 1)
	if exponent > 0 {
		integer |= 1 << places
	}
	if bits>>(places+exponentBits)&1 == 1 {
		integer = -integer
	}
	return integer, max(exponent, 1) - 127
}

// dot adds products of finite numbers, so many at once, to c.
func (d *definition) dot(a, b *[16]uint16, c uint32) uint32 {
	for from := 0; from < 16; from += d.core.Group {
		integers, exponents, places := [17]int64{}, [17]int{}, [17]int{}
		n := d.core.Group
		integers[n], exponents[n] = parts(c, 23, 8)
		places[n] = 23
		top := exponents[n]
		for i := range n {
			x, xExponent := parts(uint32(a[from+i]), 7, 8)
			y, yExponent := parts(uint32(b[from+i]), 7, 8)
			integers[i], exponents[i], places[i] = x*y, xExponent+yExponent, 14
			if x*y != 0 { // nothing aligns itself to what is nothing
				top = max(top, exponents[i])
			}
		}
		d.sum.SetInt64(0)
		unit := uint(scale + top - d.core.Places)
		for i := range n + 1 {
			d.term.SetInt64(max(integers[i], -integers[i]))
			d.term.Lsh(&d.term, uint(scale+exponents[i]-places[i]))
			d.term.Rsh(&d.term, unit)
			if integers[i] < 0 {
				d.term.Neg(&d.term)
			}
			d.sum.Add(&d.sum, &d.term)
		}
		c = d.cutOff(d.sum.Lsh(&d.sum, unit))
		if c&0x7f800000 == 0x7f800000 { // an infinity stays one
			return c
		}
	}
	return c
}

// cutOff is the float32 next to a number, towards zero; what is too large is infinite.
func (d *definition) cutOff(sum *big.Int) uint32 {
	sign := uint32(0)
	if sum.Sign() < 0 {
		sign = 1 << 31
		sum.Neg(sum)
	}
	exponent := max(sum.BitLen()-1-scale, -126)
	if exponent > 127 {
		return sign | 0x7f800000
	}
	fraction := uint32(sum.Rsh(sum, uint(scale+exponent-23)).Uint64())
	if fraction < 1<<23 {
		return sign | fraction // subnormal
	}
	return sign | uint32(exponent+127)<<23 | fraction&0x7fffff
}

// randomDot are operands of a kind: near 1, with large gaps between exponents, subnormal, of few bits that cancel, or near an overflow.
func randomDot(r *rand.Rand) (a, b [16]uint16, c uint32) {
	kind, width := r.IntN(6), 1+r.IntN(200)
	number := func() uint16 {
		bits := uint16(r.Uint32()) & 0x807f
		switch kind {
		case 0:
			return bits | uint16(120+r.IntN(14))<<7
		case 1:
			return bits | uint16(127-width/2+r.IntN(width))<<7
		case 2:
			return bits | uint16(r.IntN(2)*r.IntN(70))<<7
		case 3:
			return bits&0x8060 | uint16(126+r.IntN(2))<<7
		case 4:
			return bits | uint16(186+r.IntN(6))<<7
		}
		return bits | uint16(r.IntN(255))<<7
	}
	for i := range a {
		a[i], b[i] = number(), number()
		if r.IntN(8) == 0 {
			a[i] &= 1 << 15
		}
	}
	if kind == 2 { // products of subnormals and of large numbers
		for i := range b {
			b[i] = b[i]&0x807f | uint16(r.IntN(160))<<7
		}
	}
	c = uint32(number())<<16 | r.Uint32()&0xffff
	if kind == 3 && r.IntN(2) == 0 { // that cancels all but a little
		c = ptx.Hopper.Dot(&a, &b, 0) ^ 1<<31
	}
	if r.IntN(10) == 0 || c&0x7f800000 == 0x7f800000 {
		c &= 1 << 31
	}
	return a, b, c
}

func TestTensorCore(t *testing.T) {
	for name, core := range map[string]ptx.Core{"Hopper": ptx.Hopper, "Ampere": ptx.Ampere} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, d := random(7), definition{core: core}
			for i := range 200_000 {
				a, b, c := randomDot(r)
				if got, want := core.Dot(&a, &b, c), d.dot(&a, &b, c); got != want {
					t.Fatalf("case %d: %#x, want %#x\n%#x\n%#x\n%#x", i, got, want, a, b, c)
				}
			}
		})
	}
}

// What is cut off, by hand: half of what a float32 beside 1 can say is not lost from a sum, and a quarter only on Ampere, which drops what
// lies behind 24 places.
func TestTensorCoreCutsOff(t *testing.T) {
	one := uint16(0x3f80)
	power := func(n int) uint16 { return uint16(n+127) << 7 }
	for _, c := range []struct {
		exponent       int
		hopper, ampere uint32
	}{{-23, 2, 2}, {-24, 1, 1}, {-25, 1, 0}, {-26, 0, 0}} {
		var a, b [16]uint16
		a[0], b[0] = one, one
		a[1], b[1], a[2], b[2] = power(c.exponent), one, power(c.exponent), one
		if c.exponent == -25 { // four make 2^-23
			a[3], b[3], a[4], b[4] = power(c.exponent), one, power(c.exponent), one
		}
		if got := ptx.Hopper.Dot(&a, &b, 0); got != 0x3f800000+c.hopper {
			t.Errorf("Hopper, 2^%d: %#x, want 1 and %d", c.exponent, got, c.hopper)
		}
		if got := ptx.Ampere.Dot(&a, &b, 0); got != 0x3f800000+c.ampere {
			t.Errorf("Ampere, 2^%d: %#x, want 1 and %d", c.exponent, got, c.ampere)
		}
	}
}

// Infinities and what is no number pass through a sum.
func TestTensorCoreSpecial(t *testing.T) {
	infinity, nan, one, zero := uint16(0x7f80), uint16(0x7fc0), uint16(0x3f80), uint16(0)
	for _, c := range []struct {
		a, b       uint16
		start, sum uint32
	}{{infinity, one, 0, 0x7f800000}, {infinity, one | 1<<15, 0, 0xff800000}, {infinity, zero, 0, 0x7fffffff}, {nan, one, 0, 0x7fffffff},
		{one, one, 0xff800000, 0xff800000}, {infinity, one, 0xff800000, 0x7fffffff}, {one, one, 0x7fc00000, 0x7fffffff}} {
		for _, core := range []ptx.Core{ptx.Hopper, ptx.Ampere} {
			var a, b [16]uint16
			a[9], b[9] = c.a, c.b
			if got := core.Dot(&a, &b, c.start); got != c.sum {
				t.Errorf("%#x times %#x and %#x: %#x, want %#x", c.a, c.b, c.start, got, c.sum)
			}
		}
	}
}

// mma.sync holds its matrices in lanes as the PTX manual says (section "Matrix Fragments for mma.m16n8k16 with floating point type").
func TestProductLayout(t *testing.T) {
	r := random(8)
	var a [16][16]uint16
	var b [8][16]uint16 // by columns
	var c [16][8]uint32
	small := func() uint16 { return uint16(bitsOf(float32(r.NormFloat64())) >> 16) }
	for i := range 16 {
		for j := range 16 {
			a[i][j], b[j%8][i] = small(), small()
		}
		for j := range 8 {
			c[i][j] = math.Float32bits(float32(r.NormFloat64()))
		}
	}
	inputs := make([][]uint64, 10) // registers: a of 4, b of 2, c of 4, whose place d takes
	for i := range inputs {
		inputs[i] = make([]uint64, 32)
	}
	pair := func(v ...uint16) uint64 { return uint64(v[0]) | uint64(v[1])<<16 }
	for lane := range 32 {
		group, thread := lane>>2, lane&3
		for i := range 4 { // a's pair i: row g, below it for i odd; columns from 2t, 8 further for i > 1
			row, column := group+i%2*8, thread*2+i/2*8
			inputs[i][lane] = pair(a[row][column], a[row][column+1])
			inputs[6+i][lane] = uint64(c[group+i/2*8][thread*2+i%2])
		}
		for i := range 2 { // b's pair i: rows from 2t, 8 further for i = 1; column g
			inputs[4+i][lane] = pair(b[group][thread*2+i*8], b[group][thread*2+i*8+1])
		}
	}
	body := globalIndex
	for i := range 10 {
		body += "add.s64 %at, %p" + string(rune('0'+i)) + ", %o;\nld.global.u64 %x" + string(rune('0'+i)) + ", [%at];\n"
	}
	body += `mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%x6,%x7,%x8,%x9}, {%x0,%x1,%x2,%x3}, {%x4,%x5}, {%x6,%x7,%x8,%x9};` + "\n"
	for i := 6; i < 10; i++ {
		body += "add.s64 %at, %p" + string(rune('0'+i)) + ", %o;\nst.global.u64 [%at], %x" + string(rune('0'+i)) + ";\n"
	}
	out := must(t, source(10, body+"ret;"), threads(32), inputs...)
	for row := range 16 {
		for column := range 8 {
			lane, i := row%8*4+column/2, row/8*2+column%2
			if got, want := out[6+i][lane], ptx.Hopper.Dot(&a[row], &b[column], c[row][column]); uint32(got) != want {
				t.Fatalf("row %d, column %d: %#x, want %#x", row, column, got, want)
			}
		}
	}
}

// ldmatrix gives lane 4g+t of matrix i the numbers 2t and 2t+1 of its row g, whose address lane 8i+g has.
func TestLoadMatrix(t *testing.T) {
	rows := make([]uint64, 64) // 32 rows of 16 bytes
	for i := range rows {
		var row [8]byte
		for j := range row {
			row[j] = byte(i*8 + j)
		}
		rows[i] = binary.LittleEndian.Uint64(row[:])
	}
	body := globalIndex + `
		mul.lo.s32 %s, %i, 16;
		add.s64 %from, %p4, %o;
		add.s64 %from, %from, %o;
		ld.global.v2.u64 {%u, %v}, [%from];
		mov.u32 %m, memory;
		add.s32 %s, %s, %m;
		st.shared.v2.u64 [%s], {%u, %v};
		bar.warp.sync -1;
		ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%x0, %x1, %x2, %x3}, [%s];
		add.s64 %at, %p0, %o;
		st.global.u64 [%at], %x0;
		add.s64 %at, %p1, %o;
		st.global.u64 [%at], %x1;
		add.s64 %at, %p2, %o;
		st.global.u64 [%at], %x2;
		add.s64 %at, %p3, %o;
		st.global.u64 [%at], %x3;
		ret;`
	inputs := [][]uint64{make([]uint64, 32), make([]uint64, 32), make([]uint64, 32), make([]uint64, 32), rows}
	out := must(t, source(5, body), ptx.Launch{Threads: [3]int{32}, Shared: 512}, inputs...)
	for matrix := range 4 {
		for lane := range 32 {
			at := (matrix*8+lane/4)*16 + lane%4*4
			if want := uint64(at&255 | (at+1)&255<<8 | (at+2)&255<<16 | (at+3)&255<<24); out[matrix][lane] != want {
				t.Fatalf("matrix %d, lane %d: %#x, want %#x", matrix, lane, out[matrix][lane], want)
			}
		}
	}
}

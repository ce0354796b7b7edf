package ptx

import (
	"math"
	"math/bits"
	"slices"
)

// Core is a model of a tensor core's sums of bfloat16 products in float32, as experiments have found them
// (https://github.com/microsoft/MMA-Sim): in groups of products, these and the sum so far are aligned to the largest exponent among
// them, cut off towards zero behind some binary places, added exactly, and the sum is cut off to float32. So the order within a
// group does not matter.
type Core struct {
	Places int // binary places that are kept behind the largest exponent
	Group  int // products that are added at once; 16 at most
}

// The cores of the numerics classes: of cards of compute capability 9.0 and later, and of 8.x.
var (
	Hopper = Core{Places: 25, Group: 16}
	Ampere = Core{Places: 24, Group: 8}
)

// product compiles the product of a 16x16 and a 16x8 matrix of bfloat16, with float32 sums.
func (k *kernel) product(op string, args []string) (execute, error) {
	if op != "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" || len(args) != 4 {
		return nil, unknown(op)
	}
	var r [4][]int
	for i := range r {
		var err error
		if r[i], err = k.vector(args[i]); err != nil {
			return nil, err
		}
	}
	return func(w *warp, lanes uint32) {
		w.whole(lanes, "a matrix product")
		w.multiply(r[0], r[1], r[2], r[3])
	}, nil
}

// bfloat is a bfloat16 as an integer of 8 bits, with its sign, times 2^(exponent-7).
type bfloat struct {
	mantissa int32
	exponent int32
	special  bool // an infinity or no number
}

func split(v uint16) bfloat {
	n := bfloat{mantissa: int32(v & 0x7f), exponent: int32(v>>7&0xff) - 127, special: v&0x7f80 == 0x7f80}
	if n.exponent == -127 {
		n.exponent = -126
	} else {
		n.mantissa |= 0x80
	}
	if v>>15 == 1 {
		n.mantissa = -n.mantissa
	}
	return n
}

// row are 16 numbers that a product takes.
type row struct {
	numbers [16]bfloat
	has     uint16 // a bit for each that is not zero
	special bool   // some are
}

// put sets two numbers.
func (r *row) put(at int, v uint64) {
	r.numbers[at], r.numbers[at+1] = split(uint16(v)), split(uint16(v>>16))
	r.special = r.special || r.numbers[at].special || r.numbers[at+1].special
	r.has |= uint16(truth(v&0x7fff != 0)|truth(v&0x7fff0000 != 0)<<1) << at
}

// changes reports whether a sum is another with the products of two rows.
func changes(sum uint64, a, b *row) bool {
	return a.has&b.has != 0 || a.special || b.special || sum&0x7f800000 == 0x7f800000 || sum == 1<<31
}

// multiply computes d = a b + c. Lane 4g+t holds of a the rows g and g+8, of b the column g, of c and d the columns 2t and 2t+1.
func (w *warp) multiply(d, a, b, c []int) {
	var left [16]row
	var right [8]row
	var raw [8][8]uint32 // right, as it is
	for lane := range 32 {
		g, t := lane/4, lane%4
		for i, r := range a {
			left[g+i%2*8].put(2*t+i/2*8, w.registers[r][lane])
		}
		for i, r := range b {
			right[g].put(2*t+i*8, w.registers[r][lane])
			raw[g][t+i*4] = uint32(w.registers[r][lane])
		}
	}
	var out [4]vector
	for column := range 8 {
		twin := slices.Index(raw[:column], raw[column]) // rows that a step does not have repeat its last
		for row := range 16 {
			lane, i := row%8*4+column/2, row/8*2+column%2
			sum := w.registers[c[i]][lane]
			if twinLane, j := row%8*4+twin/2, row/8*2+twin%2; twin >= 0 && w.registers[c[j]][twinLane] == sum {
				out[i][lane] = out[j][twinLane]
				continue
			}
			if x, y := &left[row], &right[column]; changes(sum, x, y) {
				sum = uint64(w.core.sum(&x.numbers, &y.numbers, uint32(sum), x.special || y.special))
			}
			out[i][lane] = sum
		}
	}
	for i, r := range d {
		w.registers[r] = out[i]
	}
}

// Dot adds 16 products of bfloat16 numbers to c. All are bits.
func (core Core) Dot(a, b *[16]uint16, c uint32) uint32 {
	var x, y [16]bfloat
	special := false
	for i := range 16 {
		x[i], y[i] = split(a[i]), split(b[i])
		special = special || x[i].special || y[i].special
	}
	return core.sum(&x, &y, c, special)
}

// sum computes Dot; special says that some of the matrices' numbers, which need not be in these rows, are.
func (core Core) sum(a, b *[16]bfloat, c uint32, special bool) uint32 {
	if special {
		is := func(n bfloat) bool { return n.special }
		special = slices.ContainsFunc(a[:], is) || slices.ContainsFunc(b[:], is)
	}
	for from := 0; from < 16; from += core.Group {
		if special || c&0x7f800000 == 0x7f800000 {
			return sumSpecial(a, b, c)
		}
		c = core.group(a[from:from+core.Group], b[from:from+core.Group], c)
	}
	return c
}

// group adds products of which none is special.
func (core Core) group(a, b []bfloat, c uint32) uint32 {
	var products [17]int64 // with so many binary places
	var exponents [17]int32
	mantissa, exponent := int64(c&0x7fffff), int32(c>>23&0xff)-127
	if exponent == -127 {
		exponent = -126
	} else {
		mantissa |= 0x800000
	}
	if c>>31 == 1 {
		mantissa = -mantissa
	}
	n := len(a)
	products[n], exponents[n] = mantissa<<(core.Places-23), exponent
	top := exponent
	for i := range a {
		p, e := a[i].mantissa*b[i].mantissa, a[i].exponent+b[i].exponent
		if p == 0 {
			e = -126
		}
		products[i], exponents[i], top = int64(p)<<(core.Places-14), e, max(top, e)
	}
	var sum int64
	for i, p := range products[:n+1] {
		sign := p >> 63 // the shift is towards zero
		sum += (((p^sign)-sign)>>uint32(top-exponents[i]) ^ sign) - sign
	}
	return cutOff(sum, int(top)-core.Places)
}

// cutOff returns sum x 2^exponent as float32, cut off towards zero.
func cutOff(sum int64, exponent int) uint32 {
	var sign uint32
	if sum < 0 {
		sum, sign = -sum, 1<<31
	}
	if sum == 0 {
		return 0
	}
	n := bits.Len64(uint64(sum))
	if drop := max(n-24, -149-exponent); drop > 0 {
		sum >>= min(drop, 63)
		exponent += drop
	}
	f := float64(sum) * math.Float64frombits(uint64(exponent+1023)<<52)
	if f > math.MaxFloat32 {
		return sign | 0x7f800000
	}
	return sign | math.Float32bits(float32(f))
}

// sumSpecial adds where infinities and what is no number take part.
func sumSpecial(a, b *[16]bfloat, c uint32) uint32 {
	sum := float64(math.Float32frombits(c))
	value := func(n bfloat) float64 {
		switch {
		case !n.special:
			return math.Ldexp(float64(n.mantissa), int(n.exponent)-7)
		case n.mantissa&0x7f != 0:
			return math.NaN()
		}
		return math.Inf(int(n.mantissa))
	}
	for i := range 16 {
		sum += value(a[i]) * value(b[i])
	}
	if sum != sum {
		return 0x7fffffff
	}
	return math.Float32bits(float32(sum))
}

package main

import (
	"fmt"
	"math/rand/v2"
	"unsafe"

	"lockstep/shard/gpu"
	"lockstep/shard/gpu/ptx"
)

// problem is a product of a 16x16 and a 16x8 matrix that is added to c; b lies by columns. All are bits.
type problem struct {
	a [16][16]uint16
	b [8][16]uint16
	c [16][8]uint32
}

// bf16 is random, of exponents from low to high.
func bf16(random *rand.Rand, low, high int) uint16 {
	return uint16(random.Uint32()&0x807f) | uint16(127+low+random.IntN(high-low+1))<<7
}

// class is a kind of numbers that are added: of a product's inputs, and of the sum so far.
type class struct {
	name    string
	special bool
	in      func(random *rand.Rand) uint16
	sum     func(random *rand.Rand) uint16
}

var classes = []class{
	{"like a model's", false, func(r *rand.Rand) uint16 { return bf16(r, -6, 1) }, func(r *rand.Rand) uint16 { return bf16(r, -6, 3) }},
	{"gaps up to 2^60", false, func(r *rand.Rand) uint16 { return bf16(r, -15, 15) },
		func(r *rand.Rand) uint16 { return bf16(r, -30, 30) }},
	{"huge gaps", false, func(r *rand.Rand) uint16 { return bf16(r, -126, 60) },
		func(r *rand.Rand) uint16 { return bf16(r, -126, 120) }},
	{"a huge sum, small products", false, func(r *rand.Rand) uint16 { return bf16(r, -8, -4) },
		func(r *rand.Rand) uint16 { return bf16(r, 8, 12) }},
	{"subnormal", false, func(r *rand.Rand) uint16 { return bf16(r, -127, -60) },
		func(r *rand.Rand) uint16 { return bf16(r, -127, -120) }},
	{"subnormal results", false, func(r *rand.Rand) uint16 { return bf16(r, -76, -64) },
		func(r *rand.Rand) uint16 { return bf16(r, -127, -125) }},
	{"infinities and no numbers among them", true, func(r *rand.Rand) uint16 {
		if r.IntN(64) == 0 {
			return [...]uint16{0x7f80, 0xff80, 0x7fc0, 0}[r.IntN(4)]
		}
		return bf16(r, -10, 10)
	}, func(r *rand.Rand) uint16 { return bf16(r, -10, 10) }},
}

// core holds a card's tensor core beside its model in package ptx, over a million random groups of each class.
func (c *check) core(r *report) error {
	groups, chain := 1_000_000, 2
	if c.quick {
		groups = 4096
	}
	card, err := c.open()
	if err != nil {
		return err
	}
	defer card.Close()
	model := ptx.Hopper
	if card.Describe().Class == "a" {
		model = ptx.Ampere
	}
	r.line("\nThe model of this card's class %q: %d binary places, groups of %d.", card.Describe().Class, model.Places, model.Group)
	r.table("numbers", "groups of 16", "sums", "sums that differ", "an example, or the models with the fewest")
	random, wrong := rand.New(rand.NewPCG(1, 2)), 0
	for _, class := range classes {
		problems := make([]problem, (groups+128*chain-1)/(128*chain)*chain)
		for i := range problems {
			p := &problems[i]
			for j := range 16 * 16 {
				p.a[j/16][j%16], p.b[j/16%8][j%16] = class.in(random), class.in(random)
			}
			for j := range 128 {
				p.c[j/8][j%8] = uint32(class.sum(random))<<16 | random.Uint32()&0xffff
			}
		}
		got, err := onCard(card, problems, chain)
		if err != nil {
			return err
		}
		differ, example := mismatches(model, problems, got, chain)
		if differ > 0 && !class.special {
			example += "; " + otherModels(problems, got, chain)
		}
		r.row(class.name, len(problems)*128, len(got)*128, differ, example)
		r.record(map[string]any{"class": class.name, "groups": len(problems) * 128, "differ": differ, "example": example})
		wrong += differ
		if card.Describe().Capability != 90 {
			continue
		}
		groups, sums, differ, example, err := onWarpgroups(card, model, class, random, groups)
		if err != nil {
			return err
		}
		r.row(class.name+", by wgmma", groups, sums, differ, example)
		r.record(map[string]any{"class": class.name, "of": "wgmma", "groups": groups, "differ": differ, "example": example})
		wrong += differ
	}
	if wrong > 0 {
		return fmt.Errorf("%d sums are not the model's", wrong)
	}
	return nil
}

// onCard computes chains of problems, whose first has the c of each.
func onCard(card gpu.Device, problems []problem, chain int) ([][16][8]uint32, error) {
	count := len(problems) / chain
	a, b := make([][32][8]uint16, len(problems)), make([][32][4]uint16, len(problems))
	c := make([][32][4]uint32, count)
	for i := range problems {
		p := &problems[i]
		for lane := range 32 {
			g, t := lane/4, lane%4
			for j := range 8 {
				a[i][lane][j] = p.a[g+j/2%2*8][2*t+j/4*8+j%2]
			}
			for j := range 4 {
				b[i][lane][j] = p.b[g][2*t+j/2*8+j%2]
				if i%chain == 0 {
					c[i/chain][lane][j] = p.c[g+j/2*8][2*t+j%2]
				}
			}
		}
	}
	var at [4]gpu.Address
	for i, data := range [][]byte{raw(a), raw(b), raw(c), raw(c)} {
		var err error
		if at[i], err = card.Alloc(len(data)); err != nil {
			return nil, err
		}
		defer card.Free(at[i])
		if err := card.Upload(at[i], data); err != nil {
			return nil, err
		}
	}
	if err := card.Launch(&gpu.Launch{Kernel: "mma_chain", Grid: [3]int{(count + 3) / 4, 1, 1}, Threads: [3]int{128, 1, 1},
		Args: []any{at[3], at[0], at[1], at[2], int32(count), int32(chain)}}); err != nil {
		return nil, err
	}
	if err := card.Download(raw(c), at[3]); err != nil {
		return nil, err
	}
	sums := make([][16][8]uint32, count)
	for i := range sums {
		for lane := range 32 {
			for j := range 4 {
				sums[i][lane/4+j/2*8][2*(lane%4)+j%2] = c[i][lane][j]
			}
		}
	}
	return sums, nil
}

// onWarpgroups holds products by kernel wgmma_256 beside a model: chains whose first step makes the sum so far, by a product with one, and
// the others add so many groups altogether.
func onWarpgroups(card gpu.Device, model ptx.Core, class class, random *rand.Rand, count int) (groups, sums, differ int, example string,
	err error) {
	const rows, steps, unit = 256, 3, 8
	tiles := (count/((steps-1)*rows*16) + unit) / unit * unit
	weights, inputs := make([][steps][16]uint16, tiles*16), make([][rows][16]uint16, steps)
	packed, y := make([]uint16, tiles*steps*256), make([]uint32, rows*tiles*16)
	for output := range weights {
		weights[output][0][0] = class.sum(random)
		for step := range steps {
			for i := range 16 {
				if step > 0 {
					weights[output][step][i] = class.in(random)
				}
			}
			for i, v := range weights[output][step] { // as kernels/common.cuh says
				packed[((output/16*steps+step)*32+output%8*4+i/4)*8+i%4/2*4+output%16/8*2+i%2] = v
			}
		}
	}
	for row := range rows {
		for i := range 16 {
			for step := 1; step < steps; step++ {
				inputs[step][row][i] = class.in(random)
			}
		}
		inputs[0][row][0] = 0x3f80
	}
	var at [3]gpu.Address
	for i, data := range [][]byte{raw(packed), raw(inputs), raw(y)} {
		if at[i], err = card.Alloc(len(data)); err != nil {
			return 0, 0, 0, "", err
		}
		defer card.Free(at[i])
		if err = card.Upload(at[i], data); err != nil {
			return 0, 0, 0, "", err
		}
	}
	none := gpu.Address(0)
	if err = card.Launch(&gpu.Launch{Kernel: "wgmma_256", Grid: [3]int{1, tiles / unit, 1}, Threads: [3]int{256, 1, 1}, Shared: 193 << 10,
		Args: []any{at[0], at[2], int32(tiles), none, none, int32(0), none, none, int32(0), at[1], int32(steps), int32(1), int32(rows),
			int32(0)}}); err != nil {
		return 0, 0, 0, "", err
	}
	if err = card.Download(raw(y), at[2]); err != nil {
		return 0, 0, 0, "", err
	}
	for output := range weights {
		for row := range rows {
			want := uint32(0)
			for step := range steps {
				want = model.Dot(&weights[output][step], &inputs[step][row], want)
			}
			if have := y[row*tiles*16+output]; have != want && !(noNumber(have) && noNumber(want)) {
				if differ++; differ == 1 {
					example = fmt.Sprintf("%#x, want %#x: W %#x, row %d", have, want, weights[output], row)
				}
			}
		}
	}
	return len(y) * (steps - 1), len(y), differ, example, nil
}

// raw are the bytes of what has no pointers.
func raw[T any](values []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
}

func noNumber(bits uint32) bool { return bits&0x7fffffff > 0x7f800000 }

// mismatches counts the sums that are not a model's, and tells one. Of what is no number any counts.
func mismatches(model ptx.Core, problems []problem, got [][16][8]uint32, chain int) (wrong int, example string) {
	for i := range got {
		for j := range 128 {
			row, column := j/8, j%8
			want := problems[i*chain].c[row][column]
			for k := range chain {
				p := &problems[i*chain+k]
				want = model.Dot(&p.a[row], &p.b[column], want)
			}
			have := got[i][row][column]
			if have == want || noNumber(have) && noNumber(want) {
				continue
			}
			if wrong++; wrong == 1 {
				p := &problems[i*chain]
				example = fmt.Sprintf("%#x, want %#x: c %#x, a %#x, b %#x", have, want, p.c[row][column], p.a[row], p.b[column])
			}
		}
	}
	return wrong, example
}

// otherModels tells which other model is nearest.
func otherModels(problems []problem, got [][16][8]uint32, chain int) string {
	few := min(len(got), 256)
	best, text := few*128+1, ""
	for places := 23; places <= 27; places++ {
		for _, group := range []int{4, 8, 16} {
			wrong, _ := mismatches(ptx.Core{Places: places, Group: group}, problems, got[:few], chain)
			if wrong < best {
				best, text = wrong, fmt.Sprintf("%d places, groups of %d: %d of %d differ", places, group, wrong, few*128)
			}
		}
	}
	return text
}

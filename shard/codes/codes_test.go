package codes_test

import (
	"fmt"

	"lockstep/shard/codes"
)

// Two groups of four codes whose scales are halves: those of the second group are subtracted a zero point from.
func ExampleScheme_Values() {
	half := &codes.Scheme{Kind: codes.F16}
	scheme := &codes.Scheme{Kind: codes.Bits4, Group: 4, Scale: half, Offset: half, Zero: true}
	values := make([]float32, 8)
	scheme.Values(values, &codes.Row{
		Codes:  []byte{0, 1, 8, 15, 0, 1, 8, 15},
		Scale:  &codes.Row{Numbers: []uint32{0x3c00, 0x3800}}, // 1 and 0.5
		Offset: &codes.Row{Numbers: []uint32{0, 0x4800}},      // 0 and 8
	}, 0)
	fmt.Println(values)
	// Output: [0 1 8 15 -4 -3.5 0 3.5]
}

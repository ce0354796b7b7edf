package collective_test

import (
	"fmt"
	"testing"

	"lockstep/shard/collective"
)

// An addition that writes down its tree tells the order: each number stands for a text.
func TestSum(t *testing.T) {
	for ranks, want := range []string{1: "0", 2: "(0+1)", 3: "((0+1)+2)", 4: "((0+1)+(2+3))", 5: "(((0+1)+(2+3))+4)",
		6: "(((0+1)+(2+3))+(4+5))", 7: "(((0+1)+(2+3))+((4+5)+6))", 8: "(((0+1)+(2+3))+((4+5)+(6+7)))",
		9: "((((0+1)+(2+3))+((4+5)+(6+7)))+8)"} {
		if ranks == 0 {
			continue
		}
		var texts []string
		var parts [][]float32
		for rank := range ranks {
			texts = append(texts, fmt.Sprint(rank))
			parts = append(parts, []float32{-1, float32(rank), -1})
		}
		var dst [1]float32
		collective.Sum(dst[:], parts, 1, func(dst, a, b []float32) {
			texts = append(texts, "("+texts[int(a[0])]+"+"+texts[int(b[0])]+")")
			dst[0] = float32(len(texts) - 1)
		})
		if got := texts[int(dst[0])]; got != want {
			t.Errorf("%d ranks: got %s, want %s", ranks, got, want)
		}
	}
}

package gpu

import "testing"

// Plans for the products of common models on an H100: no multiprocessor has much more to do than the average, and the ring fits.
func TestRingPlans(t *testing.T) {
	const processors, shared = 132, 227 << 10
	for _, c := range []struct {
		what string
		product
		want ringPlan
	}{
		{"Llama 3 8B, q, k and v", product{384, 256, 1, 1, 1, 1}, ringPlan{3, 7, 8, 128}},
		{"the same, 64 rows", product{384, 256, 1, 64, 1, 1}, ringPlan{3, 6, 4, 128}},
		{"attention output", product{256, 256, 8, 1, 1, 1}, ringPlan{8, 5, 4, 132}},
		{"gate or up", product{896, 256, 1, 8, 1, 1}, ringPlan{7, 6, 4, 128}},
		{"down", product{256, 896, 8, 1, 1, 1}, ringPlan{8, 5, 4, 132}},
		{"head", product{8016, 256, 1, 1, 1, 1}, ringPlan{7, 6, 4, 132}},
		{"Llama 3.2 1B, q, k and v", product{192, 128, 1, 1, 1, 1}, ringPlan{2, 11, 8, 96}},
		{"of two terms", product{192, 128, 1, 16, 2, 2}, ringPlan{2, 4, 8, 96}},
		{"a score of one output", product{1, 256, 1, 1, 1, 1}, ringPlan{1, 22, 8, 1}},
		{"fewer steps than a ring has", product{4, 16, 8, 1, 1, 1}, ringPlan{1, 1, 8, 32}},
	} {
		got := c.plan(processors, shared)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
}

// Whatever the product and the card, a plan is one that the kernel can run.
func TestRingPlansFit(t *testing.T) {
	for _, processors := range []int{1, 20, 132, 170} {
		for _, shared := range []int{99 << 10, 227 << 10} {
			for tiles := 1; tiles < 9000; tiles = tiles*3/2 + 1 {
				for _, chunks := range []int{1, 2, 8} {
					for steps := 1; steps < 2000; steps *= 3 {
						for _, rows := range []int{1, 8, 33, 64} {
							for _, terms := range [][2]int{{1, 1}, {2, 1}, {2, 2}} {
								p := product{tiles, steps * chunks, chunks, rows, terms[0], terms[1]}
								plan := p.plan(processors, shared)
								l := p.ring(processors, shared)
								if plan.warps < 1 || plan.warps > ringMaxWarps || plan.stages < 1 || plan.stages > ringMaxStages ||
									plan.piece < 1 ||
									plan.blocks < 1 || plan.blocks > processors || l.Shared > shared || plan.stages < 2 &&
									steps > plan.piece {
									t.Fatalf("%+v on %d multiprocessors with %d bytes: %+v", p, processors, shared, plan)
								}
							}
						}
					}
				}
			}
		}
	}
}

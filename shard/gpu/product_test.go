package gpu

import (
	"strings"
	"testing"
)

// Plans for the products of common models on an H100: no multiprocessor has much more to do than the average, and the ring fits.
func TestRingPlans(t *testing.T) {
	const processors, shared = 132, 227 << 10
	for _, c := range []struct {
		what string
		product
		want ringPlan
	}{
		{"Llama 3 8B, q, k and v", product{[3]int{256, 64, 64}, 256, 1, 1, 1, 1}, ringPlan{3, 7, 8, 128}},
		{"the same, 64 rows", product{[3]int{384}, 256, 1, 64, 1, 1}, ringPlan{3, 6, 4, 128}},
		{"attention output", product{[3]int{256}, 256, 8, 1, 1, 1}, ringPlan{8, 5, 4, 132}},
		{"gate and up", product{[3]int{896, 896}, 256, 1, 8, 1, 1}, ringPlan{7, 6, 4, 132}},
		{"down", product{[3]int{256}, 896, 8, 1, 1, 1}, ringPlan{8, 5, 4, 132}},
		{"head", product{[3]int{8016}, 256, 1, 1, 1, 1}, ringPlan{7, 6, 4, 132}},
		{"Llama 3.2 1B, q, k and v", product{[3]int{192}, 128, 1, 1, 1, 1}, ringPlan{2, 11, 8, 96}},
		{"of two terms", product{[3]int{192}, 128, 1, 16, 2, 2}, ringPlan{2, 4, 8, 96}},
		{"a score of one output", product{[3]int{1}, 256, 1, 1, 1, 1}, ringPlan{1, 22, 8, 1}},
		{"fewer steps than a ring has", product{[3]int{4}, 16, 8, 1, 1, 1}, ringPlan{1, 1, 8, 32}},
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
								p := product{[3]int{tiles, tiles / 4}, steps * chunks, chunks, rows, terms[0], terms[1]}
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

// Products of many rows take large blocks where these fill the card, and add chunks where they need none of them for that.
func TestLargePlans(t *testing.T) {
	const processors = 132
	for _, c := range []struct {
		what string
		product
		kernel string
		grid   [3]int
		sums   bool
	}{
		{"a long prompt", product{[3]int{256, 64, 64}, 256, 1, 2048, 1, 1}, "gemm_11_128", [3]int{16, 48, 1}, false},
		{"a hundred sequences", product{[3]int{256, 64, 64}, 256, 1, 100, 1, 1}, "gemm_11_64", [3]int{2, 96, 1}, false},
		{"their output, of chunks", product{[3]int{256}, 256, 8, 100, 2, 2}, "gemm_22_128", [3]int{1, 32, 8}, false},
		{"a prompt's output", product{[3]int{256}, 896, 8, 2048, 1, 1}, "gemm_11_128", [3]int{16, 32, 8}, true},
		{"a matrix that is no multiple", product{[3]int{3, 1}, 4, 2, 65, 2, 1}, "gemm_21_64", [3]int{2, 2, 2}, false},
	} {
		l := c.gemm(processors, false)
		if l.Kernel != c.kernel || l.Grid != c.grid || c.product.sums(processors) != c.sums {
			t.Errorf("%s: %s, %v, sums %v, want %s, %v, %v", c.what, l.Kernel, l.Grid, c.product.sums(processors), c.kernel, c.grid, c.sums)
		}
		if sum := c.gemm(processors, true); c.sums && sum.Grid != [3]int{c.grid[0], c.grid[1], 1} {
			t.Errorf("%s, summed: %v", c.what, sum.Grid)
		}
	}
}

// On cards that have them products of warpgroups take what has blocks enough for most multiprocessors, of as many rows as leave few empty.
func TestWarpgroupPlans(t *testing.T) {
	card := Description{Capability: 90, Processors: 132, Shared: 227 << 10}
	for _, c := range []struct {
		what string
		product
		sum    bool
		kernel string
		grid   [3]int
	}{
		{"a long prompt", product{[3]int{256, 64, 64}, 256, 1, 2048, 1, 1}, false, "wgmma_256", [3]int{8, 48, 1}},
		{"its output", product{[3]int{256}, 896, 8, 2048, 1, 1}, true, "wgmma_256", [3]int{8, 32, 1}},
		{"a short one", product{[3]int{256, 64, 64}, 256, 1, 512, 1, 1}, false, "wgmma_128", [3]int{4, 48, 1}},
		{"its output", product{[3]int{256}, 256, 8, 512, 1, 1}, false, "wgmma_256", [3]int{2, 32, 8}},
		{"rows that leave much of 256 empty", product{[3]int{896, 896}, 256, 1, 600, 1, 1}, false, "wgmma_128", [3]int{5, 224, 1}},
		{"a hundred sequences", product{[3]int{256, 64, 64}, 256, 1, 100, 1, 1}, false, "gemm_11_64", [3]int{2, 96, 1}},
		{"two terms", product{[3]int{256, 64, 64}, 256, 1, 2048, 2, 1}, false, "gemm_21_128", [3]int{16, 48, 1}},
	} {
		l := c.many(card, c.sum)
		if l.Kernel != c.kernel || l.Grid != c.grid || l.Shared > card.Shared {
			t.Errorf("%s: %s, %v, %d bytes, want %s, %v", c.what, l.Kernel, l.Grid, l.Shared, c.kernel, c.grid)
		}
		for _, capability := range []int{80, 89, 100, 120} {
			other := card
			if other.Capability = capability; !strings.HasPrefix(c.many(other, c.sum).Kernel, "gemm") {
				t.Errorf("%s: wgmma for %d", c.what, capability)
			}
		}
	}
}

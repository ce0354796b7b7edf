package ptx_test

import (
	"testing"

	"lockstep/shard/gpu/ptx"
)

// BenchmarkInstructions are ordinary instructions of whole warps: the rate is of lanes.
func BenchmarkInstructions(b *testing.B) {
	const rounds = 1000
	module, err := ptx.Parse(source(1, "mov.u32 %x, 0;\nmov.f32 %f, 0f3F800000;\nAGAIN:\nfma.rn.f32 %f, %f, %f, %f;\nadd.s32 %x, %x, 1;\n"+
		"shl.b32 %y, %x, 3;\nsetp.lt.s32 %q, %x, 1000;\n@%q bra AGAIN;\nret;"))
	if err != nil {
		b.Fatal(err)
	}
	benchmark(b, module, 5*rounds*32, "lane-instructions/s")
}

// BenchmarkProducts are products of 16x16 and 16x8 numbers that differ.
func BenchmarkProducts(b *testing.B) {
	const rounds = 100
	module, err := ptx.Parse(source(1, globalIndex+`
		mad.lo.s32 %v, %i, 65537, 1065369472;
		mov.u32 %k, 0;
		AGAIN:
		mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%c0,%c1,%c2,%c3}, {%v,%v,%v,%v}, {%v,%v}, {%c0,%c1,%c2,%c3};
		add.s32 %k, %k, 1;
		setp.lt.s32 %q, %k, 100;
		@%q bra AGAIN;
		ret;`))
	if err != nil {
		b.Fatal(err)
	}
	benchmark(b, module, rounds, "products/s")
}

// benchmark runs one warp of kernel k, in which something happens so often.
func benchmark(b *testing.B, module *ptx.Module, count int, unit string) {
	var memory ptx.Memory
	at := memory.Alloc(8)
	l := ptx.Launch{Kernel: "k", Grid: [3]int{1, 1, 1}, Threads: [3]int{32, 1, 1}, Core: ptx.Hopper}
	for b.Loop() {
		if _, err := module.Run(&memory, l, at); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), unit)
}

package ptx_test

import (
	"slices"
	"strings"
	"testing"

	"lockstep/shard/gpu/kernels"
	"lockstep/shard/gpu/ptx"
)

// replaced replaces texts, which must be there, two by two.
func replaced(text string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			panic(pairs[i] + " is not in the text")
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// refused runs a kernel and wants an error that says so.
func refused(t *testing.T, what, want, text string, l ptx.Launch, inputs ...[]uint64) {
	t.Helper()
	if _, err := run(t, text, l, inputs...); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error %v, want one that says %q", what, err, want)
	}
}

func TestRefusesAccesses(t *testing.T) {
	out := func() []uint64 { return make([]uint64, 64) }
	shared := ptx.Launch{Threads: [3]int{32}, Shared: 64}
	for _, c := range []struct{ what, want, body string }{
		{"over the end", "outside every allocation", "add.s64 %a, %p0, 504;\nld.global.v2.u64 {%x, %y}, [%a];\nret;"},
		{"before the beginning", "outside every allocation", "ld.global.u32 %x, [%p0+-4];\nret;"},
		{"no address", "outside every allocation", "mov.u64 %z, 0;\nst.global.u32 [%z], 1;\nret;"},
		{"between two numbers", "not aligned to 4 bytes", "ld.global.u32 %x, [%p0+2];\nret;"},
		{"a vector on half of its size", "not aligned to 16 bytes", "st.global.v4.u32 [%p0+8], {%x, %x, %x, %x};\nret;"},
		{"behind shared memory", "outside", "mov.u32 %m, memory;\nld.shared.u32 %x, [%m+64];\nret;"},
		{"between two of shared memory", "not aligned to 8 bytes", "mov.u32 %m, memory;\nld.shared.u64 %x, [%m+4];\nret;"},
		{"a bulk copy of 8 bytes", "not aligned to 16", "mov.u32 %m, memory;\nmbarrier.init.shared::cta.b64 [%m], 1;\n" +
			"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%m+16], [%p0], 8, [%m];\nret;"},
		{"a bulk copy from over the end", "outside every allocation", "mov.u32 %m, memory;\nmbarrier.init.shared::cta.b64 [%m], 1;\n" +
			"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%m+16], [%p0+496], 32, [%m];\nret;"},
		{"division by zero", "division by zero", "mov.u32 %x, 0;\ndiv.s32 %y, %x, %x;\nret;"},
	} {
		refused(t, c.what, c.want, source(1, c.body), shared, out())
	}
}

// Freed memory is nobody's.
func TestRefusesFreedMemory(t *testing.T) {
	module, err := ptx.Parse(source(1, "ld.global.u32 %x, [%p0];\nret;"))
	if err != nil {
		t.Fatal(err)
	}
	var memory ptx.Memory
	at := memory.Alloc(8)
	l := ptx.Launch{Kernel: "k", Grid: [3]int{1, 1, 1}, Threads: [3]int{1, 1, 1}}
	if _, err := module.Run(&memory, l, at); err != nil {
		t.Fatal(err)
	}
	memory.Free(at)
	if _, err := module.Run(&memory, l, at); err == nil {
		t.Error("freed memory was read")
	}
	if _, err := module.Run(&memory, l, int32(1)); err == nil {
		t.Error("an argument of 4 bytes was taken for one of 8")
	}
	if _, err := module.Run(&memory, l); err == nil {
		t.Error("an argument was missing, and nobody cared")
	}
}

// A kernel that may begin before those before it have ended touches nothing that they write until it has waited.
func TestRefusesWhatDoesNotWait(t *testing.T) {
	one := ptx.Launch{Threads: [3]int{32}}
	for _, c := range []struct{ what, want, body string }{
		{"a write", "written before griddepcontrol.wait", "st.global.u32 [%p0], 1;\ngriddepcontrol.wait;\nret;"},
		{"no wait", "ends without griddepcontrol.wait", "setp.eq.u32 %q, %m, %m;\n@%q ret;\ngriddepcontrol.wait;\nret;"},
		{"a read", "", "ld.global.u32 %x, [%p0];\ngriddepcontrol.wait;\nst.global.u32 [%p0], 1;\nret;"},
	} {
		if c.want != "" {
			refused(t, c.what, c.want, source(1, c.body), one, make([]uint64, 4))
			continue
		}
		module, err := ptx.Parse(source(1, c.body))
		if err != nil {
			t.Fatal(err)
		}
		var memory ptx.Memory
		at, l := memory.Alloc(8), ptx.Launch{Kernel: "k", Grid: [3]int{1, 1, 1}, Threads: [3]int{1, 1, 1}}
		if _, err := module.Run(&memory, l, at); err != nil {
			t.Errorf("%s of what no kernel has written: %v", c.what, err)
		}
		if _, err := module.Run(&memory, l, at); err == nil || !strings.Contains(err.Error(), "a kernel has written to this memory") {
			t.Errorf("%s of what a kernel has written: %v", c.what, err)
		}
	}
}

func TestRefusesRaces(t *testing.T) {
	l := ptx.Launch{Threads: [3]int{96}, Shared: 4 * 96}
	out := func() []uint64 { return make([]uint64, 96) }
	if _, err := run(t, source(1, reverse), l, out()); err != nil {
		t.Fatal(err)
	}
	refused(t, "no barrier between write and read", "race", source(1, replaced(reverse, "bar.sync 0;", "")), l, out())
	refused(t, "no barrier between read and write", "race", source(1, replaced(reverse, putR, "st.shared.u32 [%m+16], %r;\n"+putR)), l,
		out())
	refused(t, "two warps write the same", "race", source(1, "mov.u32 %m, memory;\nst.shared.u32 [%m], 1;\nret;"), l, out())
}

func TestRefusesWhatNotAllReach(t *testing.T) {
	apart := globalIndex + "setp.lt.s32 %q, %t, 7;\n@%q bra APART;\nWHAT\nret;\nAPART:\nadd.s32 %x, %t, 1;\nret;"
	l := ptx.Launch{Threads: [3]int{32}, Shared: 512}
	for _, what := range []string{"bar.sync 0;", "shfl.sync.bfly.b32 %x, %t, 1, 31, -1;",
		"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%x0, %x1, %x2, %x3}, [%m];",
		"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%d0,%d1,%d2,%d3}, {%x0,%x1,%x2,%x3}, {%y0,%y1}, {%d0,%d1,%d2,%d3};"} {
		refused(t, what, "not all threads of the warp reach", source(1, replaced(apart, "WHAT", what)), l, []uint64{0})
	}
}

func TestRefusesDeadlocks(t *testing.T) {
	data, _ := ringData()
	out := func() []uint64 { return make([]uint64, 32) }
	for _, c := range []struct{ what, old, new string }{
		{"no bytes come", "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%from], 256, [%bar];", ""},
		{"fewer bytes come than were announced", "[%bar], 256;", "[%bar], 512;"},
		{"more bytes come than were announced", "[%bar], 256;", "[%bar], 128;"},
		{"nobody says that a stage is vacant", "@!%first mbarrier.arrive.shared::cta.b64 _, [%bar+16];", ""},
		{"a barrier for more than there are", "mbarrier.init.shared::cta.b64 [%m+8], 1;", "mbarrier.init.shared::cta.b64 [%m+8], 2;"},
		{"the others wait at a barrier", "@%others ret;", "bar.sync 1;\n@%others ret;"},
	} {
		refused(t, c.what, "deadlock", source(2, replaced(ring, c.old, c.new)), ringLaunch, out(), data)
	}
	refused(t, "a barrier that was never made", "no mbarrier", source(2, replaced(ring, "mbarrier.init.shared::cta.b64 [%m+24], 1;", "")),
		ringLaunch, out(), data)
	refused(t, "no barrier behind the making of barriers", "race", source(2, replaced(ring, "bar.sync 0;", "")), ringLaunch, out(), data)
	announced := "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 256;\n"
	refused(t, "the producer arrives twice", "more arrivals", source(2, replaced(ring, announced, announced+announced)), ringLaunch, out(),
		data)
	_, sums := ringData()
	got, err := run(t, source(2, replaced(ring, "@!%done bra FULL;", "")), ringLaunch, out(), data)
	if err == nil && slices.Equal(got[0], sums) {
		t.Error("nobody waits for what is copied, and it was there all the same")
	}
}

func TestRefusesLoopsWithoutEnd(t *testing.T) {
	l := ptx.Launch{Threads: [3]int{32}, Instructions: 10_000}
	refused(t, "a loop", "no end after 10000 instructions", source(1, "AGAIN:\nadd.s32 %x, %x, 1;\nbra AGAIN;"), l, []uint64{0})
	must(t, source(1, "mov.u32 %x, 0;\nAGAIN:\nadd.s32 %x, %x, 1;\nsetp.lt.s32 %q, %x, 3000;\n@%q bra AGAIN;\nret;"), l, []uint64{0})
}

func TestRefusesToParse(t *testing.T) {
	for _, c := range []struct{ what, want, text string }{
		{"an addition that may be contracted", "add.f32 may be contracted", source(1, "add.f32 %x, %y, %z;\nret;")},
		{"a product", "mul.f32 may be contracted", source(1, "mul.f32 %x, %y, %z;\nret;")},
		{"an approximation", "ex2.approx.f32 may be contracted or approximated", source(1, "ex2.approx.f32 %x, %y;\nret;")},
		{"a division", "div.approx.f32 may be", source(1, "div.approx.f32 %x, %y, %z;\nret;")},
		{"flushed subnormals", "fma.rn.ftz.f32 is not known", source(1, "fma.rn.ftz.f32 %x, %y, %z, %x;\nret;")},
		{"an unknown instruction", "tcgen05.fence::before_thread_sync is not known", source(1, "tcgen05.fence::before_thread_sync;\nret;")},
		{"a product of another shape", "is not known",
			source(1, "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%a}, {%b}, {%c}, {%a};\nret;")},
		{"an unknown operand", `operand "memory2" is not understood`, source(1, "mov.u32 %x, memory2;\nret;")},
		{"an unknown label", "no label THERE", source(1, "bra THERE;")},
		{"a label behind the end", "no label END", source(1, "bra END;\nEND:")},
		{"no end", "has no end", source(1, "mov.u32 %x, 1;")},
		{"an end for some", "has no end", source(1, "setp.eq.s32 %q, 1, 1;\n@%q ret;")},
		{"nothing", "has no end", source(0, "")},
		{"half a text", "the text ends within kernel k", strings.TrimSuffix(source(1, "ret;"), "}\n")},
		{"an instruction outside a kernel", "outside a kernel", "ret;\n"},
		{"a huge variable", "a size of", source(1, ".shared .align 4 .b8 x[99999999];\nret;")},
	} {
		if _, err := ptx.Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.what, err, c.want)
		}
	}
}

// joined is what TestRefusesFaultsOfKernels launches: kernel join of two rows.
func joined(t *testing.T, text string, missing int) error {
	module, err := ptx.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	const n, rows, parts = 96, 2, 8
	var memory ptx.Memory
	r := random(10)
	floats := func(count int) uint64 {
		at := memory.Alloc(4 * count)
		for i := range count {
			bits := bitsOf(float32(r.NormFloat64()))
			for j := range 4 {
				memory.Bytes(at, 4*count)[4*i+j] = byte(bits >> (8 * j))
			}
		}
		return at
	}
	_, err = module.Run(&memory, ptx.Launch{Kernel: "join", Grid: [3]int{rows, 1, 1}, Threads: [3]int{256, 1, 1}, Shared: 8 * n,
		Core: ptx.Hopper},
		floats(rows*n), floats(parts*rows*n), uint64(rows*n), int32(n), int32(parts), uint64(0), uint64(0), uint64(0),
		memory.Alloc(2*rows*n-missing), floats(n), uint64(0), uint64(0), uint64(0), uint64(0), int32(n), int32(n/16), int32(1),
		float32(1e-5))
	return err
}

// A kernel that ships, without one of its barriers, and with an output that lacks its last number.
func TestRefusesFaultsOfKernels(t *testing.T) {
	code, err := kernels.Module("rows", "compute_80")
	if err != nil {
		t.Fatal(err)
	}
	text := string(code)
	if err := joined(t, text, 0); err != nil {
		t.Fatal(err)
	}
	if err := joined(t, text, 2); err == nil || !strings.Contains(err.Error(), "outside every allocation") {
		t.Errorf("an output without its last number: error %v", err)
	}
	from := strings.Index(text, ".visible .entry join(")
	to := from + strings.Index(text[from+1:], ".visible .entry")
	if to < from {
		to = len(text)
	}
	found := 0 // a barrier before what is not done here is not missed
	for at := from; ; {
		next := strings.Index(text[at:to], "bar.sync")
		if next < 0 {
			break
		}
		at += next + 1
		end := at + strings.Index(text[at:], ";")
		if err := joined(t, text[:at-1]+"mov.u32 %nothing, 0"+text[end:], 0); err != nil {
			if !strings.Contains(err.Error(), "race") {
				t.Errorf("without a barrier: error %v", err)
			}
			found++
		}
	}
	if found < 2 {
		t.Errorf("%d barriers of join were missed", found)
	}
}

package ptx_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"lockstep/shard/gpu/ptx"
)

// descriptor describes B in shared memory from an address on, eight columns so many bytes apart.
func descriptor(at, apart int) uint64 { return 3<<62 | uint64(apart/16)<<32 | 1<<16 | uint64(at/16) }

// warpgroupProduct is a kernel of 128 threads that copies p1, so many KB, to shared memory, and multiplies: of each thread p2 has four
// registers of A, and p0 its sums, which it adds to twice.
func warpgroupProduct(columns, size int, descriptor uint64) string {
	var text, stores, sums strings.Builder
	text.WriteString(globalIndex + "mov.u32 %m, memory;\nmad.lo.s32 %s, %t, 8, %m;\nadd.s64 %from, %p1, %o;\n")
	for i := range size {
		fmt.Fprintf(&text, "ld.global.u64 %%v, [%%from+%d];\nst.shared.u64 [%%s+%d], %%v;\n", i<<10, i<<10)
	}
	text.WriteString("fence.proxy.async.shared::cta;\nbar.sync 0;\nmul.wide.u32 %by, %i, 32;\nadd.s64 %from, %p2, %by;\n")
	for i := range 4 {
		fmt.Fprintf(&text, "ld.global.u64 %%a%d, [%%from+%d];\n", i, 8*i)
	}
	fmt.Fprintf(&text, "mul.wide.u32 %%by, %%i, %d;\nadd.s64 %%to, %%p0, %%by;\n", 8*columns/2)
	for i := range columns / 2 {
		fmt.Fprintf(&text, "ld.global.u64 %%d%d, [%%to+%d];\n", i, 8*i)
		fmt.Fprintf(&stores, "st.global.u64 [%%to+%d], %%d%d;\n", 8*i, i)
		fmt.Fprintf(&sums, ", %%d%d", i)
	}
	product := fmt.Sprintf("wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16 {%s}, {%%a0, %%a1, %%a2, %%a3}, %%b, 1, 1, 1, 0;\n",
		columns, sums.String()[2:])
	fmt.Fprintf(&text, "mov.u64 %%b, %d;\nwgmma.fence.sync.aligned;\n%[2]s%[2]swgmma.commit_group.sync.aligned;\n", descriptor, product)
	return text.String() + "wgmma.wait_group.sync.aligned 0;\n" + stores.String() + "ret;"
}

// A warpgroup's product holds A and the sums in lanes, each warp 16 rows, and B in shared memory, as the PTX manual says (sections "Matrix
// Fragments for wgmma.mma_async.m64nNk16" and "Shared Memory Matrix Layout", K-major, 32-byte swizzling): without the swizzle a column's 16
// numbers are 32 bytes, and bit 7 of an address changes bit 4.
func TestWarpgroupProductLayout(t *testing.T) {
	for _, c := range []struct{ columns, at, apart int }{{8, 0, 256}, {16, 256, 1024}, {24, 512, 512}, {256, 256, 256}} {
		r := random(11)
		numbers := func(count int) []uint16 {
			all := make([]uint16, count)
			for i := range all {
				switch r.IntN(40) {
				case 0:
					all[i] = []uint16{0x7f80, 0xff80, 0x7fc0}[r.IntN(3)]
				case 1, 2, 3:
				default:
					all[i] = uint16(r.Uint32())&0x807f | uint16(120+r.IntN(12))<<7
				}
			}
			return all
		}
		size := (c.at + (c.columns/8-1)*c.apart + 256 + 1023) >> 10
		a, b, image := numbers(64*16), numbers(c.columns*16), make([]byte, size<<10)
		clear(b[:16])
		for i, v := range b {
			at := c.at + i/16/8*c.apart + i/16%8*32 + i%16*2
			binary.LittleEndian.PutUint16(image[at^at>>7&1<<4:], v)
		}
		shared, parts := make([]uint64, size<<7), make([]uint64, 128*4)
		sums := list(128*c.columns/2, func() uint64 { return bitsOf(float32(r.NormFloat64())) })
		for i := range shared {
			shared[i] = binary.LittleEndian.Uint64(image[8*i:])
		}
		for i := range parts { // a thread's pair i: row g of its warp's, below it for i odd; columns from 2t, 8 further for i > 1
			thread, pair := i/4, i%4
			at := (thread/32*16+thread%32/4+pair%2*8)*16 + thread%4*2 + pair/2*8
			parts[i] = uint64(a[at]) | uint64(a[at+1])<<16
		}
		got := must(t, source(3, warpgroupProduct(c.columns, size, descriptor(c.at, c.apart))),
			ptx.Launch{Threads: [3]int{128}, Shared: size << 10}, sums, shared, parts)[0]
		for i, start := range sums {
			thread, sum := i/(c.columns/2), i%(c.columns/2)
			row, column := thread/32*16+thread%32/4+sum/2%2*8, sum/4*8+thread%4*2+sum%2
			left, right := (*[16]uint16)(a[row*16:]), (*[16]uint16)(b[column*16:])
			if want := ptx.Hopper.Dot(left, right, ptx.Hopper.Dot(left, right, uint32(start))); uint32(got[i]) != want {
				t.Fatalf("%+v: row %d, column %d: %#x, want %#x", c, row, column, got[i], want)
			}
		}
	}
}

func TestRefusesFaultsOfWarpgroups(t *testing.T) {
	text := warpgroupProduct(16, 2, descriptor(256, 1024))
	l := ptx.Launch{Threads: [3]int{128}, Shared: 2048}
	inputs := func() [][]uint64 {
		return [][]uint64{make([]uint64, 128*8), make([]uint64, 256), make([]uint64, 128*4)}
	}
	if _, err := run(t, source(3, text), l, inputs()...); err != nil {
		t.Fatal(err)
	}
	const fence, commit, wait = "wgmma.fence.sync.aligned;\n", "wgmma.commit_group.sync.aligned;\n", "wgmma.wait_group.sync.aligned 0;\n"
	const proxy = "fence.proxy.async.shared::cta;\n"
	stores := text[strings.Index(text, wait)+len(wait):]
	second := strings.LastIndex(text, "wgmma.mma_async")
	other := func(product string) string {
		return text[:second] + product + "\n" + text[strings.Index(text, commit):]
	}
	under, late := "nobody has waited for it", "used behind the last wgmma.fence"
	for _, c := range []struct{ what, want, text string }{
		{"nobody waits", under, replaced(text, wait, "")},
		{"the last group is not waited for", under, replaced(text, wait, "wgmma.wait_group.sync.aligned 1;\n")},
		{"what is waited for is in no group", under, replaced(text, commit, "")},
		{"sums are written before", under, replaced(text, wait, "mov.u64 %d3, 0;\n"+wait)},
		{"A is written before", under, replaced(text, wait, "mov.u64 %a1, 0;\n"+wait)},
		{"an end before", "an end before products", replaced(text, wait+stores, "ret;")},
		{"no fence", late, replaced(text, fence, "")},
		{"sums that are set behind the fence", "sums that were " + late, replaced(text, fence, fence+"mov.u64 %d0, 0;\n")},
		{"A that is set behind the fence", "A that was " + late, replaced(text, fence, fence+"mov.u64 %a3, 0;\n")},
		{"sums of another product", "of another product", other("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 " +
			"{%d0, %d1, %d2, %d3}, {%a0, %a1, %a2, %a3}, %b, 1, 1, 1, 0;")},
		{"sums as A", "of another product", other("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 " +
			"{%e0, %e1, %e2, %e3}, {%d0, %d1, %d2, %d3}, %b, 1, 1, 1, 0;")},
		{"A as sums", "of another product", other("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 " +
			"{%a0, %a1, %a2, %a3}, {%e0, %e1, %e2, %e3}, %b, 1, 1, 1, 0;")},
		{"no fence between writes and the product", "without fence.proxy.async", replaced(text, proxy, "")},
		{"a fence before the writes", "without fence.proxy.async", proxy + replaced(text, proxy, "")},
		{"a write to B", "a product that is under way reads it", replaced(text, wait, "st.shared.u64 [%s+256], %v;\n"+wait)},
		{"a copy to B", "a product that is under way reads it",
			replaced(text, wait, "cp.async.cg.shared.global [%m+256], [%p1], 16;\n"+wait)},
		{"a bulk copy to B", "a bulk copy to shared address", replaced(text, wait, "setp.eq.s32 %q, %t, 0;\n"+
			"@%q mbarrier.init.shared::cta.b64 [%m], 1;\n"+
			"@%q cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%m+256], [%p1], 16, [%m];\n"+wait)},
		{"a write to B that others read", "race", replaced(text, wait, wait+"st.shared.u64 [%s+256], %v;\n")},
		{"a barrier between the product and its end, and then a write", "race", replaced(text, wait, "bar.sync 0;\n"+wait+
			"setp.ge.s32 %q, %t, 96;\n@%q st.shared.u64 [%m+256], %v;\n")},
		{"lanes that are elsewhere", "not all threads of the warp reach", replaced(text, fence, "setp.lt.s32 %q, %t, 7;\n@%q bra APART;\n"+
			fence, stores, stores+"\nAPART:\nret;")},
		{"lanes that have returned", "which have returned", replaced(text, fence, "setp.lt.s32 %q, %t, 7;\n@%q ret;\n"+fence)},
		{"a warp that has returned", "not to the same", replaced(text, fence, "setp.lt.s32 %q, %t, 96;\n@!%q ret;\n"+fence)},
		{"a warp that waits elsewhere", "not to the same", replaced(text, fence, "setp.lt.s32 %q, %t, 96;\n@%q bra HERE;\nbar.sync 0;\n"+
			"ret;\nHERE:\n"+fence, stores, "bar.sync 0;\n"+stores)},
		{"a warp that leaves an operation out", "do not come to the same operations",
			replaced(text, commit, "setp.ge.s32 %q, %t, 64;\n@%q bra OUT;\n"+commit+"OUT:\n")},
		{"warps that read another B", "warps of a warpgroup have different descriptors",
			replaced(text, fence, "shr.u32 %x, %t, 5;\nmul.wide.u32 %y, %x, 16;\nadd.s64 %b, %b, %y;\n"+fence)},
		{"lanes that read another B", "threads of a warp have different descriptors",
			replaced(text, fence, "mul.wide.u32 %y, %t, 16;\nadd.s64 %b, %b, %y;\n"+fence)},
	} {
		refused(t, c.what, c.want, source(3, c.text), l, inputs()...)
	}
	l.Threads[0] = 96
	refused(t, "three warps", "no four warps", source(3, text), l, inputs()...)
}

func TestRefusesDescriptors(t *testing.T) {
	good := descriptor(256, 1024)
	for _, c := range []struct {
		what, want string
		descriptor uint64
	}{
		{"no swizzle", "swizzle mode 0", good &^ (3 << 62)},
		{"128 bytes", "swizzle mode 1", good &^ (2 << 62)},
		{"a leading offset", "leading offset is 2", good + 1<<16},
		{"a base offset", "base offset 1", good | 1<<49},
		{"half a pattern further", "not aligned to 256", descriptor(256+128, 1024)},
		{"patterns that are half a pattern apart", "not aligned to 256", descriptor(256, 1024+128)},
		{"bits that are not there", "bits that mean nothing", good | 1<<15},
		{"the end of shared memory", "outside", descriptor(1024, 1024)},
	} {
		refused(t, c.what, c.want, source(3, warpgroupProduct(16, 2, c.descriptor)), ptx.Launch{Threads: [3]int{128}, Shared: 2048},
			make([]uint64, 128*8), make([]uint64, 256), make([]uint64, 128*4))
	}
}

func TestRefusesToParseProductsOfWarpgroups(t *testing.T) {
	good := "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%d0, %d1, %d2, %d3}, {%a0, %a1, %a2, %a3}, %b, 1, 1, 1, 0;\nret;"
	if _, err := ptx.Parse(source(1, good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, want, text string }{
		{"A in shared memory", "1 of A", replaced(good, "{%a0, %a1, %a2, %a3}", "%a")},
		{"sums that are not added to", "is not known", replaced(good, "%b, 1", "%b, 0")},
		{"a negated factor", "is not known", replaced(good, "1, 1, 1", "1, -1, 1")},
		{"a transposed factor", "is not known", replaced(good, "1, 0", "1, 1")},
		{"another type", "is not known", replaced(good, "bf16.bf16", "f16.f16")},
		{"12 columns", "is not known", replaced(good, "n8k16", "n12k16")},
		{"16 columns of 8", "4 registers of sums", replaced(good, "n8k16", "n16k16")},
		{"another operation", "is not known", "wgmma.load.sync.aligned;\nret;"},
	} {
		if _, err := ptx.Parse(source(1, c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.what, err, c.want)
		}
	}
}

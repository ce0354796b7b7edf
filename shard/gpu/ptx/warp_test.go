package ptx_test

import (
	"slices"
	"testing"

	"lockstep/shard/gpu/ptx"
)

// Lanes that branch apart compute their own, and meet where their ways do: a shuffle behind that finds all of them.
func TestDivergence(t *testing.T) {
	out := must(t, source(1, globalIndex+`
		mov.u32 %r, 0;
		and.b32 %low, %i, 3;
		setp.eq.s32 %q0, %low, 0;
		@%q0 bra JOIN;
		setp.eq.s32 %q1, %low, 1;
		@%q1 bra ONE;
		mov.u32 %k, 0;
		LOOP:
		add.s32 %r, %r, 10;
		add.s32 %k, %k, 1;
		setp.lt.s32 %q2, %k, %i;
		@%q2 bra LOOP;
		bra JOIN;
		ONE:
		mov.u32 %r, 1;
		JOIN:
		@%q0 add.s32 %r, %r, 7;
		@!%q0 add.s32 %r, %r, 1000;
		shfl.sync.bfly.b32 %r|%ignored, %r, 1, 31, -1;
		`+putR), threads(32), make([]uint64, 32))[0]
	for i := range uint64(32) {
		other := i ^ 1
		want := 1000 + 10*other
		switch other & 3 {
		case 0:
			want = 7
		case 1:
			want = 1001
		}
		if out[i] != want {
			t.Errorf("lane %d has %d, want %d", i, out[i], want)
		}
	}
}

// A lane that has returned computes nothing any more, and the others need not wait for it.
func TestReturn(t *testing.T) {
	out := must(t, source(1, globalIndex+`
		setp.ge.s32 %q, %i, 40;
		@%q ret;
		bar.sync 0;
		mov.u32 %r, 5;
		`+putR), threads(70), slices.Repeat([]uint64{9}, 70))[0]
	for i, v := range out {
		if want := map[bool]uint64{true: 5, false: 9}[i < 40]; v != want {
			t.Errorf("thread %d has %d, want %d", i, v, want)
		}
	}
}

func TestShuffles(t *testing.T) {
	for _, c := range []struct {
		mode, by string
		from     func(lane int) int
	}{
		{"bfly", "5", func(lane int) int { return lane ^ 5 }},
		{"idx", "9", func(int) int { return 9 }},
		{"idx", "%i", func(lane int) int { return lane }},
		{"down", "4", func(lane int) int { // over the end a lane keeps its own
			if lane < 28 {
				return lane + 4
			}
			return lane
		}},
	} {
		out := must(t, source(1, globalIndex+"mul.lo.s32 %x, %i, 3;\nshfl.sync."+c.mode+".b32 %r, %x, "+c.by+", 31, -1;\n"+putR),
			threads(32),
			make([]uint64, 32))[0]
		for lane, v := range out {
			if want := uint64(3 * c.from(lane)); v != want {
				t.Errorf("%s by %s: lane %d has %d, want %d", c.mode, c.by, lane, v, want)
			}
		}
	}
}

// Warps hand numbers over in shared memory, with a barrier between.
const reverse = globalIndex + `
	mov.u32 %m, memory;
	mad.lo.s32 %s, %t, 4, %m;
	st.shared.u32 [%s], %i;
	bar.sync 0;
	sub.s32 %other, %n, %t;
	mad.lo.s32 %s, %other, 4, %m;
	ld.shared.u32 %r, [%s+-4];
` + putR

func TestBarrier(t *testing.T) {
	out := must(t, source(1, reverse), ptx.Launch{Grid: [3]int{3}, Threads: [3]int{96}, Shared: 4 * 96, Workers: 2}, make([]uint64, 288))[0]
	for i, v := range out {
		if want := uint64(i/96*96 + 95 - i%96); v != want {
			t.Fatalf("thread %d has %d, want %d", i, v, want)
		}
	}
}

// What cp.async copies shows when its group has been waited for, not before, and a smaller size leaves zeros behind.
func TestAsyncCopies(t *testing.T) {
	body := globalIndex + `
		mov.u32 %m, memory;
		mad.lo.s32 %s, %t, 32, %m;
		shl.b64 %twice, %o, 1;
		add.s64 %from, %p1, %twice;
		cp.async.cg.shared.global [%s], [%from], 16, SIZE;
		cp.async.commit_group;
		cp.async.cg.shared.global [%s+16], [%from], 16;
		cp.async.commit_group;
		cp.async.wait_group KEPT;
		ld.shared.u64 %r, [%s+AT];
	` + putR
	data := make([]uint64, 64)
	for i := range data {
		data[i] = uint64(1000 + i)
	}
	const fresh = 1<<64 - 1
	for _, c := range []struct {
		size, kept, at string
		want           func(thread int) uint64
	}{
		{"16", "0", "8", func(thread int) uint64 { return uint64(1001 + 2*thread) }},
		{"8", "1", "0", func(thread int) uint64 { return uint64(1000 + 2*thread) }},
		{"8", "0", "8", func(int) uint64 { return 0 }},
		{"0", "0", "0", func(int) uint64 { return 0 }},
		{"16", "1", "24", func(int) uint64 { return fresh }},
		{"16", "2", "0", func(int) uint64 { return fresh }},
	} {
		out := must(t, source(2, replaced(body, "SIZE", c.size, "KEPT", c.kept, "AT", c.at)), ptx.Launch{Threads: [3]int{32}, Shared: 1024},
			make([]uint64, 32), data)[0]
		for thread, v := range out {
			if v != c.want(thread) {
				t.Fatalf("%+v: thread %d has %d, want %d", c, thread, v, c.want(thread))
			}
		}
	}
}

// ring is a producer, warp 1, that fills two stages of 256 bytes over and over by bulk copies, and a consumer, warp 0, that adds what they
// hold: barriers at memory, full ones and then vacant ones, stages from 128 on.
const ring = globalIndex + `
	mov.u32 %m, memory;
	setp.ne.s32 %first, %t, 0;
	@%first bra MADE;
	mbarrier.init.shared::cta.b64 [%m], 1;
	mbarrier.init.shared::cta.b64 [%m+8], 1;
	mbarrier.init.shared::cta.b64 [%m+16], 1;
	mbarrier.init.shared::cta.b64 [%m+24], 1;
	MADE:
	bar.sync 0;
	mov.u64 %r, 0;
	mov.u32 %piece, 0;
	setp.ge.s32 %isProducer, %t, 32;
	@%isProducer bra PRODUCE;
	CONSUME:
	and.b32 %stage, %piece, 1;
	shr.u32 %parity, %piece, 1;
	and.b32 %parity, %parity, 1;
	mad.lo.s32 %bar, %stage, 8, %m;
	FULL:
	mbarrier.try_wait.parity.shared::cta.b64 %done, [%bar], %parity;
	@!%done bra FULL;
	mad.lo.s32 %s, %stage, 256, %m;
	mad.lo.s32 %s, %t, 8, %s;
	ld.shared.u64 %v, [%s+128];
	add.s64 %r, %r, %v;
	bar.warp.sync -1;
	@!%first mbarrier.arrive.shared::cta.b64 _, [%bar+16];
	add.s32 %piece, %piece, 1;
	setp.lt.s32 %more, %piece, 7;
	@%more bra CONSUME;
	add.s64 %to, %p0, %o;
	st.global.u64 [%to], %r;
	ret;
	PRODUCE:
	setp.ne.s32 %others, %t, 32;
	@%others ret;
	NEXT:
	and.b32 %stage, %piece, 1;
	shr.u32 %parity, %piece, 1;
	and.b32 %parity, %parity, 1;
	xor.b32 %parity, %parity, 1;
	mad.lo.s32 %bar, %stage, 8, %m;
	VACANT:
	mbarrier.try_wait.parity.shared::cta.b64 %done, [%bar+16], %parity;
	@!%done bra VACANT;
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 256;
	mad.lo.s32 %s, %stage, 256, %m;
	add.s32 %s, %s, 128;
	mul.wide.u32 %by, %piece, 256;
	add.s64 %from, %p1, %by;
	cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%from], 256, [%bar];
	add.s32 %piece, %piece, 1;
	setp.lt.s32 %more, %piece, 7;
	@%more bra NEXT;
	ret;
`

// ringLaunch has the shared memory of ring.
var ringLaunch = ptx.Launch{Threads: [3]int{64}, Shared: 128 + 2*256}

func ringData() (data, sums []uint64) {
	r := random(9)
	data, sums = list(7*32, func() uint64 { return uint64(r.Uint32()) }), make([]uint64, 32)
	for i, v := range data {
		sums[i%32] += v
	}
	return data, sums
}

func TestBulkCopies(t *testing.T) {
	data, want := ringData()
	if got := must(t, source(2, ring), ringLaunch, make([]uint64, 32), data)[0]; !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
}

#include "common.cuh"
#include "tiles.cuh"

// Products y = W x of many rows by products of warpgroups (wgmma), which only cards of compute capability 9.0 have: of one term of x and of
// W, of up to three matrices and the same x. A block has two warpgroups, each of which computes 64 outputs, a warp a tile, of ROWS rows. x
// comes through a ring of stages of PIECE steps, by asynchronous copies, and products read it there; a warp's weights, which no other warp
// reads, go from memory to its registers, a piece ahead. y, chunks and sum are gemm.cu's.
//
// Order of the sums: linear.cu's, one chain a chunk and output: a step at a time, from zero. Chunks are added as common.cuh's tree adds
// them.
//
// x has the columns of a step in their order, and packed weights in that of fragments. A lane gets weights in the order of x by two loads
// of 8 bytes in place of one of 16: of outputs g and g+8 the columns from 2t on, which one lane of its four has, and those 8 further, of
// another.
//
// Roof: the tensor cores' rate, at which a step of 128 outputs and 256 rows takes 256 cycles. In these 12 KB come from the second cache,
// and shared memory and the first cache move 28 KB, of 32 that they can. Of blocks of 256 rows a multiprocessor holds one, of 128 two.
//
// Source: the PTX manual (wgmma, matrix descriptors, asynchronous proxy) and, for what waits where, CUTLASS' multistage products
// (https://github.com/NVIDIA/cutlass, cutlass/gemm/collective/sm90_mma_multistage_gmma_rs_warpspecialized.hpp).
#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#define PIECE 4     // steps of a stage
#define STAGES 6    // one that is multiplied, one that may still be, and those under way
#define PATTERN 256 // bytes: 8 rows, in which the halves of the last 4 are exchanged
#define UNIT 8      // tiles of a block

// describe makes the descriptor of a step of x in shared memory: rows of 32 bytes, whose halves are exchanged in every other 4.
static __device__ u64 describe(u32 at) { return (u64)3 << 62 | (u64)(PATTERN >> 4) << 32 | (u64)1 << 16 | at >> 4; }

#define C4(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define C16(n) C4(n), C4(n + 1), C4(n + 2), C4(n + 3)
#define C64(n) C16(n), C16(n + 4), C16(n + 8), C16(n + 12)

// multiplyAll adds the products of a warpgroup's 64 outputs, 16 of each warp, and of all rows.
static __device__ __forceinline__ void multiplyAll(float (&c)[16][4], uint4 a, u64 x) {
	asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
		"%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
		"%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
		"{%64,%65,%66,%67}, %68, 1, 1, 1, 0;"
		: C64(0) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(x));
}
static __device__ __forceinline__ void multiplyAll(float (&c)[32][4], uint4 a, u64 x) {
	asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
		"%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
		"%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
		"%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
		"%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,"
		"%122,%123,%124,%125,%126,%127}, {%128,%129,%130,%131}, %132, 1, 1, 1, 0;"
		: C64(0), C64(16) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(x));
}

static __device__ uint2 once8(const void *from) { // weights: read once, and so kept out of the first cache
	uint2 v;
	asm volatile("ld.global.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(from));
	return v;
}

// Between registers' other uses and products stands a fence; products run on until they are waited for.
static __device__ void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
static __device__ void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int GROUPS> static __device__ void waitProducts() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(GROUPS) : "memory"); }

// Piece is where a block is in its chunks.
struct Piece {
	int step, end, steps; // its first step; where its chunk ends; steps of a chunk

	__device__ void next() {
		if ((step += PIECE) >= end) step = end, end += steps;
	}
};

template <int ROWS>
static __device__ __forceinline__ void product(const Matrices &all, const u16 *x, int allSteps, int chunks, int rows, int sum) {
	constexpr int N = ROWS / 8, COPIES = ROWS / 128; // of a thread and step
	constexpr u32 STEP_BYTES = ROWS * STEP * 2, STAGE = PIECE * STEP_BYTES;
	int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, unit = blockIdx.y, half = threadIdx.x & 1, row = threadIdx.x >> 1;
	Matrix matrix = all.of(unit, UNIT);
	int tiles = matrix.tiles, firstRow = blockIdx.x * ROWS, tile = unit * UNIT + (threadIdx.x >> 5), steps = allSteps / chunks;
	int chunk = sum ? 0 : blockIdx.z, count = sum ? chunks : 1, end = (chunk + count) * steps, whole = steps / PIECE;
	size_t place = (size_t)rows * tiles * STEP;
	Piece loaded = {chunk * steps, (chunk + 1) * steps, steps}, copied = loaded;
	const unsigned char *w = matrix.w + (size_t)min(tile, tiles - 1) * allSteps * 512 + g * 64 + t * 8, *from[COPIES];
	bool there[COPIES];
	#pragma unroll
	for (int i = 0; i < COPIES; i++) {
		int at = firstRow + row + i * 128;
		from[i] = (const unsigned char *)x + (size_t)min(at, rows - 1) * 32 + half * 16, there[i] = at < rows;
	}
	u32 ring = (sharedAddress(memory) + PATTERN - 1) & ~(PATTERN - 1), to = ring + row * 32 + (half ^ (row >> 2 & 1)) * 16;
	// Behind a chunk's last step come those of the next, or the last again: these are not multiplied.
	auto load = [&](uint4 *a) {
		#pragma unroll
		for (int i = 0; i < PIECE; i++) {
			const unsigned char *at = w + (size_t)min(loaded.step + i, allSteps - 1) * 512;
			uint2 low = once8(at), high = once8(at + 32);
			a[i] = make_uint4(low.x, low.y, high.x, high.y);
		}
		loaded.next();
	};
	auto copy = [&](int stage) {
		if (copied.step < end) {
			#pragma unroll
			for (int i = 0; i < PIECE; i++) {
				size_t step = (size_t)min(copied.step + i, allSteps - 1) * rows * 32;
				#pragma unroll
				for (int j = 0; j < COPIES; j++) copy16(to + stage * STAGE + i * STEP_BYTES + j * 128 * 32, from[j] + step, there[j]);
			}
			copied.next();
		}
		asm volatile("cp.async.commit_group;" ::: "memory");
	};
	uint4 even[PIECE], odd[PIECE]; // weights of two pieces
	Sums<1, N> sums = {{}, firstRow + 2 * t, rows, tile, tiles};
	int stage = 0;
	auto arrive = [&] { // the stage's copies
		asm volatile("cp.async.wait_group %0;\nfence.proxy.async.shared::cta;" :: "n"(STAGES - 3) : "memory");
		__syncthreads();
	};
	auto add = [&](const uint4 *a, int i) { multiplyAll(sums.c[0], a[i], describe(ring + stage * STAGE + i * STEP_BYTES)); };
	auto leave = [&] {
		copy(stage < 2 ? stage + STAGES - 2 : stage - 2); // to the stage that all have left
		if (++stage == STAGES) stage = 0;
	};
	auto turn = [&](const uint4 *a, uint4 *next) {
		arrive();
		fence();
		#pragma unroll
		for (int i = 0; i < PIECE; i++) add(a, i);
		commit();
		leave();
		waitProducts<1>(); // for the piece before, whose weights make way
		load(next);
	};
	letNext();
	load(even);
	wait();
	#pragma unroll 1
	for (int i = 0; i < STAGES - 2; i++) copy(i);
	float *y = matrix.y + chunk * place + g;
	int aside = 0; // sums that are put aside
	for (int i = 0; i < count; i++) {
		sums.clear();
		#pragma unroll 1
		for (int piece = 0; piece < whole; piece += 2) {
			turn(even, odd);
			if (piece + 1 < whole) turn(odd, even);
		}
		waitProducts<0>();
		if (whole & 1) {
			#pragma unroll
			for (int j = 0; j < PIECE; j++) even[j] = odd[j];
		}
		if (whole * PIECE < steps) { // the rest, and no more: a step of zeros is not nothing to a sum of -0
			arrive();
			#pragma unroll
			for (int j = 0; j < PIECE - 1; j++) {
				if (whole * PIECE + j >= steps) break;
				fence();
				add(even, j);
				commit();
				waitProducts<0>();
			}
			leave();
			load(even);
		}
		sums.leave(y, place, i, count, aside);
	}
}

#define WGMMA(ROWS, MIN_BLOCKS) extern "C" __global__ void __launch_bounds__(256, MIN_BLOCKS) wgmma_##ROWS(MATRICES, const u16 *x, \
	int allSteps, int chunks, int rows, int sum) \
	{ product<ROWS>(GIVEN_MATRICES, x, allSteps, chunks, rows, sum); }
WGMMA(128, 2)
WGMMA(256, 1)

#endif

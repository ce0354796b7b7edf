#include "common.cuh"
#include "activation.cuh"
#include "tiles.cuh"

// Products y = W x of up to 8 NB rows, of up to three matrices and the same x, on cards of compute capability 9.0 and later. A block has a warp that copies and others that multiply,
// each a tile and a chunk of the columns. Weights and x come through a ring of stages of so many steps, by bulk copies of kilobytes that no
// register holds and a barrier in shared memory counts. Items, of as many tiles as there are warps that multiply, and a chunk each, are dealt
// out to the blocks, and the ring runs on from one to the next. y is float32, [chunk][row][tiles x 16].
//
// Kernels ring_gate take a gate and an up of as many tiles, each warp the same tile of both, and leave SiLU(gate) x up, as rows.cu's activate
// does, for a product whose chunks fill their steps: what they write are steps of its x.
//
// Order of the sums: linear.cu's, one chain a chunk and output: a step at a time, from zero, of a step W0 x0, W0 x1, W1 x0.
//
// Roof: the memory's read rate for the weights, each read once. Weights do not depend on the kernel before: what the ring holds of them is
// asked for before that has ended.
//
// Source: our own measurements' kernel; bulk copies and barriers as in the PTX manual (cp.async.bulk, mbarrier) and in CUTLASS' pipelines
// (https://github.com/NVIDIA/cutlass, cutlass/pipeline/sm90_pipeline.hpp).
#if __CUDA_ARCH__ >= 900

#define MAX_STAGES 32
#define RING_AT (2 * 8 * MAX_STAGES) // behind the barriers

static __device__ void barrierInit(u32 bar, u32 count) {
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(bar), "r"(count) : "memory");
}
static __device__ void barrierExpect(u32 bar, u32 bytes) {
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(bar), "r"(bytes) : "memory");
}
static __device__ void barrierArrive(u32 bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory"); }
static __device__ void barrierWait(u32 bar, u32 parity) {
	u32 done;
	do {
		asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
			: "=r"(done) : "r"(bar), "r"(parity) : "memory");
	} while (!done);
}
static __device__ void bulkCopy(u32 to, const void *from, u32 bytes, u32 bar) {
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
		:: "r"(to), "l"(from), "r"(bytes), "r"(bar) : "memory");
}
// Work says what is computed, and how.
struct Work {
	Matrices all;
	const unsigned char *x;
	int tiles, allSteps, chunks, rows, stages, piece; // steps of a stage
	int warps, groups, items, chunkSteps, pieces;     // that multiply; of tiles; of groups and chunks; of a chunk
	u32 full, vacant, ring, stageBytes, wBytes;       // barriers; the first stage; bytes of a stage, and in it before x
};

// Place is a place in the ring and in the work: the piece of an item that a stage takes.
struct Place {
	int item, piece, stage;
	u32 parity;

	__device__ void next(const Work &k) {
		if (++piece == k.pieces) piece = 0, item += gridDim.x;
		if (++stage == k.stages) stage = 0, parity ^= 1;
	}
	__device__ int step(const Work &k) const { return item / k.groups * k.chunkSteps + piece * k.piece; }
	__device__ int steps(const Work &k) const { return min(k.piece, k.chunkSteps - piece * k.piece); }
};

// askWeights announces a stage and asks for its weights, askInputs for its x. PAIR, here and below, is 2 where a warp takes a tile of gate
// and one of up, else 1.
template <int PAIR, int X_TERMS, int W_TERMS> static __device__ __forceinline__ void askWeights(const Work &k, const Place &at) {
	int steps = at.steps(k), group = at.item % k.groups;
	u32 bar = k.full + at.stage * 8, to = k.ring + at.stage * k.stageBytes;
	barrierExpect(bar, steps * (k.warps * PAIR * W_TERMS * 512 + X_TERMS * k.rows * 32));
	#pragma unroll 1
	for (int i = 0; i < k.warps; i++) {
		int tile = min(group * k.warps + i, k.tiles - 1); // those that are not there repeat the last
		Matrix matrix = k.all.of(tile, 1);
		#pragma unroll
		for (int j = 0; j < PAIR; j++)
			#pragma unroll
			for (int term = 0; term < W_TERMS; term++, to += k.piece * 512)
				bulkCopy(to, (j ? k.all.b.w : matrix.w) + (((size_t)term * matrix.tiles + tile) * k.allSteps + at.step(k)) * 512, steps * 512, bar);
	}
}
template <int X_TERMS> static __device__ __forceinline__ void askInputs(const Work &k, const Place &at) {
	u32 bytes = at.steps(k) * k.rows * 32, to = k.ring + at.stage * k.stageBytes + k.wBytes;
	for (int term = 0; term < X_TERMS; term++)
		bulkCopy(to + term * k.piece * k.rows * 32, k.x + ((size_t)term * k.allSteps + at.step(k)) * k.rows * 32, bytes, k.full + at.stage * 8);
}

// produce fills stages, as they become vacant, until there is no more to do.
template <int PAIR, int X_TERMS, int W_TERMS> static __device__ __forceinline__ void produce(const Work &k) {
	Place ahead = {(int)blockIdx.x, 0, 0, 0}, behind = ahead;
	#pragma unroll 1
	for (int i = 0; i < k.stages && ahead.item < k.items; i++) {
		askWeights<PAIR, X_TERMS, W_TERMS>(k, ahead);
		ahead.next(k);
	}
	wait();
	#pragma unroll 1
	for (; behind.item != ahead.item || behind.piece != ahead.piece; behind.next(k)) askInputs<X_TERMS>(k, behind);
	for (; ahead.item < k.items; ahead.next(k)) {
		barrierWait(k.vacant + ahead.stage * 8, ahead.parity ^ 1);
		askWeights<PAIR, X_TERMS, W_TERMS>(k, ahead);
		askInputs<X_TERMS>(k, ahead);
	}
}

// Batch are a lane's parts of some steps.
template <int NB, int PAIR, int X_TERMS, int W_TERMS, int STEPS> struct Batch {
	uint4 w[STEPS][PAIR][W_TERMS];
	uint2 x[STEPS][NB][X_TERMS];

	__device__ __forceinline__ void read(const Work &k, u32 wAt, const u32 *xAt, int step) {
		#pragma unroll
		for (int i = 0; i < STEPS; i++) {
			#pragma unroll
			for (int j = 0; j < PAIR; j++)
				#pragma unroll
				for (int term = 0; term < W_TERMS; term++) w[i][j][term] = shared16(wAt + ((j * W_TERMS + term) * k.piece + step + i) * 512);
			#pragma unroll
			for (int n = 0; n < NB; n++)
				#pragma unroll
				for (int term = 0; term < X_TERMS; term++) x[i][n][term] = shared8(xAt[n] + (term * k.piece + step + i) * k.rows * 32);
		}
	}
	__device__ __forceinline__ void add(float (*c)[NB][4]) {
		#pragma unroll
		for (int i = 0; i < STEPS; i++)
			#pragma unroll
			for (int pair = 0; pair < X_TERMS + W_TERMS - 1; pair++)
				#pragma unroll
				for (int n = 0; n < NB; n++)
					#pragma unroll
					for (int j = 0; j < PAIR; j++) multiply(c[j][n], w[i][j][pair < X_TERMS ? 0 : 1], x[i][n][pair < X_TERMS ? pair : 0]);
	}
};

// consume adds the products of a stage's steps; a batch is read while the one before is multiplied.
template <int NB, int PAIR, int X_TERMS, int W_TERMS>
static __device__ __forceinline__ void consume(const Work &k, float (*c)[NB][4], u32 wAt, const u32 *xAt, int steps) {
	constexpr int BATCH = NB <= 2 ? 4 : 1; // many rows are chains enough side by side
	Batch<NB, PAIR, X_TERMS, W_TERMS, BATCH> even, odd;
	int whole = steps / BATCH * BATCH;
	if (whole) even.read(k, wAt, xAt, 0);
	#pragma unroll 1
	for (int step = 0; step < whole; step += 2 * BATCH) {
		bool more = step + BATCH < whole;
		if (more) odd.read(k, wAt, xAt, step + BATCH);
		even.add(c);
		if (more) {
			if (step + 2 * BATCH < whole) even.read(k, wAt, xAt, step + 2 * BATCH);
			odd.add(c);
		}
	}
	#pragma unroll 1
	for (int step = whole; step < steps; step++) {
		Batch<NB, PAIR, X_TERMS, W_TERMS, 1> one;
		one.read(k, wAt, xAt, step);
		one.add(c);
	}
}

// ring computes sums, and has put write them: of a tile, counted over all matrices, and a chunk.
template <int NB, int PAIR, int X_TERMS, int W_TERMS, typename F>
static __device__ __forceinline__ void ring(const Matrices &all, const unsigned char *x, int allSteps, int chunks, int rows, int stages, int piece,
	F put) {
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, warps = (blockDim.x >> 5) - 1;
	int tiles = PAIR > 1 ? all.a.tiles : all.tiles();
	Work k = {all, x, tiles, allSteps, chunks, rows, stages, piece, warps, (tiles + warps - 1) / warps, 0, allSteps / chunks, 0};
	k.items = k.groups * chunks, k.pieces = (k.chunkSteps + piece - 1) / piece;
	k.full = sharedAddress(memory), k.vacant = k.full + 8 * MAX_STAGES, k.ring = k.full + RING_AT;
	k.wBytes = warps * PAIR * W_TERMS * piece * 512, k.stageBytes = k.wBytes + X_TERMS * piece * rows * 32;
	if (threadIdx.x == 0) {
		#pragma unroll 1
		for (int s = 0; s < stages; s++) barrierInit(k.full + s * 8, 1), barrierInit(k.vacant + s * 8, warps);
		asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
	}
	__syncthreads();
	letNext();
	if (warp == warps) {
		if (lane == 0) produce<PAIR, X_TERMS, W_TERMS>(k);
		return;
	}
	wait(); // the kernel before may still read what y was
	Place at = {(int)blockIdx.x, 0, 0, 0};
	while (at.item < k.items) {
		int tile = at.item % k.groups * warps + warp, chunk = at.item / k.groups;
		float c[PAIR][NB][4];
		#pragma unroll
		for (int i = 0; i < PAIR * NB * 4; i++) (&c[0][0][0])[i] = 0;
		#pragma unroll 1
		for (int p = 0; p < k.pieces; p++) {
			u32 stage = k.ring + at.stage * k.stageBytes, xAt[NB];
			#pragma unroll
			for (int n = 0; n < NB; n++) xAt[n] = stage + k.wBytes + min(n * 8 + g, rows - 1) * 32 + t * 8;
			barrierWait(k.full + at.stage * 8, at.parity);
			consume<NB, PAIR, X_TERMS, W_TERMS>(k, c, stage + warp * PAIR * W_TERMS * piece * 512 + lane * 16, xAt, at.steps(k));
			__syncwarp();
			if (lane == 0) barrierArrive(k.vacant + at.stage * 8);
			at.next(k);
		}
		if (tile >= tiles) continue;
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) {
				int row = n * 8 + 2 * t + (i & 1);
				if (row < rows) put(tile, chunk, row, g + (i >> 1) * 8, c[0][n][i], c[PAIR - 1][n][i]);
			}
	}
}

template <int NB, int X_TERMS, int W_TERMS>
static __device__ __forceinline__ void ringSums(const Matrices &all, const unsigned char *x, int allSteps, int chunks, int rows, int stages, int piece) {
	ring<NB, 1, X_TERMS, W_TERMS>(all, x, allSteps, chunks, rows, stages, piece, [&](int tile, int chunk, int row, int output, float f, float) {
		Matrix matrix = all.of(tile, 1);
		matrix.y[(((size_t)chunk * rows + row) * matrix.tiles + tile) * STEP + output] = f;
	});
}

#define RING(NB, X_TERMS, W_TERMS, NAME) extern "C" __global__ void __launch_bounds__(288, 1) NAME(MATRICES, const unsigned char *x, \
	int allSteps, int chunks, int rows, int stages, int piece) \
	{ ringSums<NB, X_TERMS, W_TERMS>(GIVEN_MATRICES, x, allSteps, chunks, rows, stages, piece); }
#define RINGS(NB, ROWS) RING(NB, 1, 1, ring_11_##ROWS) RING(NB, 2, 1, ring_21_##ROWS) RING(NB, 2, 2, ring_22_##ROWS)
RINGS(1, 8)
RINGS(2, 16)
RINGS(4, 32)
RINGS(8, 64)

// Of one term, and of the activation that most models have: each sum's is code of its own.
template <int NB>
static __device__ __forceinline__ void ringGate(u16 *to, const unsigned char *gate, const unsigned char *up, const float *gateBias, const float *upBias,
	int tiles, const unsigned char *x, int allSteps, int rows, int stages, int piece) {
	Matrices all = {{gate, 0, tiles}, {up, 0, tiles}, {0, 0, 0}};
	ring<NB, 2, 1, 1>(all, x, allSteps, 1, rows, stages, piece, [&](int tile, int, int row, int output, float v, float u) {
		if (gateBias) v += gateBias[tile * STEP + output];
		if (upBias) u += upBias[tile * STEP + output];
		to[((size_t)tile * rows + row) * STEP + output] = roundBF16(gated(SILU, v, u));
	});
}

#define RING_GATE(NB, NAME) extern "C" __global__ void __launch_bounds__(288, 1) NAME(u16 *to, const unsigned char *gate, const unsigned char *up, \
	const float *gateBias, const float *upBias, int tiles, const unsigned char *x, int allSteps, int rows, int stages, int piece) \
	{ ringGate<NB>(to, gate, up, gateBias, upBias, tiles, x, allSteps, rows, stages, piece); }
RING_GATE(1, ring_gate_8)
RING_GATE(2, ring_gate_16)
RING_GATE(4, ring_gate_32)
RING_GATE(8, ring_gate_64)

#endif

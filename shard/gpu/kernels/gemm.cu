#include "common.cuh"

// Products y = W x of many rows. A block owns 8 tiles (128 outputs), 128 rows and a chunk of the columns, each of its four warps 64 outputs of
// 64 rows; weights and x come in pieces of two steps through a ring of asynchronous copies. y is float32, [chunk][row][tiles x 16].
//
// Order of the sums: linear.cu's, one chain a chunk and output: a step at a time, from zero, of a step W0 x0, W0 x1, W1 x0. So a row has the
// bits that it has alone.
//
// Roof: the tensor cores' rate by mma.sync, about 60 % of what wgmma reaches. A warp reads 128 bytes of shared memory for each product of
// 16 x 8 x 16, which is half of what a multiprocessor reads while it computes one. The packed layout serves as it is: a lane's part of W is 16
// bytes in a line and of x 8, without conflicts between banks, so that there is nothing for ldmatrix to do.
//
// Source: the ring is that of CUTLASS' multistage products (https://github.com/NVIDIA/cutlass, gemm/threadblock/mma_multistage.h), written anew.
#define TILES 8 // of a block
#define ROWS 128
#define PIECE 2 // steps

static __device__ uint4 shared16(u32 from) {
	uint4 v;
	asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from));
	return v;
}
static __device__ uint2 shared8(u32 from) {
	uint2 v;
	asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(from));
	return v;
}

// copy16 copies 16 bytes, or zeros, where there are none.
static __device__ void copy16(u32 to, const void *from, bool there) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}

// Fragments are a warp's parts of a step: 4 tiles of W and 8 times 8 rows of x, of all terms.
template <int X_TERMS, int W_TERMS> struct Fragments {
	uint4 w[W_TERMS][4];
	uint2 x[X_TERMS][8];

	// read reads them from where the warp's lane finds its first of each, of terms so far apart.
	__device__ __forceinline__ void read(u32 wAt, u32 wTerm, u32 xAt, u32 xTerm) {
		#pragma unroll
		for (int term = 0; term < W_TERMS; term++)
			#pragma unroll
			for (int m = 0; m < 4; m++) w[term][m] = shared16(wAt + term * wTerm + m * PIECE * 512);
		#pragma unroll
		for (int term = 0; term < X_TERMS; term++)
			#pragma unroll
			for (int n = 0; n < 8; n++) x[term][n] = shared8(xAt + term * xTerm + n * 8 * STEP * 2);
	}

	// add adds their products, those of the same terms of all sums before the next.
	__device__ __forceinline__ void add(float (*c)[8][4]) {
		#pragma unroll
		for (int pair = 0; pair < X_TERMS + W_TERMS - 1; pair++)
			#pragma unroll
			for (int m = 0; m < 4; m++)
				#pragma unroll
				for (int n = 0; n < 8; n++) multiply(c[m][n], w[pair < X_TERMS ? 0 : 1][m], x[pair < X_TERMS ? pair : 0][n]);
	}
};

template <int X_TERMS, int W_TERMS, int STAGES>
static __device__ __forceinline__ void gemm(float *y, const uint4 *w, const u16 *x, int tiles, int allSteps, int chunks, int rows) {
	constexpr u32 W_BYTES = TILES * PIECE * 512, X_BYTES = PIECE * ROWS * STEP * 2; // of a term
	constexpr u32 STAGE = W_TERMS * W_BYTES + X_TERMS * X_BYTES;
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
	int firstRow = blockIdx.x * ROWS, firstTile = blockIdx.y * TILES, steps = allSteps / chunks, firstStep = blockIdx.z * steps;
	int tile = (warp >> 1) * 4, row = (warp & 1) * 64; // the warp's first in the block
	size_t wTerm = (size_t)tiles * allSteps * 32, xTerm = (size_t)allSteps * rows * STEP;
	u32 ring = sharedAddress(memory);
	letNext();
	wait();
	auto fetch = [&](int piece, int stage) {
		u32 to = ring + stage * STAGE + threadIdx.x * 16;
		#pragma unroll
		for (int j = 0; j < 4; j++) {
			int i = threadIdx.x + j * 128, step = piece * PIECE + (i >> 5 & 1), from = firstTile + (i >> 6);
			const uint4 *at = w + ((size_t)min(from, tiles - 1) * allSteps + firstStep + min(step, steps - 1)) * 32 + (i & 31);
			#pragma unroll
			for (int term = 0; term < W_TERMS; term++) copy16(to + term * W_BYTES + j * 2048, at + term * wTerm, from < tiles && step < steps);
		}
		to += W_TERMS * W_BYTES;
		#pragma unroll
		for (int j = 0; j < 4; j++) {
			int i = threadIdx.x + j * 128, step = piece * PIECE + (i >> 8), from = firstRow + (i >> 1 & 127);
			const u16 *at = x + ((size_t)(firstStep + min(step, steps - 1)) * rows + min(from, rows - 1)) * STEP + (i & 1) * 8;
			#pragma unroll
			for (int term = 0; term < X_TERMS; term++) copy16(to + term * X_BYTES + j * 2048, at + term * xTerm, from < rows && step < steps);
		}
	};
	float c[4][8][4];
	#pragma unroll
	for (int i = 0; i < 128; i++) (&c[0][0][0])[i] = 0;
	int pieces = (steps + PIECE - 1) / PIECE, stage = 0;
	#pragma unroll
	for (int piece = 0; piece < STAGES - 1; piece++) {
		if (piece < pieces) fetch(piece, piece);
		asm volatile("cp.async.commit_group;" ::: "memory");
	}
	for (int piece = 0; piece < pieces; piece++) {
		asm volatile("cp.async.wait_group %0;" :: "n"(STAGES - 2) : "memory");
		__syncthreads();
		if (piece + STAGES - 1 < pieces) fetch(piece + STAGES - 1, stage ? stage - 1 : STAGES - 1); // the stage that all have left
		asm volatile("cp.async.commit_group;" ::: "memory");
		u32 wAt = ring + stage * STAGE + tile * PIECE * 512 + lane * 16;
		u32 xAt = ring + stage * STAGE + W_TERMS * W_BYTES + (row + g) * STEP * 2 + t * 8;
		bool both = piece * PIECE + 1 < steps; // a step of zeros is not nothing to a sum of -0
		Fragments<X_TERMS, W_TERMS> first, second;
		first.read(wAt, W_BYTES, xAt, X_BYTES);
		if (X_TERMS + W_TERMS == 2) second.read(wAt + 512, W_BYTES, xAt + X_BYTES / PIECE, X_BYTES); // ahead, where registers are
		first.add(c);
		if (X_TERMS + W_TERMS > 2) second.read(wAt + 512, W_BYTES, xAt + X_BYTES / PIECE, X_BYTES);
		if (both) second.add(c);
		if (++stage == STAGES) stage = 0;
	}
	y += (size_t)blockIdx.z * rows * tiles * STEP;
	#pragma unroll
	for (int m = 0; m < 4; m++)
		#pragma unroll
		for (int n = 0; n < 8; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) {
				int r = firstRow + row + n * 8 + 2 * t + (i & 1), from = firstTile + tile + m;
				if (r < rows && from < tiles) y[((size_t)r * tiles + from) * STEP + g + (i >> 1) * 8] = c[m][n][i];
			}
}

#define GEMM(X_TERMS, W_TERMS, STAGES, NAME) extern "C" __global__ void __launch_bounds__(128, 2) NAME(float *y, const uint4 *w, const u16 *x, \
	int tiles, int allSteps, int chunks, int rows) { gemm<X_TERMS, W_TERMS, STAGES>(y, w, x, tiles, allSteps, chunks, rows); }
GEMM(1, 1, 4, gemm_11)
GEMM(2, 1, 4, gemm_21)
GEMM(2, 2, 3, gemm_22)

#include "common.cuh"
#include "tiles.cuh"

// Products y = W x of many rows, of up to three matrices and the same x. A block has 128 threads: each of its four warps computes M tiles (16
// outputs each) of 8 N rows, two warps side by side in both directions. Weights and x come in pieces of two steps through a ring of
// asynchronous copies. y is float32, [chunk][row][tiles x 16]; a block computes one chunk, or, where sum is set, all of them, one after the
// other, and leaves their sum in place of the first; the other places are where it puts sums aside meanwhile.
//
// Order of the sums: linear.cu's, one chain a chunk and output: a step at a time, from zero, of a step W0 x0, W0 x1, W1 x0. Chunks are added
// as a binary tree, as common.cuh's tree adds them. So a row has the bits that it has alone.
//
// Roof: the tensor cores' rate by mma.sync, about 60 % of what wgmma reaches. With M 4 and N 8 a warp reads 128 bytes of shared memory for each
// product of 16 x 8 x 16, and a multiprocessor has as much for each at that rate, and 60 % more. The packed layout serves as it is: a lane's
// part of W is 16 bytes in a line and of x 8, without conflicts between banks, so that there is nothing for ldmatrix to do.
//
// Source: the ring is that of CUTLASS' multistage products (https://github.com/NVIDIA/cutlass, gemm/threadblock/mma_multistage.h), written anew.
#define PIECE 2 // steps

// Fragments are a warp's parts of a step: M tiles of W and N times 8 rows of x, of all terms.
template <int X_TERMS, int W_TERMS, int M, int N> struct Fragments {
	uint4 w[W_TERMS][M];
	uint2 x[X_TERMS][N];

	// read reads them from where the warp's lane finds its first of each, of terms so far apart.
	__device__ __forceinline__ void read(u32 wAt, u32 wTerm, u32 xAt, u32 xTerm) {
		#pragma unroll
		for (int term = 0; term < W_TERMS; term++)
			#pragma unroll
			for (int m = 0; m < M; m++) w[term][m] = shared16(wAt + term * wTerm + m * PIECE * 512);
		#pragma unroll
		for (int term = 0; term < X_TERMS; term++)
			#pragma unroll
			for (int n = 0; n < N; n++) x[term][n] = shared8(xAt + term * xTerm + n * 8 * STEP * 2);
	}

	// add adds their products, those of the same terms of all sums before the next.
	__device__ __forceinline__ void add(float (*c)[N][4]) {
		#pragma unroll
		for (int pair = 0; pair < X_TERMS + W_TERMS - 1; pair++)
			#pragma unroll
			for (int m = 0; m < M; m++)
				#pragma unroll
				for (int n = 0; n < N; n++) multiply(c[m][n], w[pair < X_TERMS ? 0 : 1][m], x[pair < X_TERMS ? pair : 0][n]);
	}
};

template <int X_TERMS, int W_TERMS, int STAGES, int M, int N>
static __device__ __forceinline__ void gemm(const Matrices &all, const u16 *x, int allSteps, int chunks, int rows, int sum) {
	constexpr int ROWS = 2 * 8 * N;
	constexpr u32 W_BYTES = 2 * M * PIECE * 512, X_BYTES = PIECE * ROWS * STEP * 2; // of a term
	constexpr u32 STAGE = W_TERMS * W_BYTES + X_TERMS * X_BYTES;
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, unit = blockIdx.y;
	Matrix matrix = all.of(unit, 2 * M);
	const uint4 *w = (const uint4 *)matrix.w;
	int tiles = matrix.tiles, firstRow = blockIdx.x * ROWS, firstTile = unit * 2 * M, steps = allSteps / chunks;
	int chunk = sum ? 0 : blockIdx.z, count = sum ? chunks : 1;
	int tile = (warp >> 1) * M, row = (warp & 1) * 8 * N; // the warp's first in the block
	size_t wTerm = (size_t)tiles * allSteps * 32, xTerm = (size_t)allSteps * rows * STEP, place = (size_t)rows * tiles * STEP;
	u32 ring = sharedAddress(memory);
	letNext();
	wait();
	int pieces = (steps + PIECE - 1) / PIECE, firstStep = chunk * steps, left = count * pieces; // of what is to be fetched
	int piece = 0;
	auto fetch = [&](int stage) {
		if (left > 0) {
			u32 to = ring + stage * STAGE + threadIdx.x * 16;
			#pragma unroll
			for (int j = 0; j < M; j++) {
				int i = threadIdx.x + j * 128, step = piece * PIECE + (i >> 5 & 1), from = firstTile + (i >> 6);
				const uint4 *at = w + ((size_t)min(from, tiles - 1) * allSteps + firstStep + min(step, steps - 1)) * 32 + (i & 31);
				#pragma unroll
				for (int term = 0; term < W_TERMS; term++)
					copy16(to + term * W_BYTES + j * 2048, at + term * wTerm, from < tiles && step < steps);
			}
			to += W_TERMS * W_BYTES;
			#pragma unroll
			for (int j = 0; j < N / 2; j++) {
				int i = threadIdx.x + j * 128, step = piece * PIECE + i / (2 * ROWS), from = firstRow + (i >> 1) % ROWS;
				const u16 *at = x + ((size_t)(firstStep + min(step, steps - 1)) * rows + min(from, rows - 1)) * STEP + (i & 1) * 8;
				#pragma unroll
				for (int term = 0; term < X_TERMS; term++)
					copy16(to + term * X_BYTES + j * 2048, at + term * xTerm, from < rows && step < steps);
			}
			left--;
			if (++piece == pieces) piece = 0, firstStep += steps;
		}
		asm volatile("cp.async.commit_group;" ::: "memory");
	};
	#pragma unroll
	for (int i = 0; i < STAGES - 1; i++) fetch(i);
	Sums<M, N> sums = {{}, firstRow + row + 2 * t, rows, firstTile + tile, tiles};
	float *y = matrix.y + chunk * place + g;
	int stage = 0, aside = 0; // sums that are put aside
	for (int i = 0; i < count; i++) {
		sums.clear();
		for (int p = 0; p < pieces; p++) {
			asm volatile("cp.async.wait_group %0;" :: "n"(STAGES - 2) : "memory");
			__syncthreads();
			fetch(stage ? stage - 1 : STAGES - 1); // the stage that all have left
			u32 wAt = ring + stage * STAGE + tile * PIECE * 512 + lane * 16;
			u32 xAt = ring + stage * STAGE + W_TERMS * W_BYTES + (row + g) * STEP * 2 + t * 8;
			bool both = p * PIECE + 1 < steps; // a step of zeros is not nothing to a sum of -0
			Fragments<X_TERMS, W_TERMS, M, N> first, second;
			first.read(wAt, W_BYTES, xAt, X_BYTES);
			if (X_TERMS + W_TERMS == 2) second.read(wAt + 512, W_BYTES, xAt + X_BYTES / PIECE, X_BYTES); // ahead, where registers are
			first.add(sums.c);
			if (X_TERMS + W_TERMS > 2) second.read(wAt + 512, W_BYTES, xAt + X_BYTES / PIECE, X_BYTES);
			if (both) second.add(sums.c);
			if (++stage == STAGES) stage = 0;
		}
		sums.leave(y, place, i, count, aside);
	}
}

#define GEMM(X_TERMS, W_TERMS, STAGES, M, N, MIN_BLOCKS, NAME) extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) NAME(MATRICES, \
	const u16 *x, int allSteps, int chunks, int rows, int sum) \
	{ gemm<X_TERMS, W_TERMS, STAGES, M, N>(GIVEN_MATRICES, x, allSteps, chunks, rows, sum); }
GEMM(1, 1, 4, 4, 8, 2, gemm_11_128)
GEMM(2, 1, 4, 4, 8, 2, gemm_21_128)
GEMM(2, 2, 3, 4, 8, 2, gemm_22_128)
GEMM(1, 1, 4, 2, 4, 4, gemm_11_64)
GEMM(2, 1, 4, 2, 4, 4, gemm_21_64)
GEMM(2, 2, 3, 2, 4, 4, gemm_22_64)

#include "common.cuh"

// linear: y = W x for a piece of up to 8 NB rows; blocks of the grid's second dimension take further pieces. A warp owns a tile of 16
// outputs and a chunk of the columns: one chain of products of 16 columns, in order, from zero, whatever the number of rows.
// y is float32, [chunk][row][tiles x 16].
//
// Where x or W have two terms, the products of a step are W0 x0, W0 x1, W1 x0, in this order, in the same chain; W1 x1 is below what
// float32 holds of the sum.
//
// Roof: the memory's read rate for the weights, each read once for 8 NB rows; 16 KB are in flight for each warp.
template <int NB>
static __device__ __forceinline__ void linear(float *y, const uint4 *w, const u16 *x, int tiles, int allSteps, int chunks, int rows, int wTerms,
	int xTerms) {
	constexpr int BATCH = NB <= 2 ? 16 / NB : 2;
	int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, warps = blockDim.x >> 5, steps = allSteps / chunks;
	int row0 = blockIdx.y * 8 * NB;
	size_t wTerm = (size_t)tiles * allSteps * 32, xTerm = (size_t)allSteps * rows * STEP;
	letNext();
	wait();
	for (int item = blockIdx.x * warps + (threadIdx.x >> 5); item < tiles * chunks; item += gridDim.x * warps) {
		int tile = item % tiles, chunk = item / tiles;
		const uint4 *wp = w + ((size_t)tile * allSteps + chunk * steps) * 32 + lane;
		const u16 *xp = x + (size_t)chunk * steps * rows * STEP + t * 4;
		float c[NB][4];
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) c[n][i] = 0;
		for (int k = 0; k < steps; k += BATCH) {
			uint4 a[BATCH];
			#pragma unroll
			for (int i = 0; i < BATCH; i++)
				if (k + i < steps) a[i] = once16(wp + (k + i) * 32);
			__syncwarp(); // or ptxas moves the loads to their uses, and few are in flight
			#pragma unroll
			for (int i = 0; i < BATCH; i++) {
				if (k + i >= steps) break;
				#pragma unroll
				for (int n = 0; n < NB; n++) {
					const u16 *xr = xp + ((size_t)(k + i) * rows + min(row0 + n * 8 + g, rows - 1)) * STEP;
					uint2 b = load8(xr);
					multiply(c[n], a[i], b);
					if (xTerms > 1) multiply(c[n], a[i], load8(xr + xTerm));
					if (wTerms > 1) multiply(c[n], wp[wTerm + (k + i) * 32], b);
				}
			}
		}
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) {
				int row = row0 + n * 8 + 2 * t + (i & 1), output = g + (i >> 1) * 8;
				if (row < rows) y[((size_t)chunk * rows + row) * tiles * STEP + tile * STEP + output] = c[n][i];
			}
	}
}

#define LINEAR(NB, NAME) extern "C" __global__ void __launch_bounds__(128) NAME(float *y, const uint4 *w, const u16 *x, int tiles, int allSteps, \
	int chunks, int rows, int wTerms, int xTerms) { linear<NB>(y, w, x, tiles, allSteps, chunks, rows, wTerms, xTerms); }
LINEAR(1, linear_8)
LINEAR(2, linear_16)
LINEAR(4, linear_32)
LINEAR(8, linear_64)

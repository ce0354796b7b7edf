#include "common.cuh"
#include "product.cuh"

// Products y = W x. A warp owns a tile of 16 outputs and a chunk of the columns, for up to 8 NB rows: one chain of products of 16 columns, in
// order, from zero, whatever the number of rows. y is float32, [chunk][row][tiles x 16].
//
// Roof: the memory's read rate for the weights, each read once for 8 NB rows.

// Rows are those that a warp computes, from first on.
template <int NB> struct Rows {
	const u16 *at[NB];
	float c[NB][4];

	__device__ void begin(const u16 *x, int first, int end, const int *rowOf) {
		int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
		#pragma unroll
		for (int n = 0; n < NB; n++) {
			int row = min(first + n * 8 + g, end - 1); // those that are not there repeat the last
			at[n] = x + (size_t)(rowOf ? rowOf[row] : row) * STEP + t * 4;
			#pragma unroll
			for (int i = 0; i < 4; i++) c[n][i] = 0;
		}
	}

	__device__ void end(float *y, int first, int end, size_t stride) {
		int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) {
				int row = first + n * 8 + 2 * t + (i & 1);
				if (row < end) y[row * stride + g + (i >> 1) * 8] = c[n][i];
			}
	}
};

// linear takes rows 8 NB at a time by blocks of the grid's second dimension.
template <int NB>
static __device__ __forceinline__ void linear(float *y, const uint4 *w, const u16 *x, int tiles, int allSteps, int chunks, int rows, int wTerms,
	int xTerms) {
	constexpr int BATCH = NB <= 2 ? 16 / NB : 2;
	int lane = threadIdx.x & 31, warps = blockDim.x >> 5, steps = allSteps / chunks, first = blockIdx.y * 8 * NB;
	letNext();
	wait();
	for (int item = blockIdx.x * warps + (threadIdx.x >> 5); item < tiles * chunks; item += gridDim.x * warps) {
		int tile = item % tiles, chunk = item / tiles;
		Plain weights = {w + ((size_t)tile * allSteps + chunk * steps) * 32 + lane, (size_t)tiles * allSteps * 32, wTerms};
		Rows<NB> r;
		r.begin(x + (size_t)chunk * steps * rows * STEP, first, rows, 0);
		chain<NB, BATCH>(r.c, weights, r.at, (size_t)rows * STEP, (size_t)allSteps * rows * STEP, xTerms, steps);
		r.end(y + (size_t)chunk * rows * tiles * STEP + tile * STEP, first, rows, tiles * STEP);
	}
}

#define LINEAR(NB, NAME) extern "C" __global__ void __launch_bounds__(128) NAME(float *y, const uint4 *w, const u16 *x, int tiles, int allSteps, \
	int chunks, int rows, int wTerms, int xTerms) { linear<NB>(y, w, x, tiles, allSteps, chunks, rows, wTerms, xTerms); }
LINEAR(1, linear_8)
LINEAR(2, linear_16)
LINEAR(4, linear_32)
LINEAR(8, linear_64)

// coded is linear for codes.
template <int NB>
static __device__ __forceinline__ void coded(float *y, const Coded *told, const u16 *x, int tiles, int allSteps, int chunks, int rows, int xTerms) {
	int warps = blockDim.x >> 5, steps = allSteps / chunks, first = blockIdx.y * 8 * NB;
	letNext();
	wait();
	const Coded w = *told;
	const u16 *levels = levelsOf(w);
	for (int item = blockIdx.x * warps + (threadIdx.x >> 5); item < tiles * chunks; item += gridDim.x * warps) {
		int tile = item % tiles, chunk = item / tiles;
		Rows<NB> r;
		r.begin(x + (size_t)chunk * steps * rows * STEP, first, rows, 0);
		chainCoded<NB>(r.c, w, levels, 0, tile, chunk * steps, allSteps, r.at, (size_t)rows * STEP, (size_t)allSteps * rows * STEP, xTerms, steps);
		r.end(y + (size_t)chunk * rows * tiles * STEP + tile * STEP, first, rows, tiles * STEP);
	}
}

#define CODED(NB, NAME) extern "C" __global__ void __launch_bounds__(128) NAME(float *y, const Coded *w, const u16 *x, int tiles, int allSteps, \
	int chunks, int rows, int xTerms) { coded<NB>(y, w, x, tiles, allSteps, chunks, rows, xTerms); }
CODED(1, coded_8)
CODED(4, coded_32)

// Experts: a warp owns a tile and a chunk of an expert's matrix, for the rows that chose it (kernels/experts.cu), 8 NB at a time. x has xRows
// rows, and rowOf tells which is a choice's, null: the choice's own. y is [chunk][choice][tiles x 16]. slots tells which of the matrices is
// an expert's, negative: it has none of these, and its choices' y are left alone; null: each has its own. Adapters are computed likewise.
template <int NB>
static __device__ __forceinline__ void linearExperts(float *y, const uint4 *w, const u16 *x, const int *starts, const int *rowOf, const int *slots,
	int experts, int tiles, int allSteps, int chunks, int choices, int xRows, int wTerms, int xTerms) {
	int lane = threadIdx.x & 31, warps = blockDim.x >> 5, steps = allSteps / chunks;
	size_t size = (size_t)tiles * allSteps * 32;
	letNext();
	wait();
	for (int item = blockIdx.x * warps + (threadIdx.x >> 5); item < experts * tiles * chunks; item += gridDim.x * warps) {
		int expert = item / (tiles * chunks), tile = item % (tiles * chunks) % tiles, chunk = item % (tiles * chunks) / tiles;
		int own = slots ? slots[expert] : expert;
		if (own < 0) continue;
		Plain weights = {w + own * wTerms * size + ((size_t)tile * allSteps + chunk * steps) * 32 + lane, size, wTerms};
		int end = starts[expert + 1];
		for (int first = starts[expert]; first < end; first += 8 * NB) {
			Rows<NB> r;
			r.begin(x + (size_t)chunk * steps * xRows * STEP, first, end, rowOf);
			chain<NB, 4>(r.c, weights, r.at, (size_t)xRows * STEP, (size_t)allSteps * xRows * STEP, xTerms, steps);
			r.end(y + (size_t)chunk * choices * tiles * STEP + tile * STEP, first, end, tiles * STEP);
		}
	}
}

#define EXPERTS(NB, NAME) extern "C" __global__ void __launch_bounds__(128) NAME(float *y, const uint4 *w, const u16 *x, const int *starts, \
	const int *rowOf, const int *slots, int experts, int tiles, int allSteps, int chunks, int choices, int xRows, int wTerms, int xTerms) \
	{ linearExperts<NB>(y, w, x, starts, rowOf, slots, experts, tiles, allSteps, chunks, choices, xRows, wTerms, xTerms); }
EXPERTS(1, linear_experts_8)
EXPERTS(4, linear_experts_32)

// codedExperts is linearExperts for codes.
template <int NB>
static __device__ __forceinline__ void codedExperts(float *y, const Coded *told, const u16 *x, const int *starts, const int *rowOf, const int *slots,
	int experts, int tiles, int allSteps, int chunks, int choices, int xRows, int xTerms) {
	int warps = blockDim.x >> 5, steps = allSteps / chunks;
	letNext();
	wait();
	const Coded w = *told;
	const u16 *levels = levelsOf(w);
	for (int item = blockIdx.x * warps + (threadIdx.x >> 5); item < experts * tiles * chunks; item += gridDim.x * warps) {
		int expert = item / (tiles * chunks), tile = item % (tiles * chunks) % tiles, chunk = item % (tiles * chunks) / tiles;
		int own = slots ? slots[expert] : expert;
		if (own < 0) continue;
		int end = starts[expert + 1];
		for (int first = starts[expert]; first < end; first += 8 * NB) {
			Rows<NB> r;
			r.begin(x + (size_t)chunk * steps * xRows * STEP, first, end, rowOf);
			chainCoded<NB>(r.c, w, levels, own, tile, chunk * steps, allSteps, r.at, (size_t)xRows * STEP, (size_t)allSteps * xRows * STEP,
				xTerms, steps);
			r.end(y + (size_t)chunk * choices * tiles * STEP + tile * STEP, first, end, tiles * STEP);
		}
	}
}

#define CODED_EXPERTS(NB, NAME) extern "C" __global__ void __launch_bounds__(128) NAME(float *y, const Coded *w, const u16 *x, const int *starts, \
	const int *rowOf, const int *slots, int experts, int tiles, int allSteps, int chunks, int choices, int xRows, int xTerms) \
	{ codedExperts<NB>(y, w, x, starts, rowOf, slots, experts, tiles, allSteps, chunks, choices, xRows, xTerms); }
CODED_EXPERTS(1, coded_experts_8)
CODED_EXPERTS(4, coded_experts_32)

// order copies the columns of x in another order: column i of `to` is column from[i], or 0 where that is negative. A block is a row of `to`.
// Of experts that row is a choice's, rowOf tells which row of x it has, as above, and from is [slot][column]: that of its expert, by expertOf
// and slots. Choices of experts that have none are left alone. Without expertOf there is one order.
//
// Roof: the memory's read and write rate for x and `to`; x is small beside the weights.
extern "C" __global__ void __launch_bounds__(256) order(u16 *to, const u16 *x, const int *from, const int *rowOf, const int *expertOf,
	const int *slots, int toSteps, int steps, int xRows, int terms) {
	letNext();
	wait();
	int row = blockIdx.x, rows = gridDim.x, xRow = rowOf ? rowOf[row] : row, own = 0;
	if (expertOf) own = slots ? slots[expertOf[row]] : expertOf[row];
	if (own < 0) return;
	from += (size_t)own * toSteps * STEP;
	for (int i = threadIdx.x; i < terms * toSteps * STEP; i += blockDim.x) {
		int term = i / (toSteps * STEP), column = i % (toSteps * STEP), source = from[column];
		to[(((size_t)term * toSteps + column / STEP) * rows + row) * STEP + column % STEP] =
			source < 0 ? 0 : x[(((size_t)term * steps + source / STEP) * xRows + xRow) * STEP + source % STEP];
	}
}

#include "common.cuh"

// Adapters (LoRA): to a product y = W x is added scale B (A x). The rows that use one are numbered by adapter, as choices of experts are;
// adapterOf and rowOf say whose each is, and slots which of an operation's matrices is an adapter's, negative: it has none.

// pair tells of each choice of an expert which adapter's part in it is used: adapter x experts + expert, -1: none. The grid is
// [choices / 256].
extern "C" __global__ void __launch_bounds__(256) pair(int *pairs, const int *adapterOfRow, const int *experts, int choices, int chosen, int count) {
	letNext();
	wait();
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i >= choices) return;
	int adapter = adapterOfRow[i / chosen];
	pairs[i] = adapter < 0 ? -1 : adapter * count + experts[i];
}

// target tells of each choice with an adapter, as these are numbered, which choice of all it is. The grid is [choices / 256].
extern "C" __global__ void __launch_bounds__(256) target(int *targets, const int *pairs, const int *pairNumbers, const int *numbers, int choices) {
	letNext();
	wait();
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < choices && pairs[i] >= 0) targets[pairNumbers[i]] = numbers[i];
}

// lower makes the inputs of B from what A gives, [chunk][choice][steps x 16]: the chunks' tree, times the adapter's scale. A block is a
// choice.
extern "C" __global__ void __launch_bounds__(256) lower(u16 *x, const float *sums, const int *adapterOf, const int *slots, const float *scales,
	int chunks, int steps, int terms) {
	letNext();
	wait();
	int choice = blockIdx.x, choices = gridDim.x, slot = slots[adapterOf[choice]], n = steps * STEP;
	float scale = slot < 0 ? 0 : scales[slot];
	for (int i = threadIdx.x; i < n; i += blockDim.x) {
		float f = slot < 0 ? 0 : tree(sums + (size_t)choice * n + i, (size_t)choices * n, chunks) * scale;
		putTerms(x + ((size_t)(i >> 4) * choices + choice) * STEP + (i & 15), (size_t)steps * choices * STEP, terms, f);
	}
}

// fold_low adds the chunks of what A gives, for the other ranks: y is [choice][n].
extern "C" __global__ void __launch_bounds__(256) fold_low(float *y, const float *sums, const int *adapterOf, const int *slots, int chunks, int n) {
	letNext();
	wait();
	int choice = blockIdx.x;
	bool has = slots[adapterOf[choice]] >= 0;
	for (int i = threadIdx.x; i < n; i += blockDim.x)
		y[(size_t)choice * n + i] = has ? tree(sums + (size_t)choice * n + i, (size_t)gridDim.x * n, chunks) : 0;
}

// add_low adds what B gives, [choice][stride], to rows of n outputs, [row][yStride]. A block is a choice.
extern "C" __global__ void __launch_bounds__(256) add_low(float *y, const float *raised, const int *adapterOf, const int *rowOf, const int *slots,
	int n, int yStride, int stride) {
	letNext();
	wait();
	int choice = blockIdx.x;
	if (slots[adapterOf[choice]] < 0) return;
	for (int i = threadIdx.x; i < n; i += blockDim.x) y[(size_t)rowOf[choice] * yStride + i] += raised[(size_t)choice * stride + i];
}

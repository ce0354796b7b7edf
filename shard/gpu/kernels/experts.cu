#include "common.cuh"

// Experts. A choice is one row's of one expert. Choices are numbered by expert, and by row within it, so that an expert's rows lie
// together: starts, [experts + 1], tells where. rowOf [choice] and expertOf [choice] say whose it is, numbers [row][chosen] which it is.

// Routing says how logits become experts and their weights, as model.Routing does.
struct Routing { int experts, chosen, sigmoid, normalised, groups, groupsChosen, groupPairs; float scale; const float *correction, *bias; };

// best is the largest of shared values, the first of equal ones. A warp calls it.
static __device__ int best(const float *values, int n) {
	int lane = threadIdx.x & 31, at = 0x7fffffff;
	float v = -infinity();
	for (int i = lane; i < n; i += 32)
		if (at == 0x7fffffff || values[i] > v) v = values[i], at = i;
	for (int apart = 16; apart; apart >>= 1) {
		float f = __shfl_xor_sync(~0u, v, apart);
		int i = __shfl_xor_sync(~0u, at, apart);
		if (i != 0x7fffffff && (at == 0x7fffffff || f > v || f == v && i < at)) v = f, at = i;
	}
	return at;
}

// route chooses a row's experts, the best first, with their weights. A block is a row, and has one warp. Every operation is rounded;
// sums are in the order of the experts. Shared memory: 2 floats for each expert, one for each group.
extern "C" __global__ void __launch_bounds__(32) route(int *experts, float *weights, const float *logits, int stride, const Routing *told) {
	const Routing r = *told;
	float *scores = (float *)memory, *ranks = scores + r.experts, *groups = ranks + r.experts;
	letNext();
	wait();
	int row = blockIdx.x, lane = threadIdx.x;
	const float *from = logits + (size_t)row * stride;
	for (int i = lane; i < r.experts; i += 32) scores[i] = r.bias ? from[i] + r.bias[i] : from[i];
	__syncthreads();
	if (r.sigmoid) {
		for (int i = lane; i < r.experts; i += 32) scores[i] = sigmoid(scores[i]);
	} else {
		float top = scores[best(scores, r.experts)], sum = 0;
		__syncthreads();
		for (int i = lane; i < r.experts; i += 32) scores[i] = exponential(scores[i] - top);
		__syncthreads();
		for (int i = 0; i < r.experts; i++) sum += scores[i];
		__syncthreads();
		for (int i = lane; i < r.experts; i += 32) scores[i] /= sum;
	}
	for (int i = lane; i < r.experts; i += 32) ranks[i] = r.correction ? scores[i] + r.correction[i] : scores[i];
	__syncthreads();
	if (r.groups > 1) { // experts of groups that are not chosen are not either
		int size = r.experts / r.groups;
		for (int g = 0; g < r.groups; g++) {
			int first = best(ranks + g * size, size);
			float rank = ranks[g * size + first];
			if (r.groupPairs && size > 1) {
				float second = -infinity();
				for (int i = 0; i < size; i++)
					if (i != first) second = fmaxf(second, ranks[g * size + i]);
				rank += second;
			}
			if (lane == 0) groups[g] = rank;
		}
		__syncthreads();
		for (int n = r.groupsChosen; n < r.groups; n++) {
			int worst = 0;
			for (int g = 0; g < r.groups; g++) // of equal ones the last
				if (groups[g] <= groups[worst]) worst = g;
			__syncthreads();
			if (lane == 0) groups[worst] = infinity();
			for (int i = lane; i < size; i += 32) ranks[worst * size + i] = -infinity();
			__syncthreads();
		}
	}
	float sum = 0;
	for (int i = 0; i < r.chosen; i++) {
		int expert = best(ranks, r.experts);
		float weight = scores[expert];
		sum += weight;
		__syncthreads();
		if (lane == 0) experts[row * r.chosen + i] = expert, weights[row * r.chosen + i] = weight, ranks[expert] = -infinity();
		__syncthreads();
	}
	for (int i = lane; i < r.chosen; i += 32) {
		float weight = weights[row * r.chosen + i];
		if (r.normalised) weight /= sum;
		if (r.scale) weight *= r.scale;
		weights[row * r.chosen + i] = weight;
	}
}

// number numbers the choices of all rows. There is one block; a thread takes every 256th expert. Shared memory: an int for each expert.
extern "C" __global__ void __launch_bounds__(256) number(int *starts, int *numbers, int *rowOf, int *expertOf, const int *experts, int choices, int count,
	int chosen) {
	int *counts = (int *)memory;
	letNext();
	wait();
	for (int e = threadIdx.x; e < count; e += blockDim.x) {
		int n = 0;
		for (int i = 0; i < choices; i++) n += experts[i] == e;
		counts[e] = n;
	}
	__syncthreads();
	for (int e = threadIdx.x; e < count; e += blockDim.x) {
		int at = 0;
		for (int i = 0; i < e; i++) at += counts[i];
		starts[e] = at;
		if (e == count - 1) starts[count] = at + counts[e];
		for (int i = 0; i < choices; i++)
			if (experts[i] == e) numbers[i] = at, rowOf[at] = i / chosen, expertOf[at] = e, at++;
	}
}

// mix adds for each row what the shared expert gives (shared [row][n]; null: nothing), and what each choice gives, [choice][n], with its
// bias, [expert][n], weighted, in the order of the choices. A block is a row.
extern "C" __global__ void __launch_bounds__(256) mix(float *y, const float *each, const float *shared, const float *bias, const int *numbers,
	const int *experts, const float *weights, int chosen, int n) {
	letNext();
	wait();
	int row = blockIdx.x;
	for (int i = threadIdx.x; i < n; i += blockDim.x) {
		float sum = shared ? shared[(size_t)row * n + i] : 0;
		for (int j = 0; j < chosen; j++) {
			float f = each[(size_t)numbers[row * chosen + j] * n + i];
			if (bias) f += bias[(size_t)experts[row * chosen + j] * n + i];
			sum += weights[row * chosen + j] * f;
		}
		y[(size_t)row * n + i] = sum;
	}
}

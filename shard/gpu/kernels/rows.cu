#include "common.cuh"
#include "activation.cuh"

// Kernels that work on rows of float32. None is near a roof: their rows lie in the second cache.

// Norm is RMSNorm's weight, or LayerNorm's with a bias; without a weight it norms nothing.
struct Norm { const float *weight, *bias; };

// Statistics are what a row is normed by.
struct Statistics { float mean, inverse; };

// statisticsOf a row of n that is in shared memory. A block calls it, behind a barrier; found is shared memory of 2 floats.
static __device__ Statistics statisticsOf(const float *v, float *found, bool centred, int n, float epsilon) {
	if (threadIdx.x < 32) {
		float mean = centred ? lanesSum(n, [&](float s, int i) { return s + v[i]; }) / (float)n : 0;
		float squares = lanesSum(n, [&](float s, int i) { float d = v[i] - mean; return fmaf(d, d, s); });
		if (threadIdx.x == 0) found[0] = mean, found[1] = 1.0f / sqrtf(squares / (float)n + epsilon);
	}
	__syncthreads();
	Statistics s = {found[0], found[1]};
	__syncthreads(); // found may be written again
	return s;
}

static __device__ float normed(float v, int i, Statistics s, Norm norm) {
	float f = (v - s.mean) * s.inverse * norm.weight[i];
	return norm.bias ? f + norm.bias[i] : f;
}

// putNormed writes the norm of a row as terms of x.
static __device__ void putNormed(u16 *x, int steps, int terms, const float *v, float *found, Norm norm, int n, float epsilon) {
	Statistics s = statisticsOf(v, found, norm.bias, n, epsilon);
	size_t apart = (size_t)steps * gridDim.x * STEP;
	for (int i = threadIdx.x; i < steps * STEP; i += blockDim.x)
		putTerms(x + ((size_t)(i >> 4) * gridDim.x + blockIdx.x) * STEP + (i & 15), apart, terms, i < n ? normed(v[i], i, s, norm) : 0);
}

// entry is a number of a table of float32 (0), half precision (1) or bfloat16 (2): package weights' encodings of plain numbers.
static __device__ float entry(const void *table, int encoding, size_t i) {
	if (encoding == 0) return ((const float *)table)[i];
	u16 bits = ((const u16 *)table)[i];
	return encoding == 1 ? widenHalf(bits) : widen(bits);
}

// embed begins the residual stream h, [row][n], with the tokens' rows of a table, times scale (0: as they are), and adds those of the
// positions; places null: nothing is added. A token below 0 is that of a row of chosen, -1 the first. A block is a row.
extern "C" __global__ void __launch_bounds__(256) embed(float *h, const void *table, int encoding, const int *tokens, const int *chosen, float scale,
	const void *places, int placeEncoding, const int *positions, int n) {
	letNext();
	wait();
	int row = blockIdx.x, id = tokens[row] < 0 ? chosen[-1 - tokens[row]] : tokens[row];
	size_t token = (size_t)id * n, place = (size_t)max(positions[row], 0) * n;
	for (int i = threadIdx.x; i < n; i += blockDim.x) {
		float f = entry(table, encoding, token + i);
		if (scale) f *= scale;
		if (places) f += entry(places, placeEncoding, place + i);
		h[(size_t)row * n + i] = f;
	}
}

// join: the sum of the parts of a row-parallel product, the bias and the part's norm are added to the residual stream h, [row][n],
// which is normed for what comes next (x), and once more for later (aside). Weights that are null norm nothing. A block is a row;
// parts 0: nothing is added. Shared memory: 2n floats.
extern "C" __global__ void __launch_bounds__(256) join(float *h, const float *sums, u64 apart, int stride, int parts, const float *bias,
	const float *partWeight, const float *partBias, u16 *x, const float *weight, const float *weightBias, u16 *aside, const float *asideWeight,
	const float *asideBias, int n, int steps, int terms, float epsilon) {
	__shared__ float found[2];
	float *v = (float *)memory, *sum = v + n;
	letNext();
	wait();
	int row = blockIdx.x;
	if (parts > 0) {
		for (int i = threadIdx.x; i < n; i += blockDim.x) {
			float f = tree(sums + (size_t)row * stride + i, apart, parts);
			sum[i] = bias ? f + bias[i] : f;
		}
		__syncthreads();
		if (partWeight) {
			Norm part = {partWeight, partBias};
			Statistics s = statisticsOf(sum, found, partBias, n, epsilon);
			for (int i = threadIdx.x; i < n; i += blockDim.x) sum[i] = normed(sum[i], i, s, part);
		}
	}
	for (int i = threadIdx.x; i < n; i += blockDim.x) {
		float f = h[(size_t)row * n + i];
		if (parts > 0) h[(size_t)row * n + i] = f = f + sum[i];
		v[i] = f;
	}
	__syncthreads();
	if (weight) putNormed(x, steps, terms, v, found, {weight, weightBias}, n, epsilon);
	if (asideWeight) putNormed(aside, steps, terms, v, found, {asideWeight, asideBias}, n, epsilon);
}

// norm_latent norms the first n numbers of a row y, of `all` at a distance of stride, for the products of a latent, and adds its bias to
// the others in place. A block is a row. Shared memory: n floats.
extern "C" __global__ void __launch_bounds__(256) norm_latent(u16 *x, float *y, const float *bias, const float *weight, int n, int all, int stride,
	int steps, int terms, float epsilon) {
	__shared__ float found[2];
	float *v = (float *)memory, *from = y + (size_t)blockIdx.x * stride;
	letNext();
	wait();
	for (int i = threadIdx.x; i < all; i += blockDim.x) {
		float f = bias ? from[i] + bias[i] : from[i];
		if (i < n) v[i] = f;
		else from[i] = f;
	}
	__syncthreads();
	putNormed(x, steps, terms, v, found, {weight, 0}, n, epsilon);
}

// fold adds the chunks of a row-parallel product: y is [row][n]; without chunks it is zero.
extern "C" __global__ void __launch_bounds__(256) fold(float *y, const float *sums, u64 apart, int stride, int parts, int n) {
	letNext();
	wait();
	int row = blockIdx.x;
	for (int i = threadIdx.x; i < n; i += blockDim.x) y[(size_t)row * n + i] = tree(sums + (size_t)row * stride + i, apart, parts);
}

// activate: x = activation(gate) x up, or, where gate is null, activation(up). The grid is [rows][parts of the columns]; gate and up are
// [row][stride]. Of each chunk of columns the steps' remaining ones are zero. biasOf tells which biases are a row's; null: there is one for all.
extern "C" __global__ void __launch_bounds__(256) activate(u16 *x, const float *gate, const float *up, const float *gateBias, const float *upBias,
	const int *biasOf, int activation, int stride, int columns, int chunks, int steps, int terms) {
	letNext();
	wait();
	if (biasOf && gateBias) gateBias += (size_t)biasOf[blockIdx.x] * columns;
	if (biasOf && upBias) upBias += (size_t)biasOf[blockIdx.x] * columns;
	int row = blockIdx.x, chunkColumns = columns / chunks, padded = steps / chunks * STEP;
	size_t apart = (size_t)steps * gridDim.x * STEP;
	for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < steps * STEP; i += gridDim.y * blockDim.x) {
		float f = 0;
		if (i % padded < chunkColumns) {
			int at = i / padded * chunkColumns + i % padded;
			float u = up[(size_t)row * stride + at];
			if (upBias) u += upBias[at];
			if (!gate) f = activated(activation, u);
			else {
				float v = gate[(size_t)row * stride + at];
				if (gateBias) v += gateBias[at];
				f = gated(activation, v, u);
			}
		}
		putTerms(x + ((size_t)(i >> 4) * gridDim.x + row) * STEP + (i & 15), apart, terms, f);
	}
}

// gather copies wanted rows of x to the rows of another, [term][step][row][16]. A block is a wanted row.
extern "C" __global__ void __launch_bounds__(256) gather(u16 *to, const u16 *from, const int *wanted, int steps, int rows, int terms) {
	letNext();
	wait();
	int row = wanted[blockIdx.x];
	for (int i = threadIdx.x; i < terms * steps * STEP; i += blockDim.x)
		to[((size_t)(i >> 4) * gridDim.x + blockIdx.x) * STEP + (i & 15)] = from[((size_t)(i >> 4) * rows + row) * STEP + (i & 15)];
}

// finish: logits, [row][n], from a product's [row][stride]; cap 0: they are not capped. The grid is [columns / 256][rows].
extern "C" __global__ void __launch_bounds__(256) finish(float *logits, const float *y, const float *bias, int n, int stride, float cap) {
	letNext();
	wait();
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i >= n) return;
	float f = y[(size_t)blockIdx.y * stride + i];
	if (bias) f += bias[i];
	logits[(size_t)blockIdx.y * n + i] = cap ? cap * hyperbolicTangent(f / cap) : f;
}

// Summary is sample.Summary.
struct Summary { u64 bins[5]; float highest; int token, bin, unused; };
#define SUMMARISED 4096 // logits of a part

// summarise leaves a Summary of each 4096 of a row's n logits, [row][part], whose first token is `first`. The grid is [parts][rows]. The
// sums are of integers, and so in any order.
extern "C" __global__ void __launch_bounds__(256) summarise(Summary *to, const float *logits, int n, int first) {
	constexpr int EACH = SUMMARISED / 256, NOBODY = 0x7fffffff;
	__shared__ float tops[8];
	__shared__ int tokens[8];
	__shared__ u64 sums[8][5];
	letNext();
	wait();
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, from = blockIdx.x * SUMMARISED;
	const float *row = logits + (size_t)blockIdx.y * n;
	float v[EACH], top = -infinity();
	int token = NOBODY;
	#pragma unroll
	for (int j = 0; j < EACH; j++) {
		int i = from + j * 256 + threadIdx.x;
		v[j] = i < n ? row[i] : -infinity();
		if (!(v[j] >= -infinity())) v[j] = -infinity(); // NaN
		if (v[j] > top) top = v[j], token = first + i;
	}
	auto take = [&](float f, int t) { if (f > top || f == top && t < token) top = f, token = t; };
	for (int apart = 16; apart; apart >>= 1) take(__shfl_xor_sync(~0u, top, apart), __shfl_xor_sync(~0u, token, apart));
	if (lane == 0) tops[warp] = top, tokens[warp] = token;
	__syncthreads();
	for (int i = 0; i < 8; i++) take(tops[i], tokens[i]);
	auto powerOf = [](float x) { return (int)rintf(x * 1.44269504f); };
	auto within = [](float x) { return fminf(fmaxf(x, -16384.0f), 16384.0f); };
	int last = powerOf(within(top)) >> 4;
	u64 bins[5] = {0, 0, 0, 0, 0};
	#pragma unroll
	for (int j = 0; j < EACH; j++) {
		float x = within(v[j]);
		int n = powerOf(x), bin = (n >> 4) - last + 4;
		u64 part = v[j] > -infinity() ? (u64)(u32)(int)(mantissa(x, n) * 16777216.0f) << (n & 15) : 0;
		#pragma unroll
		for (int b = 0; b < 5; b++) bins[b] += b == bin ? part : 0;
	}
	#pragma unroll
	for (int b = 0; b < 5; b++) {
		for (int apart = 16; apart; apart >>= 1) bins[b] += __shfl_xor_sync(~0u, bins[b], apart);
		if (lane == 0) sums[warp][b] = bins[b];
	}
	__syncthreads();
	Summary *s = to + (size_t)blockIdx.y * gridDim.x + blockIdx.x;
	if (threadIdx.x < 5) {
		u64 sum = 0;
		for (int i = 0; i < 8; i++) sum += sums[i][threadIdx.x];
		s->bins[threadIdx.x] = sum;
	}
	if (threadIdx.x == 0) s->highest = top, s->token = token, s->bin = last, s->unused = 0;
}

// nominate tells the other ranks of a row's likeliest token: to is [row][rank][logit, token], and zero but for this rank, so that its sum
// over the ranks is all of it. Of no logits the token is 0. A block is a row of one warp.
extern "C" __global__ void __launch_bounds__(32) nominate(float *to, const Summary *summaries, int parts, int rank, int ranks) {
	letNext();
	wait();
	int token = 0x7fffffff;
	float top = -infinity();
	auto take = [&](float f, int t) { if (f > top || f == top && t < token) top = f, token = t; };
	for (int i = threadIdx.x; i < parts; i += 32) {
		const Summary *s = summaries + (size_t)blockIdx.x * parts + i;
		take(s->highest, s->token);
	}
	for (int apart = 16; apart; apart >>= 1) take(__shfl_xor_sync(~0u, top, apart), __shfl_xor_sync(~0u, token, apart));
	float *row = to + (size_t)blockIdx.x * 2 * ranks;
	for (int i = threadIdx.x; i < 2 * ranks; i += 32) row[i] = i == 2 * rank ? top : i == 2 * rank + 1 && top > -infinity() ? (float)token : 0;
}

// choose leaves the likeliest token of each row, of equal ones the first, as sample.Summary does. A thread is a row.
extern "C" __global__ void __launch_bounds__(64) choose(int *chosen, const float *nominated, int rows, int ranks) {
	letNext();
	wait();
	int row = blockIdx.x * blockDim.x + threadIdx.x, token = 0;
	if (row >= rows) return;
	float top = -infinity();
	for (int rank = 0; rank < ranks; rank++) { // in the order of their tokens
		const float *from = nominated + ((size_t)row * ranks + rank) * 2;
		if (from[0] > top) top = from[0], token = (int)from[1];
	}
	chosen[row] = token;
}

// rectify: x = relu(y + bias), for the inner product of a score head. A block is a row.
extern "C" __global__ void __launch_bounds__(256) rectify(u16 *x, const float *y, const float *bias, int n, int stride, int steps, int terms) {
	letNext();
	wait();
	size_t apart = (size_t)steps * gridDim.x * STEP;
	for (int i = threadIdx.x; i < steps * STEP; i += blockDim.x) {
		float f = 0;
		if (i < n) {
			f = y[(size_t)blockIdx.x * stride + i];
			f = fmaxf(bias ? f + bias[i] : f, 0.0f);
		}
		putTerms(x + ((size_t)(i >> 4) * gridDim.x + blockIdx.x) * STEP + (i & 15), apart, terms, f);
	}
}

// clear zeroes what a sequence takes of the cache, `words` of 16 bytes a block and layer, so that nothing of its former owner reaches
// it. The grid is [blocks][layers].
extern "C" __global__ void __launch_bounds__(256) clear(uint4 *cache, const int *fresh, u64 layerWords, int words) {
	letNext();
	wait();
	uint4 *at = cache + blockIdx.y * layerWords + (size_t)fresh[blockIdx.x] * words;
	for (int i = threadIdx.x; i < words; i += blockDim.x) at[i] = make_uint4(0, 0, 0, 0);
}

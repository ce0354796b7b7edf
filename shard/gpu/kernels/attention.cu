#include "common.cuh"

// The cache is [layer][block][KV head], and of each [keys: term][dimensions / 16][fragment of 16 positions x 16 dimensions] and
// [values: term][dimensions / 16][fragment of 16 dimensions x 16 positions], in bfloat16, laid out as weights are.

// slot is where a row and column of a 16x16 fragment lie in it.
static __device__ int slot(int row, int column) {
	return ((row & 7) * 4 + (column >> 2)) * 8 + (column >> 1 & 1) * 4 + (row >> 3) * 2 + (column & 1);
}

// Turn is what turn is told of a layer.
struct Turn {
	const float *query, *key, *value;             // [row][its stride]
	const float *queryBias, *keyBias, *valueBias; // null: none
	const float *queryNorm, *keyNorm;             // weights of a norm of each head; null: none
	const float *common;                          // [row][its stride]: what all heads' keys have from dimension plain on; null: key has all
	int queryStride, keyStride, valueStride, commonStride;
	int heads, kvHeads, keyDims, valueDims, plain, half, terms;
	float epsilon;
};

// turn adds biases, norms each head's query and key, rotates the pairs (plain + i, plain + half + i), and puts queries into q, [term][row]
// [head][steps x 16], and keys and values into the cache of a layer, at the row's block and position. cos and sin are [row][half], or
// [position][half]; queryScales, [row] or [position], are those of rotated queries; null: 1. A block is a row.
extern "C" __global__ void __launch_bounds__(128) turn(u16 *q, u16 *cache, const Turn *told, const int *blocks, const int *positions, const float *cos,
	const float *sin, const float *queryScales, int byPosition) {
	letNext();
	wait();
	const Turn s = *told;
	int row = blockIdx.x, rows = gridDim.x, warp = threadIdx.x >> 5, lane = threadIdx.x & 31, D = s.keyDims;
	int keySteps = (D + 15) / 16, valueSteps = (s.valueDims + 15) / 16, headSize = (keySteps + valueSteps) * s.terms * 256;
	int position = positions[row] % BLOCK;
	bool there = position >= 0;
	size_t turn = byPosition ? max(positions[row], 0) : row;
	u16 *to = cache + (there ? (size_t)blocks[row] * s.kvHeads * headSize : 0);
	for (int head = warp; head < s.heads + s.kvHeads; head += 4) {
		bool query = head < s.heads;
		int kv = head - s.heads, own = query || !s.common ? D : s.plain; // dimensions that lie in one row
		const float *from = query ? s.query + (size_t)row * s.queryStride + head * own : s.key + (size_t)row * s.keyStride + kv * own;
		const float *bias = query ? s.queryBias : s.keyBias, *weight = query ? s.queryNorm : s.keyNorm;
		if (bias) bias += (query ? head : kv) * own;
		auto plainValue = [&](int d) {
			if (d >= own) return s.common[(size_t)row * s.commonStride + d - own];
			return bias ? from[d] + bias[d] : from[d];
		};
		float inverse = 1;
		if (weight) {
			float squares = lanesSum(D, [&](float sum, int d) { float f = plainValue(d); return fmaf(f, f, sum); });
			inverse = 1.0f / sqrtf(squares / (float)D + s.epsilon);
		}
		auto normed = [&](int d) { return weight ? plainValue(d) * inverse * weight[d] : plainValue(d); };
		for (int d = lane; d < D; d += 32) {
			int i = d - s.plain;
			float f = normed(d);
			if (i >= 0 && i < 2 * s.half) {
				int pair = i < s.half ? i : i - s.half;
				float c = cos[turn * s.half + pair], sine = sin[turn * s.half + pair];
				f = i < s.half ? f * c - normed(d + s.half) * sine : f * c + normed(d - s.half) * sine;
			}
			if (query && queryScales) f *= queryScales[turn];
			if (query) putTerms(q + ((size_t)row * s.heads + head) * keySteps * 16 + d, (size_t)rows * s.heads * keySteps * 16, s.terms, f);
			else if (there) putTerms(to + (size_t)kv * headSize + d / 16 * 256 + slot(position, d % 16), keySteps * 256, s.terms, f);
		}
		if (query) // behind its dimensions a query is zero
			for (int d = D + lane; d < keySteps * 16; d += 32) putTerms(q + ((size_t)row * s.heads + head) * keySteps * 16 + d, (size_t)rows * s.heads * keySteps * 16, s.terms, 0);
	}
	for (int i = threadIdx.x; there && i < s.kvHeads * s.valueDims; i += blockDim.x) {
		int kv = i / s.valueDims, d = i % s.valueDims;
		float f = s.value[(size_t)row * s.valueStride + i];
		if (s.valueBias) f += s.valueBias[i];
		putTerms(to + (size_t)kv * headSize + (keySteps * s.terms + d / 16) * 256 + slot(d % 16, position), valueSteps * 256, s.terms, f);
	}
}

// Item is a piece of attention: up to 8 NB pairs of a row and a query head of one KV head, all of one sequence, over one part of its
// positions. The pairs are numbered from the first row of a chunk on, the heads of a row first.
struct Item { int kv, head, heads, row, pair, pairs, part, table; };

// Attend is what attend is told of a layer.
struct Attend {
	int heads, kvHeads, keyDims, valueDims, terms, window;
	float scale, cap;
	int group, firstHead, firstKVHead; // query heads of a KV head, and where in the model this rank's heads begin
};

// itemOf is the item of a block of a step in which each sequence has one row: the grid is [parts][KV heads x pieces of 8 query heads][rows].
// It has no pairs where the row has no such part, or the KV head no such piece.
static __device__ Item itemOf(const Attend &s, const int *positions, const int *tableOf, int row0) {
	int pieces = (s.group + 7) / 8, kv = blockIdx.y / pieces, row = row0 + blockIdx.z, part = blockIdx.x, position = positions[row];
	int first = max((s.firstKVHead + kv) * s.group, s.firstHead), end = min((s.firstKVHead + kv + 1) * s.group, s.firstHead + s.heads);
	int pair = blockIdx.y % pieces * 8, begin = s.window ? max(position + 1 - s.window, 0) / SPLIT : 0;
	bool there = position >= 0 && part >= begin && part <= position / SPLIT;
	return {kv, first - s.firstHead, end - first, row, pair, there ? min(end - first - pair, 8) : 0, part, tableOf[row]};
}

// attend computes for each pair of an item the weighted sum of the part's values, with the largest score and the sum of weights: results
// is [row, from row0 on][head][parts][steps of values x 16 + 2]. A block is an item of a list, or, where that is null, itemOf's. Positions
// are the rows of fragments, pairs their columns: so a pair computes the same whatever the others are, and the rows of a prompt share what
// is read of the cache.
//
// Order: products over dimensions, 16 at a time; weights over the part's 256 positions, by lane, then as a tree; values over positions, 16
// at a time. Roof: the memory's read rate for keys and values.
template <int NB>
static __device__ __forceinline__ void attend(float *results, const u16 *q, const u16 *cache, const Item *items, const int *tables,
	const int *tableOf, const int *positions, Attend s, int rows, int parts, int row0) {
	constexpr int PAIRS = 8 * NB;
	const float none = -infinity();
	int keySteps = (s.keyDims + 15) / 16, valueSteps = (s.valueDims + 15) / 16, width = keySteps * 16 + 8;
	float *scores = (float *)memory, *tops = scores + PAIRS * (SPLIT + 4), *sums = tops + PAIRS;
	u16 *shares = (u16 *)(sums + PAIRS), *queries = shares + s.terms * PAIRS * (SPLIT + 16);
	letNext();
	wait();
	const Item item = items ? items[blockIdx.x] : itemOf(s, positions, tableOf, row0);
	if (item.pairs <= 0) return;
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, from = item.part * SPLIT;
	auto rowOf = [&](int pair) { return item.row + (item.pair + pair) / item.heads; };
	auto headOf = [&](int pair) { return item.head + (item.pair + pair) % item.heads; };
	for (int i = threadIdx.x; i < s.terms * PAIRS * keySteps * 16; i += blockDim.x) {
		int d = i % (keySteps * 16), pair = i / (keySteps * 16) % PAIRS, term = i / (keySteps * 16) / PAIRS;
		queries[(term * PAIRS + pair) * width + d] =
			pair < item.pairs ? q[(((size_t)term * rows + rowOf(pair)) * s.heads + headOf(pair)) * keySteps * 16 + d] : 0;
	}
	__syncthreads();
	int blocks = (min(positions[rowOf(item.pairs - 1)] + 1 - from, SPLIT) + BLOCK - 1) / BLOCK, headSize = (keySteps + valueSteps) * s.terms * 256;
	auto block = [&](int b) { return cache + ((size_t)tables[item.table + item.part * (SPLIT / BLOCK) + b] * s.kvHeads + item.kv) * headSize; };
	for (int b = warp; b < blocks; b += 4) {
		const uint4 *keys = (const uint4 *)block(b) + lane;
		float c[NB][4];
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) c[n][i] = 0;
		for (int k = 0; k < keySteps; k++) {
			uint4 a = once16(keys + k * 32);
			#pragma unroll
			for (int n = 0; n < NB; n++) {
				const u16 *at = queries + (n * 8 + g) * width + k * 16 + t * 4;
				uint2 first = *(const uint2 *)at;
				multiply(c[n], a, first);
				if (s.terms > 1) {
					multiply(c[n], a, *(const uint2 *)(at + PAIRS * width));
					multiply(c[n], keys[(keySteps + k) * 32], first);
				}
			}
		}
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) {
				float f = c[n][i] * s.scale;
				if (s.cap) f = s.cap * hyperbolicTangent(f / s.cap);
				scores[(n * 8 + 2 * t + (i & 1)) * (SPLIT + 4) + b * 16 + g + (i >> 1) * 8] = f;
			}
	}
	__syncthreads();
	for (int pair = warp; pair < PAIRS; pair += 4) {
		int first = 0, end = 0;
		if (pair < item.pairs) {
			int position = positions[rowOf(pair)];
			first = (s.window ? max(position + 1 - s.window, 0) : 0) - from, end = min(position + 1 - from, SPLIT);
		}
		float v[SPLIT / 32], top = none, sum = 0;
		#pragma unroll
		for (int i = 0; i < SPLIT / 32; i++) {
			int at = i * 32 + lane;
			v[i] = at >= first && at < end ? scores[pair * (SPLIT + 4) + at] : none;
			top = fmaxf(top, v[i]);
		}
		top = warpMax(top);
		#pragma unroll
		for (int i = 0; i < SPLIT / 32; i++) {
			int at = i * 32 + lane;
			float e = at >= first && at < end ? exponential(v[i] - top) : 0;
			putTerms(shares + pair * (SPLIT + 16) + at, PAIRS * (SPLIT + 16), s.terms, e);
			sum += e;
		}
		sum = warpSum(sum);
		if (lane == 0) tops[pair] = top, sums[pair] = sum;
	}
	__syncthreads();
	auto result = [&](int pair) { return results + (((size_t)(rowOf(pair) - row0) * s.heads + headOf(pair)) * parts + item.part) * (valueSteps * 16 + 2); };
	for (int m = warp; m < valueSteps; m += 4) {
		float c[NB][4];
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) c[n][i] = 0;
		for (int b = 0; b < blocks; b++) {
			const uint4 *values = (const uint4 *)(block(b) + keySteps * s.terms * 256) + m * 32 + lane;
			uint4 a = once16(values);
			#pragma unroll
			for (int n = 0; n < NB; n++) {
				const u16 *at = shares + (n * 8 + g) * (SPLIT + 16) + b * 16 + t * 4;
				uint2 first = *(const uint2 *)at;
				multiply(c[n], a, first);
				if (s.terms > 1) {
					multiply(c[n], a, *(const uint2 *)(at + PAIRS * (SPLIT + 16)));
					multiply(c[n], values[valueSteps * 32], first);
				}
			}
		}
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) {
				int pair = n * 8 + 2 * t + (i & 1);
				if (pair < item.pairs) result(pair)[m * 16 + g + (i >> 1) * 8] = c[n][i];
			}
	}
	for (int pair = threadIdx.x; pair < item.pairs; pair += blockDim.x)
		result(pair)[valueSteps * 16] = tops[pair], result(pair)[valueSteps * 16 + 1] = sums[pair];
}

#define ATTEND(NB, NAME) extern "C" __global__ void __launch_bounds__(128) NAME(float *results, const u16 *q, const u16 *cache, const Item *items, \
	const int *tables, const int *tableOf, const int *positions, const Attend *told, int rows, int parts, int row0) \
	{ attend<NB>(results, q, cache, items, tables, tableOf, positions, *told, rows, parts, row0); }
ATTEND(1, attend_8)
ATTEND(4, attend_32)

// attend_join joins the parts of each head of a row in their order, with the head's sink, and writes x, whose columns are those of this
// rank: heads' values from `pad` columns on, the others zero; and of each chunk the steps' remaining ones. A block is a row, from row0 on.
extern "C" __global__ void __launch_bounds__(128) attend_join(u16 *x, const float *results, const int *positions, const float *sinks,
	const Attend *told, int parts, int pad, int columns, int chunks, int steps, int row0, int rows) {
	letNext();
	wait();
	const Attend s = *told;
	int row = row0 + blockIdx.x, chunkColumns = columns / chunks, padded = steps / chunks * STEP, valueSize = (s.valueDims + 15) / 16 * 16;
	int position = positions[row], first = s.window ? max(position + 1 - s.window, 0) / SPLIT : 0, end = position / SPLIT + 1;
	for (int i = threadIdx.x; i < steps * STEP; i += blockDim.x) {
		int column = i / padded * chunkColumns + i % padded - pad, head = column / s.valueDims, d = column % s.valueDims;
		float v = 0;
		if (i % padded < chunkColumns && column >= 0 && head < s.heads && position >= 0) {
			const float *p = results + (((size_t)blockIdx.x * s.heads + head) * parts + first) * (valueSize + 2);
			float top = p[valueSize], sum = p[valueSize + 1];
			v = p[d];
			for (int part = first + 1; part < end; part++) {
				p += valueSize + 2;
				float next = fmaxf(top, p[valueSize]), keep = exponential(top - next), take = exponential(p[valueSize] - next);
				sum = fmaf(sum, keep, p[valueSize + 1] * take), v = fmaf(v, keep, p[d] * take), top = next;
			}
			if (sinks) {
				float next = fmaxf(top, sinks[head]), keep = exponential(top - next);
				sum = fmaf(sum, keep, exponential(sinks[head] - next)), v *= keep;
			}
			v /= sum;
		}
		putTerms(x + ((size_t)(i >> 4) * rows + row) * STEP + (i & 15), (size_t)steps * rows * STEP, s.terms, v);
	}
}

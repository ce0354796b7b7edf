#include "common.cuh"

// What scripts/gpu/check measures a card with. No model launches these.

// mma_chain adds to each c, [problem][lane][4], the products of so many steps of fragments a, [problem][step][lane], and b. A warp is a
// problem.
extern "C" __global__ void __launch_bounds__(128) mma_chain(float *y, const uint4 *a, const uint2 *b, const float *c, int problems, int steps) {
	letNext();
	wait();
	int lane = threadIdx.x & 31, problem = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
	if (problem >= problems) return;
	size_t at = ((size_t)problem * 32 + lane) * 4;
	float sum[4];
	#pragma unroll
	for (int i = 0; i < 4; i++) sum[i] = c[at + i];
	for (int k = 0; k < steps; k++) {
		size_t from = ((size_t)problem * steps + k) * 32 + lane;
		multiply(sum, a[from], b[from]);
	}
	#pragma unroll
	for (int i = 0; i < 4; i++) y[at + i] = sum[i];
}

// fill writes random words: two bfloat16 of exponents around 2^-6 and random signs and mantissas.
extern "C" __global__ void __launch_bounds__(256) fill(u32 *to, u64 count, int seed) {
	letNext();
	wait();
	for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
		u32 x = (u32)i * 2654435761u ^ (u32)(i >> 32) ^ (u32)seed * 40503u;
		x ^= x >> 16, x *= 2246822519u, x ^= x >> 13, x *= 3266489917u, x ^= x >> 16;
		to[i] = x & 0x80ff80ffu | 0x3c003c00u;
	}
}

// read_all reads so many 16 bytes once, four loads of a thread in flight, and writes what nobody can leave out.
extern "C" __global__ void __launch_bounds__(256) read_all(u32 *to, const uint4 *from, u64 count) {
	letNext();
	wait();
	u64 all = (u64)gridDim.x * blockDim.x, first = (u64)blockIdx.x * blockDim.x + threadIdx.x;
	u32 sum = 0;
	for (u64 i = first; i < count; i += 4 * all) {
		uint4 v[4];
		#pragma unroll
		for (int j = 0; j < 4; j++) v[j] = i + j * all < count ? once16(from + i + j * all) : make_uint4(0, 0, 0, 0);
		#pragma unroll
		for (int j = 0; j < 4; j++) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
	}
	to[first] = sum;
}

// What all kernels share. NVRTC compiles them as they are, without headers of CUDA's, and with --fmad=false: every addition and
// multiplication rounds by itself, and what is fused is written as fmaf. So PTX says each operation, and package ptx computes it
// to the bit.
//
// Rows. A step may have more rows than tokens, so that steps of like numbers of rows have the same launches: the position and the block of
// a row without a token are -1; it stores nothing, and what is computed of it is finite and read by nobody.
//
// Layouts. A matrix input x, of bfloat16, is [term][step][row][16]: a step is 16 columns of the summed dimension, and a number is
// the sum of its terms (one, or two where --numerics two-term asks for it: what the first rounds off is the second). Where the
// summed dimension is cut into chunks each begins a step of its own, and the columns behind its last are zero. Weights are
// [term][tile][step][lane][8]: a tile is 16 outputs, and a lane's 8 numbers of a step are its part of an m16n8k16 fragment, with
// the columns of a step in an order of their own: lane t of four holds columns 4t to 4t+3, so that its part of x is 8 bytes in a
// line. Sums are float32.
typedef unsigned u32;
typedef unsigned short u16;
typedef unsigned long long u64;

#define SPLIT 256 // positions of a part of attention, from a multiple of it on
#define BLOCK 16  // positions of a KV block
#define STEP 16   // columns of a step, and outputs of a tile

extern __shared__ __align__(128) unsigned char memory[];

static __device__ u32 sharedAddress(const void *p) { return (u32)__cvta_generic_to_shared(p); }

// multiply adds the product of a 16x16 and a 16x8 fragment.
static __device__ void multiply(float *c, uint4 a, uint2 b) {
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

// Loads in assembly, so that the compiler leaves them before the products that come later.
static __device__ uint4 once16(const void *from) { // weights: read once, and so kept out of the first cache
	uint4 v;
	asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
	return v;
}
static __device__ uint2 load8(const void *from) {
	uint2 v;
	asm volatile("ld.global.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(from));
	return v;
}

static __device__ u16 roundBF16(float f) {
	u16 r;
	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(f));
	return r;
}
static __device__ float widen(u16 bits) { return __uint_as_float((u32)bits << 16); }
static __device__ float widenHalf(u16 bits) {
	float r;
	asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
	return r;
}

// putTerms writes a number as its terms, which are so many elements apart.
static __device__ void putTerms(u16 *to, size_t apart, int terms, float f) {
	u16 first = roundBF16(f);
	*to = first;
	if (terms > 1) to[apart] = roundBF16(f - widen(first));
}

// The predecessor's results may be read after wait; without the launch attribute both do nothing.
static __device__ void wait() {
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
static __device__ void letNext() {
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// mantissa is e^x / 2^n for n = rintf(x / ln 2), by a polynomial of degree 6 (Cephes' expf; error below 2 ulp), so that no approximate
// instruction has a say.
static __device__ float mantissa(float x, float n) {
	float r = fmaf(n, -0.693359375f, x);
	r = fmaf(n, 2.12194440e-4f, r);
	float p = 1.9875691500e-4f;
	p = fmaf(p, r, 1.3981999507e-3f), p = fmaf(p, r, 8.3334519073e-3f), p = fmaf(p, r, 4.1665795894e-2f);
	p = fmaf(p, r, 1.6666665459e-1f), p = fmaf(p, r, 5.0000001201e-1f);
	return fmaf(p * r, r, r + 1.0f);
}

// exponential is e^x for x <= 0.
static __device__ float exponential(float x) {
	if (x < -87.0f) return 0;
	float n = rintf(x * 1.44269504f);
	return mantissa(x, n) * __uint_as_float((u32)((int)n + 127) << 23);
}

// sigmoid is 1 / (1 + e^-x).
static __device__ float sigmoid(float x) {
	float e = exponential(-fabsf(x));
	return (x < 0 ? e : 1.0f) / (1.0f + e);
}

static __device__ float hyperbolicTangent(float x) {
	float e = exponential(-2.0f * fabsf(x)), t = (1.0f - e) / (1.0f + e);
	return x < 0 ? -t : t;
}

// errorFunction: Abramowitz and Stegun 7.1.26, error below 1.5e-7.
static __device__ float errorFunction(float x) {
	float a = fabsf(x), t = 1.0f / fmaf(0.3275911f, a, 1.0f), p = 1.061405429f;
	p = fmaf(p, t, -1.453152027f), p = fmaf(p, t, 1.421413741f), p = fmaf(p, t, -0.284496736f), p = fmaf(p, t, 0.254829592f);
	float v = 1.0f - p * t * exponential(-a * a);
	return x < 0 ? -v : v;
}

static __device__ float warpSum(float v) {
	for (int apart = 16; apart; apart >>= 1) v += __shfl_xor_sync(~0u, v, apart);
	return v;
}

static __device__ float warpMax(float v) {
	for (int apart = 16; apart; apart >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, apart));
	return v;
}

// lanesSum is the sum of f(0) … f(n-1) in the order of the CPU's kernels: 16 chains, then 8, 4, 2, 1 apart. A warp calls it.
template <typename F> static __device__ float lanesSum(int n, F add) {
	int lane = threadIdx.x & 31;
	float s = 0;
	if (lane < 16)
		for (int i = lane; i < n; i += 16) s = add(s, i);
	for (int apart = 8; apart; apart >>= 1) s += __shfl_xor_sync(~0u, s, apart);
	return __shfl_sync(~0u, s, 0);
}

static __device__ float infinity() { return __uint_as_float(0x7f800000); }

// tree adds up to 8 parts, which are so far apart, as a binary tree: the left half is the largest power of two below their number.
static __device__ float tree(const float *p, size_t apart, int parts) {
	float q[8];
	#pragma unroll
	for (int i = 0; i < 8; i++) q[i] = i < parts ? p[i * apart] : 0;
	#pragma unroll
	for (int width = 1; width < 8; width *= 2)
		#pragma unroll
		for (int i = 0; i + width < 8; i += 2 * width)
			if (i + width < parts) q[i] += q[i + width];
	return q[0];
}

// Chains of products: what a warp computes for a tile of 16 outputs, a chunk of columns, and 8 NB rows.

// Plain are weights of one or two terms, from a tile's and chunk's first step on.
struct Plain {
	const uint4 *at;
	size_t term; // the distance of the second term
	int terms;
};

// chain adds to c the products of so many steps, in order, the columns of a step at once. xr are the lane's 8 bytes of the first step of
// each 8 rows. Where x or W have two terms, the products of a step are W0 x0, W0 x1, W1 x0, in this order; W1 x1 is below what float32
// holds of the sum.
template <int NB, int BATCH>
static __device__ __forceinline__ void chain(float (*c)[4], Plain w, const u16 *const *xr, size_t stepApart, size_t xTerm, int xTerms, int steps) {
	for (int k = 0; k < steps; k += BATCH) {
		uint4 a[BATCH];
		#pragma unroll
		for (int i = 0; i < BATCH; i++)
			if (k + i < steps) a[i] = once16(w.at + (k + i) * 32);
		__syncwarp(); // or ptxas moves the loads to their uses, and few are in flight
		#pragma unroll
		for (int i = 0; i < BATCH; i++) {
			if (k + i >= steps) break;
			#pragma unroll
			for (int n = 0; n < NB; n++) {
				const u16 *at = xr[n] + (k + i) * stepApart;
				uint2 b = load8(at);
				multiply(c[n], a[i], b);
				if (xTerms > 1) multiply(c[n], a[i], load8(at + xTerm));
				if (w.terms > 1) multiply(c[n], w.at[w.term + (k + i) * 32], b);
			}
		}
	}
}

// Scales are numbers by group and output, [tile][group][16]: plain ones of 2 or 4 bytes, or codes of a byte, to which bias is added, times
// those of larger groups (above, half precision, of so many groups each). Of codes of 4 bits a byte has two: of these `shift` is where.
#define SCALE_F32 0
#define SCALE_F16 1
#define SCALE_BF16 2
#define SCALE_CODES 3
struct Scales {
	const unsigned char *numbers;
	const u16 *above;
	u64 expert, expertAbove; // the distance of two experts', in bytes and numbers
	int kind, groups, size, lead, shift, mask; // lead: groups before the first that its larger one has
	float bias;
};

static __device__ float half(u16 bits) {
	float f;
	asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
	return f;
}

static __device__ float scaleOf(const Scales &s, int expert, int tile, int group, int output) {
	size_t at = ((size_t)tile * s.groups + group) * STEP + output;
	const unsigned char *numbers = s.numbers + expert * s.expert;
	switch (s.kind) {
	case SCALE_F32: return ((const float *)numbers)[at];
	case SCALE_F16: return half(((const u16 *)numbers)[at]);
	case SCALE_BF16: return widen(((const u16 *)numbers)[at]);
	}
	float code = (float)(numbers[at] >> s.shift & s.mask) + s.bias;
	int above = (s.groups + s.lead + s.size - 1) / s.size;
	return code * half(s.above[expert * s.expertAbove + ((size_t)tile * above + (group + s.lead) / s.size) * STEP + output]);
}

// Coded are weights that are codes: a number is level(code) x scale + offset of its group, or (level(code) - offset) x scale, where zero
// is set. A group's columns begin a step of their own. Codes are [tile][step][plane][lane], a lane's 8 in the order of a fragment: the low
// 4 (or 2) bits of all in one plane, then those above.
struct Coded {
	const unsigned char *codes;
	const u16 *levels;   // [code]: bfloat16
	const int *groups;   // [expert][step]: the group
	u64 expert;          // the distance of two experts' codes, in bytes
	Scales scales, offsets;
	int bits, offset, zero; // offset: there are some
};

// codesOf are a lane's codes of a step, 8 bits each.
static __device__ uint2 codesOf(const unsigned char *step, int bits, int lane) {
	if (bits == 8) return ((const uint2 *)step)[lane];
	u32 low, high = 0;
	uint2 v = make_uint2(0, 0);
	if (bits >= 4) {
		low = ((const u32 *)step)[lane];
		if (bits == 5) high = step[128 + lane];
		if (bits == 6) high = ((const u16 *)(step + 128))[lane];
		#pragma unroll
		for (int i = 0; i < 8; i++) {
			u32 above = bits == 5 ? high >> i & 1 : bits == 6 ? high >> 2 * i & 3 : 0;
			u32 code = (low >> 4 * i & 15 | above << 4) << 8 * (i & 3);
			if (i < 4) v.x |= code;
			else v.y |= code;
		}
		return v;
	}
	low = ((const u16 *)step)[lane];
	if (bits == 3) high = step[64 + lane];
	#pragma unroll
	for (int i = 0; i < 8; i++) {
		u32 code = (low >> 2 * i & 3 | (high >> i & 1) << 2) << 8 * (i & 3);
		if (i < 4) v.x |= code;
		else v.y |= code;
	}
	return v;
}

// pair is two codes' levels as bfloat16, less a zero point.
static __device__ u32 pair(const u16 *levels, u32 codes, float zero) {
	u16 a = levels[codes & 255], b = levels[codes >> 8 & 255];
	if (zero != 0) a = roundBF16(widen(a) - zero), b = roundBF16(widen(b) - zero);
	return a | (u32)b << 16;
}

// chainCoded is chain for codes: a group is a chain of its own from zero, of levels, which are exact; its sum is multiplied by the scale,
// and the sum of its inputs by the offset, and added to c with one rounding each, in the order of groups. levels is shared memory.
template <int NB>
static __device__ __forceinline__ void chainCoded(float (*c)[4], const Coded &w, const u16 *levels, int expert, int tile, int firstStep, int allSteps,
	const u16 *const *xr, size_t stepApart, size_t xTerm, int xTerms, int steps) {
	int lane = threadIdx.x & 31, g = lane >> 2;
	const unsigned char *codes = w.codes + expert * w.expert + ((size_t)tile * allSteps + firstStep) * 32 * w.bits;
	const int *groups = w.groups + (size_t)expert * allSteps + firstStep;
	const uint4 ones = make_uint4(0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80);
	float sum[NB][4], inputs[NB][4];
	for (int k = 0; k < steps;) {
		int group = groups[k];
		float zero0 = 0, zero1 = 0;
		if (w.zero) zero0 = scaleOf(w.offsets, expert, tile, group, g), zero1 = scaleOf(w.offsets, expert, tile, group, g + 8);
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) sum[n][i] = inputs[n][i] = 0;
		for (; k < steps && groups[k] == group; k++) {
			uint2 v = codesOf(codes + (size_t)k * 32 * w.bits, w.bits, lane);
			uint4 a = make_uint4(pair(levels, v.x, zero0), pair(levels, v.x >> 16, zero1), pair(levels, v.y, zero0), pair(levels, v.y >> 16, zero1));
			#pragma unroll
			for (int n = 0; n < NB; n++) {
				const u16 *at = xr[n] + k * stepApart;
				uint2 b = load8(at);
				multiply(sum[n], a, b);
				if (w.offset) multiply(inputs[n], ones, b);
				if (xTerms > 1) {
					b = load8(at + xTerm);
					multiply(sum[n], a, b);
					if (w.offset) multiply(inputs[n], ones, b);
				}
			}
		}
		float scale0 = scaleOf(w.scales, expert, tile, group, g), scale1 = scaleOf(w.scales, expert, tile, group, g + 8);
		#pragma unroll
		for (int n = 0; n < NB; n++)
			#pragma unroll
			for (int i = 0; i < 4; i++) c[n][i] = fmaf(i < 2 ? scale0 : scale1, sum[n][i], c[n][i]);
		if (w.offset) {
			float offset0 = scaleOf(w.offsets, expert, tile, group, g), offset1 = scaleOf(w.offsets, expert, tile, group, g + 8);
			#pragma unroll
			for (int n = 0; n < NB; n++)
				#pragma unroll
				for (int i = 0; i < 4; i++) c[n][i] = fmaf(i < 2 ? offset0 : offset1, inputs[n][i], c[n][i]);
		}
	}
}

// levelsOf copies the levels of so many bits to shared memory. A block calls it.
static __device__ const u16 *levelsOf(const Coded &w) {
	__shared__ u16 levels[256];
	for (int i = threadIdx.x; i < 1 << w.bits; i += blockDim.x) levels[i] = w.levels[i];
	__syncthreads();
	return levels;
}

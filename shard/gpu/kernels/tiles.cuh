// What the products of gemm.cu, ring.cu and wgmma.cu share.

// Plain loads of shared memory, in assembly, so that the compiler leaves them before the products that come later.
static __device__ uint4 shared16(u32 from) {
	uint4 v;
	asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from));
	return v;
}
static __device__ uint2 shared8(u32 from) {
	uint2 v;
	asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(from));
	return v;
}

// copy16 copies 16 bytes, or zeros, where there are none.
static __device__ void copy16(u32 to, const void *from, bool there) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}

// Matrix is one of those that are multiplied by the same x: packed weights, where its results go, and its tiles.
struct Matrix {
	const unsigned char *w;
	float *y;
	int tiles;
};

// Matrices are up to three, of which the last may have no tiles.
struct Matrices {
	Matrix a, b, c;

	// of finds which of them has the at-th of units of so many tiles that are counted over all, each matrix beginning a unit of its own, and
	// leaves in at which of its own that is.
	__device__ Matrix of(int &at, int unit) const {
		int ofA = (a.tiles + unit - 1) / unit, ofB = (b.tiles + unit - 1) / unit;
		if (at < ofA) return a;
		if ((at -= ofA) < ofB) return b;
		at -= ofB;
		return c;
	}
	__device__ int tiles() const { return a.tiles + b.tiles + c.tiles; }
};

#define MATRICES const unsigned char *w0, float *y0, int tiles0, const unsigned char *w1, float *y1, int tiles1, const unsigned char *w2, \
	float *y2, int tiles2
#define GIVEN_MATRICES {{w0, y0, tiles0}, {w1, y1, tiles1}, {w2, y2, tiles2}}

// Sums are a warp's results: lane 4g+t has outputs g and g+8 of M tiles, of rows 2t and 2t+1 of N groups.
template <int M, int N> struct Sums {
	float c[M][N][4];
	int row, rows, tile, tiles; // the lane's first row and the warp's first tile, and how many there are

	__device__ __forceinline__ void clear() {
		#pragma unroll
		for (int i = 0; i < M * N * 4; i++) (&c[0][0][0])[i] = 0;
	}

	__device__ __forceinline__ bool there(int m, int n, int i) const { return row + n * 8 + (i & 1) < rows && tile + m < tiles; }
	__device__ __forceinline__ void put(float *y) const {
		#pragma unroll
		for (int m = 0; m < M; m++) {
			float *at = y + ((size_t)row * tiles + tile + m) * STEP;
			#pragma unroll
			for (int n = 0; n < N; n++, at += 8 * tiles * STEP)
				#pragma unroll
				for (int i = 0; i < 4; i++)
					if (there(m, n, i)) at[(i & 1) * tiles * STEP + (i >> 1) * 8] = c[m][n][i];
		}
	}
	__device__ __forceinline__ void addTo(const float *y) {
		constexpr int BATCH = N < 32 ? 1 : 4; // of so few the registers are needed for more blocks
		#pragma unroll
		for (int m = 0; m < M; m++) {
			const float *at = y + ((size_t)row * tiles + tile + m) * STEP;
			#pragma unroll
			for (int n = 0; n < N; n += BATCH) {
				float before[BATCH][4];
				#pragma unroll
				for (int j = 0; j < BATCH; j++, at += 8 * tiles * STEP)
					#pragma unroll
					for (int i = 0; i < 4; i++) before[j][i] = there(m, n + j, i) ? at[(i & 1) * tiles * STEP + (i >> 1) * 8] : 0;
				__syncwarp(); // or ptxas moves the loads to their uses, and few are in flight
				#pragma unroll
				for (int j = 0; j < BATCH; j++)
					#pragma unroll
					for (int i = 0; i < 4; i++) c[m][n + j][i] = before[j][i] + c[m][n + j][i];
			}
		}
	}

	// leave writes those of the i-th of count chunks: where it completes halves of the tree of chunks, the sum of these. What is put aside
	// meanwhile lies in the places of chunks from y on, which are so far apart; in the end the sum of all lies in the first.
	__device__ __forceinline__ void leave(float *y, size_t place, int i, int count, int &aside) {
		#pragma unroll 1
		for (int halves = i + 1 < count ? __popc(i & ~(i + 1)) : aside; halves; halves--) addTo(y + --aside * place);
		put(y + aside++ * place);
	}
};

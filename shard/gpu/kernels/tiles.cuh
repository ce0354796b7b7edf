// What the products of gemm.cu and ring.cu share.

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

#include "common.cuh"

// Peers is what exchange is told of a group whose ranks reach one another's memory.
struct Peers {
	int ranks, rank, rows, unused;
	u64 floats;         // of each of a rank's two buffers
	const u32 *abort;   // not 0: the group is given up
	u32 *failed;        // 1 where a wait was
	u32 *flags[8];      // of each rank: [rank][row], the number of the exchange up to which a row is there
	float *buffers[8];  // of each rank: [parity][floats]
};

#define LOOKS 1024               // at a flag between two looks at the abort word and the clock
#define PATIENCE 60000000000ull  // nanoseconds, as the host's PeerDeadline

// await waits for a row of another rank. A thread calls it.
static __device__ bool await(const u32 *flag, u32 number, const Peers &p) {
	u64 begun, now;
	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begun) :: "memory");
	for (;;) {
		for (int i = 0; i < LOOKS; i++) {
			u32 seen;
			asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");
			if ((int)(seen - number) >= 0) return true;
		}
		u32 given;
		asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(given) : "l"(p.abort) : "memory");
		asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now) :: "memory");
		if (given || now - begun > PATIENCE) return false;
		asm volatile("nanosleep.u32 200;" ::: "memory");
	}
}

// exchange sums rows of n floats over the ranks, as the tree that continues that of the chunks. A block is a row: it writes the row to its
// rank's buffer, tells all ranks, waits for theirs, and adds. A rank is at most one exchange ahead of another, so two buffers do. Its number
// is `next`, which the step is told, and its place among those of the step.
//
// Roof: the links between cards, and their latency twice.
extern "C" __global__ void __launch_bounds__(256) exchange(float *values, const Peers *told, int n, const u32 *next, int place) {
	__shared__ u32 given;
	letNext();
	wait();
	u32 number = *next + place;
	const Peers &p = *told;
	int row = blockIdx.x;
	size_t at = (number & 1) * p.floats + (size_t)row * n;
	if (threadIdx.x == 0) given = *p.failed;
	__syncthreads();
	if (given) return;
	for (int i = threadIdx.x; i < n; i += blockDim.x) p.buffers[p.rank][at + i] = values[(size_t)row * n + i];
	__threadfence_system();
	__syncthreads();
	if (threadIdx.x < p.ranks) {
		asm volatile("st.release.sys.global.u32 [%0], %1;" :: "l"(p.flags[threadIdx.x] + p.rank * p.rows + row), "r"(number) : "memory");
		if (!await(p.flags[p.rank] + threadIdx.x * p.rows + row, number, p)) given = 1, *p.failed = 1;
	}
	__syncthreads();
	if (given) return;
	for (int i = threadIdx.x; i < n; i += blockDim.x) {
		float q[8];
		#pragma unroll
		for (int r = 0; r < 8; r++)
			if (r < p.ranks) asm volatile("ld.relaxed.sys.global.f32 %0, [%1];" : "=f"(q[r]) : "l"(p.buffers[r] + at + i) : "memory");
		#pragma unroll
		for (int width = 1; width < 8; width *= 2)
			#pragma unroll
			for (int r = 0; r + width < 8; r += 2 * width)
				if (r + width < p.ranks) q[r] += q[r + width];
		values[(size_t)row * n + i] = q[0];
	}
}

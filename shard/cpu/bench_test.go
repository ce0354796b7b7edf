package cpu_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lockstep/shard/cpu"
)

// The benchmarks report ratios to make sense of against BenchmarkPeak (GFLOP/s)
// and BenchmarkRead (GB/s). Rates are those of a second of one thread's CPU
// time, so that others on the machine change little.

func rate(b *testing.B, seconds, perOp float64, unit string) {
	b.ReportMetric(perOp*float64(b.N)/seconds/1e9, unit)
	b.ReportMetric(0, "ns/op")
}

// loop has body called as often as the benchmark wants and returns the CPU time of that.
func loop(b *testing.B, body func()) (seconds float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() float64 {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
			b.Fatal(err)
		}
		return float64(t.Nano()) / 1e9
	}
	body()
	start := now()
	for range b.N {
		body()
	}
	return now() - start
}

func BenchmarkPeak(b *testing.B) {
	for _, k := range fast(b) {
		b.Run(k.Name(), func(b *testing.B) {
			flops := 0
			seconds := loop(b, func() {
				flops = k.PeakFMA(100_000)
			})
			rate(b, seconds, float64(flops), "GFLOP/s")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	data := aligned(96 << 20)
	for i := 0; i < len(data); i += 4096 {
		data[i] = 1
	}
	for _, k := range fast(b) {
		b.Run(k.Name(), func(b *testing.B) {
			seconds := loop(b, func() {
				k.ReadStream(data)
			})
			rate(b, seconds, float64(len(data)), "GB/s")
		})
	}
}

// BenchmarkMatMul has 2048 columns and as many outputs as fill 64 MiB for few
// rows, which is more than the caches hold, and 1024 outputs for many.
func BenchmarkMatMul(b *testing.B) {
	const columns = 2048
	rng := rand.New(rand.NewPCG(1, 2))
	for _, f := range allFormats {
		rows := source(rng, f, 64, columns)
		for _, count := range []int{1, 2, 3, 4, 8, 16, 48, 512} {
			outputs := 1024
			if count < 16 {
				outputs = (64 << 20) / f.RowBytes(columns) &^ 63
			}
			m := pack(b, f, outputs, columns, 1, repeat(rows, outputs))
			benchmarkProduct(b, f.String(), rng, m, count)
		}
	}
}

// benchmarkProduct times the product of so many rows.
func benchmarkProduct(b *testing.B, name string, rng *rand.Rand, m *cpu.Matrix, count int) {
	x, dst, s := normals(rng, count*m.Columns), make([]float32, count*m.Rows), cpu.NewScratch()
	for _, k := range fast(b) {
		b.Run(fmt.Sprintf("%s/%d/%s", name, count, k.Name()), func(b *testing.B) {
			seconds := loop(b, func() {
				k.MatMul(cpu.Rows{dst, m.Rows, count}, cpu.Rows{x, m.Columns, count}, m, 0, m.Panels(), s)
			})
			rate(b, seconds, 2*float64(m.Columns)*float64(m.Rows)*float64(count), "GFLOP/s")
			rate(b, seconds, float64(len(m.Data)), "GB/s")
		})
	}
}

func repeat[T any](rows []T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = rows[i%len(rows)]
	}
	return out
}

// Decode reads caches that no processor cache holds: the rows are the query heads of a token of one of many sequences, of 256 positions
// with 64 dims in half precision. The time is that of a call.
func BenchmarkColdAttention(b *testing.B) {
	const headDim, positions, sequences = 64, 256, 1024
	rng := rand.New(rand.NewPCG(1, 2))
	h := newUnlikeHeadCache(rng, cpu.Best(), headDim, headDim, positions*sequences, 0, cpu.CacheF16)
	data, err := unix.Mmap(-1, 0, len(h.cache.Data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Munmap(data)
	unix.Madvise(data, unix.MADV_HUGEPAGE) // as that of a backend
	copy(data, h.cache.Data)
	h.cache.Data = data
	for _, rows := range []int{1, 3, 7} {
		q, dst := normals(rng, rows*headDim), make([]float32, rows*headDim)
		first, end := make([]int32, rows), slices.Repeat([]int32{positions - 5}, rows)
		for _, k := range fast(b) {
			b.Run(fmt.Sprintf("%d/%s", rows, k.Name()), func(b *testing.B) {
				s, next := cpu.NewScratch(), 0
				seconds := loop(b, func() {
					blocks := h.blocks[next%sequences*(positions/16):][:positions/16]
					next++
					k.Attention(cpu.Rows{dst, headDim, rows}, cpu.Rows{q, headDim, rows}, cpu.Spans{first, end},
						cpu.HeadCache{h.cache, h.stride, h.keyBase, h.valueBase, headDim, headDim, blocks}, cpu.Softmax{Scale: 0.125}, s)
				})
				b.ReportMetric(seconds/float64(b.N)*1e6, "us")
				rate(b, seconds, 2*2*headDim*positions, "GB/s")
			})
		}
	}
}

// BenchmarkAttention has 64 dims and 2048 positions; the rate counts both
// products over all of them.
func BenchmarkAttention(b *testing.B) {
	const headDim, positions = 64, 2048
	rng := rand.New(rand.NewPCG(1, 2))
	for _, rows := range []int{1, 2, 4, 7, 64} {
		h := newHeadCache(rng, cpu.Best(), headDim, positions, 0)
		q, dst := normals(rng, rows*headDim), make([]float32, rows*headDim)
		first, end := make([]int32, rows), make([]int32, rows)
		for r := range end {
			end[r] = positions
		}
		for _, k := range fast(b) {
			b.Run(fmt.Sprintf("%d/%s", rows, k.Name()), func(b *testing.B) {
				s := cpu.NewScratch()
				seconds := loop(b, func() {
					k.Attention(cpu.Rows{dst, headDim, rows}, cpu.Rows{q, headDim, rows}, cpu.Spans{first, end},
						cpu.HeadCache{h.cache, h.stride, h.keyBase, h.valueBase, headDim, headDim, h.blocks}, cpu.Softmax{Scale: 0.125}, s)
				})
				rate(b, seconds, 4*headDim*positions*float64(rows), "GFLOP/s")
			})
		}
	}
}

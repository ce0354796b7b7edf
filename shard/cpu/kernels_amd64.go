//go:build amd64 && !purego

package cpu

import (
	"slices"
	"time"

	"golang.org/x/sys/cpu"
)

//go:generate go run -C _asm .

// detect returns the implementations in assembly that this CPU can run.
func detect() []*Kernels {
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasFMA || !x.HasF16C {
		return nil
	}
	found := []*Kernels{{name: "avx2", primitives: avx2Primitives()}}
	if !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512VL || !x.HasAVX512DQ {
		return found
	}
	base := &Kernels{name: "avx512f", primitives: avx512Primitives()}
	if !selfTest(base) {
		return found
	}
	found = slices.Insert(found, 0, base)
	all := &Kernels{name: "avx512", primitives: base.primitives}
	if x.HasAVX512BF16 {
		all.fillAVX512BF16()
		if all.pairs = true; !selfTest(all) || !faster(all, base, BF16Dot) {
			all.primitives = base.primitives
		}
	}
	return slices.Insert(found, 0, all)
}

// faster reports whether a multiplies a format faster than b, in tiles of many rows: some CPUs have instructions for dot products
// that are slower than what they stand for. Either gives the same bits.
func faster(a, b *Kernels, f Format) bool {
	const rows, outputs, columns = 12, 64, 512
	w, err := NewMatrix(f, outputs, columns, 1, aligned(PackedBytes(f, outputs, columns)))
	if err != nil {
		return false
	}
	s, x, dst := NewScratch(), make([]float32, rows*columns), make([]float32, rows*outputs)
	best := [2]time.Duration{time.Hour, time.Hour}
	for range 5 {
		for i, k := range []*Kernels{a, b} {
			start := time.Now()
			k.MatMul(Rows{dst, outputs, rows}, Rows{x, columns, rows}, w, 0, w.Panels(), s)
			best[i] = min(best[i], time.Since(start))
		}
	}
	return best[0] < best[1]
}

// vectorPrimitives returns the functions over one row, which AVX2 and AVX-512
// share.
func vectorPrimitives() primitives {
	return primitives{
		squares: squaresAVX2, scale: scaleAVX2, add: addAVX2, siluMul: siluMulAVX2, geluMul: geluMulAVX2, exp: expAVX2,
		rotate: rotateAVX2, rowMax: rowMaxAVX2, rowExpSum: rowExpSumAVX2, roundPairs: roundPairsAVX2, roundFloats: roundFloatsAVX2,
		stream: streamAVX2,
	}
}

// avx2Primitives returns the table of the AVX2 functions.
func avx2Primitives() primitives {
	p := vectorPrimitives()
	p.tileRows, p.wideK, p.peak = 6, 256, peakAVX2
	p.fillAVX2()
	return p
}

// avx512Primitives returns the table of the AVX-512 functions.
func avx512Primitives() primitives {
	p := vectorPrimitives()
	p.tileRows, p.wideK, p.peak = 12, 128, peakAVX512
	p.fillAVX512()
	return p
}

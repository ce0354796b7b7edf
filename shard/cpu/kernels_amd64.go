//go:build amd64 && !purego

package cpu

import (
	"time"

	"golang.org/x/sys/cpu"
)

//go:generate go run -C _asm .

// detect returns the implementations in assembly that this CPU can run.
func detect() (found []*Kernels) {
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasFMA || !x.HasF16C {
		return nil
	}
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ {
		base := &Kernels{"avx512f", avx512Primitives(), true}
		all := &Kernels{"avx512", primitives512(x.HasAVX512BF16, x.HasAVX512VNNI), true}
		if x.HasAVX512BF16 && !faster(all, base, BF16Dot) {
			all.primitives = primitives512(false, x.HasAVX512VNNI)
		}
		found = append(found, all, base)
	}
	if x.HasAVXVNNI {
		found = append(found, &Kernels{"avx2vnni", vnniPrimitives(), true})
	}
	return append(found, &Kernels{"avx2", avx2Primitives(), false})
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
		rotate: rotateAVX2, rowMax: rowMaxAVX2, rowExpSum: rowExpSumAVX2, largest: largestAVX2, expSum: expSumAVX2,
		halves: halvesAVX2, halvesApart: halvesApartAVX2,
		roundPairs: roundPairsAVX2, roundFloats: roundFloatsAVX2, quantise: quantiseAVX2,
		stream: streamAVX2,
	}
}

// avx2Primitives returns the table of the AVX2 functions.
func avx2Primitives() primitives {
	p := vectorPrimitives()
	p.tileRows, p.integerRows, p.wideK, p.peak = 6, 2, 256, peakAVX2
	p.fillAVX2()
	return p
}

// avx512Primitives returns the table of the AVX-512 functions.
func avx512Primitives() primitives {
	p := vectorPrimitives()
	p.tileRows, p.integerRows, p.wideK, p.peak = 12, 4, 128, peakAVX512
	p.fillAVX512()
	return p
}

// vnniPrimitives are those of AVX2 with the dot products of AVX-VNNI.
func vnniPrimitives() primitives {
	p := avx2Primitives()
	p.integerRows = 3
	p.fillAVXVNNI()
	return p
}

// primitives512 returns the table of AVX-512 with the dot products of a CPU.
func primitives512(bfloats, integers bool) primitives {
	p := avx512Primitives()
	if bfloats {
		p.pairs = true
		p.fillAVX512BF16()
	}
	if integers {
		p.integerRows = 6
		p.fillAVX512VNNI()
	}
	return p
}

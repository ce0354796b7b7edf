//go:build amd64 && !purego

package cpu

import "golang.org/x/sys/cpu"

//go:generate go run -C _asm .

// detect returns the implementations in assembly that this CPU can run.
func detect() []*Kernels {
	var found []*Kernels
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA || !cpu.X86.HasF16C {
		return nil
	}
	fast := &Kernels{name: "avx2", primitives: avx2Primitives()}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ {
		if wide := (&Kernels{name: "avx512", primitives: avx512Primitives()}); selfTest(wide) {
			found = append(found, wide)
		}
	}
	return append(found, fast)
}

// vectorPrimitives returns the functions over one row, which AVX2 and AVX-512
// share.
func vectorPrimitives() primitives {
	return primitives{
		squares: squaresAVX2, scale: scaleAVX2, add: addAVX2, siluMul: siluMulAVX2, geluMul: geluMulAVX2, exp: expAVX2,
		rotate: rotateAVX2, rowMax: rowMaxAVX2, rowExpSum: rowExpSumAVX2, stream: streamAVX2,
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

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

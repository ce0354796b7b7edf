//go:build invariants

package host

// poison fills memory that was never written with NaNs: whatever is computed from a block that was not zeroed when it was
// taken (Forward) is NaN too, and every test that compares tokens sees it. Without the tag such a block works by luck,
// for as long as the kernel's fresh pages are zero.
func poison(memory []byte) {
	for i := range memory {
		memory[i] = 0xff // of any type of numbers a NaN
	}
}

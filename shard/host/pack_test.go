package host

import "testing"

// Weights that do not fit are refused in words before the kernel kills for them.
func TestRoomToPack(t *testing.T) {
	if err := roomToPack(8*packPieceBytes, "the machine", 4); err != nil {
		t.Error(err)
	}
	const want = "the model's weights do not fit: only 255 MiB of memory of control group /x are left, and they are not all packed: " +
		"free some, give more, or serve a smaller or quantised model"
	if err := roomToPack(8*packPieceBytes-1, "control group /x", 4); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

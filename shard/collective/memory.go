package collective

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewMemory makes the anonymous shared memory of one incarnation of a group. Ranks inherit the file; the kernel frees
// the memory with the last process that holds it, so no name is ever left behind. The launcher keeps its own handle to
// set the abort word (see Abort).
func NewMemory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if err := file.Truncate(headerBytes); err != nil {
		file.Close()
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return file, nil
}

// Abort sets the abort word of a group's memory: every rank that waits for another gives up at once.
func Abort(file *os.File) error {
	var one [4]byte
	one[0] = 1
	_, err := file.WriteAt(one[:], abortOffset)
	return err
}

// WriteBeat counts a beat of what is no group but is watched like one: it has made the file by NewMemory.
func WriteBeat(file *os.File, rank int, beat uint32) error {
	var word [4]byte
	binary.NativeEndian.PutUint32(word[:], beat)
	_, err := file.WriteAt(word[:], int64(beatOffset(rank)))
	return err
}

// ReadBeat returns a rank's beat (see Group.Beat), 0 before the group has met: then it loads.
func ReadBeat(file *os.File, rank int) (uint32, error) {
	var word [4]byte
	if _, err := file.ReadAt(word[:], int64(beatOffset(rank))); err != nil {
		return 0, fmt.Errorf("beat of rank %d: %w", rank, err)
	}
	return binary.NativeEndian.Uint32(word[:]), nil
}

func beatOffset(rank int) int { return (rankLines + rank*linesEach + beatLine) * lineBytes }

// The memory begins with a header that exists from the start; ranks grow the file to the size that they compute alike.
const (
	shareOffset = (rankLines + MaxRanks*linesEach) * lineBytes
	headerBytes = (shareOffset + MaxRanks*shareBytes + pageBytes - 1) &^ (pageBytes - 1)
	pageBytes   = 4096
	abortOffset = 0
)

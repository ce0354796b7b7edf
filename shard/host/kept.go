package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"lockstep/shard/workers"
)

// Kept is memory for a rank's packed weights that outlives the process, so that the next one packs nothing: a file without a name,
// which whoever starts the processes holds and gives to one after the other, never to two at once. It begins with a page that says
// whose weights they are and, once all are packed, where they end; a process that dies before leaves a file that says nothing, and
// one whose key is another is emptied first. Packed weights are mapped to be read only, so that no later fault of a process that
// uses them changes those of its successor. The memory is free when the last holder closes the file.
type Kept struct {
	File *os.File
	// Key names all that the packed bytes follow from.
	Key [32]byte
}

// segmentBytes is how much of the file is mapped at once, at the least: huge pages are of whole mappings.
var segmentBytes = 256 << 20 // tests have others

// hugePageBytes is the size of a huge page; a file has them where offset and address are multiples of it.
const hugePageBytes = 2 << 20

// keeper is a Kept in use.
type keeper struct {
	Kept
	whole    bool     // all is packed already
	total    int64    // the end of what is packed, if it is whole
	end      int64    // of what was taken so far
	segments [][]byte // mapped parts of the file
	from     int64    // where the last of them begins
	filled   int64    // up to where the kernel has given memory
}

// errKept says that packed weights are not what their key says. It is a bug; the file is emptied, so that it is not met again.
var errKept = errors.New("the kept weights are of another size than this model's")

func openKept(kept Kept) (*keeper, error) {
	s := &keeper{Kept: kept, end: pageBytes}
	var header [len(kept.Key) + 8]byte
	if n, _ := s.File.ReadAt(header[:], 0); n == len(header) && [32]byte(header[:len(s.Key)]) == s.Key {
		if s.total = int64(binary.LittleEndian.Uint64(header[len(s.Key):])); s.total > 0 {
			info, err := s.File.Stat()
			s.whole = err == nil && info.Size() >= s.total
		}
	}
	if s.whole {
		return s, nil
	}
	return s, s.empty()
}

// empty gives the memory back.
func (s *keeper) empty() error {
	err := s.File.Truncate(0)
	if err == nil {
		_, err = s.File.WriteAt(s.Key[:], 0)
	}
	if err != nil {
		return fmt.Errorf("memory for packed weights: %w", err)
	}
	return nil
}

// take returns the next bytes: what is packed already, or memory to pack into.
func (s *keeper) take(bytes int) ([]byte, error) {
	begin := (s.end + pageBytes - 1) &^ (pageBytes - 1)
	s.end = begin + int64(bytes)
	if s.whole && s.end > s.total {
		return nil, errors.Join(errKept, s.empty())
	}
	if last := len(s.segments) - 1; last < 0 || s.end > s.from+int64(len(s.segments[last])) {
		s.from = begin &^ (hugePageBytes - 1)
		if err := s.mapSegment(max(segmentBytes, (int(s.end-s.from)+hugePageBytes-1)&^(hugePageBytes-1))); err != nil {
			return nil, fmt.Errorf("memory for %d MiB of packed weights: %w: the machine, or a limit (ulimit -v), has less", bytes>>20, err)
		}
	}
	return s.segments[len(s.segments)-1][begin-s.from:][:bytes:bytes], nil
}

// mapSegment maps so many bytes of the file from s.from on, with huge pages where the kernel has them for shared memory.
func (s *keeper) mapSegment(bytes int) error {
	protection := unix.PROT_READ | unix.PROT_WRITE
	if s.whole {
		protection = unix.PROT_READ
		bytes = int(s.total-s.from+hugePageBytes-1) &^ (hugePageBytes - 1)
	} else if err := s.File.Truncate(s.from + int64(bytes)); err != nil {
		return err
	}
	room := uintptr(bytes + hugePageBytes)
	reserved, err := unix.MmapPtr(-1, 0, nil, room, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	skip := -uintptr(reserved) % hugePageBytes
	at := unsafe.Add(reserved, skip)
	if _, err = unix.MmapPtr(int(s.File.Fd()), s.from, at, uintptr(bytes), protection, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		unix.MunmapPtr(reserved, room)
		return err
	}
	segment := unsafe.Slice((*byte)(at), bytes)
	s.segments = append(s.segments, segment)
	if skip > 0 {
		unix.MunmapPtr(reserved, skip)
	}
	unix.MunmapPtr(unsafe.Add(at, bytes), hugePageBytes-skip)
	unix.Madvise(segment, unix.MADV_HUGEPAGE)
	if s.whole {
		unix.Madvise(segment, unix.MADV_POPULATE_READ)
	}
	return nil
}

// fill has the kernel give the memory of what lies before end, which was taken, with all of a team. In huge pages that takes a tenth
// of the time, steps read them faster, and the next process maps them at once. Shared memory has them where an administrator wants it so,
// or where they are made of a page that is there (MADV_COLLAPSE, since Linux 6.1).
func (s *keeper) fill(team *workers.Team, end int64) {
	begin := max(s.filled, s.from)
	if begin >= end {
		return
	}
	s.filled = (end + hugePageBytes - 1) &^ (hugePageBytes - 1)
	part := s.segments[len(s.segments)-1][begin-s.from : s.filled-s.from]
	team.Share(len(part)/hugePageBytes, 1, func(_, from, to int) {
		for i := from; i < to; i++ {
			page := part[i*hugePageBytes:][:hugePageBytes]
			err := populatePages(page[:pageBytes])
			if err == nil && unix.Madvise(page, unix.MADV_COLLAPSE) != nil {
				populatePages(page) // what it lacks is taken when it is written
			}
		}
	})
}

// close unmaps what was taken.
func (s *keeper) close() {
	for _, segment := range s.segments {
		unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(segment)), uintptr(len(segment)))
	}
	s.segments = nil
}

// finish says that all is packed.
func (s *keeper) finish() error {
	if s.whole {
		if s.end != s.total {
			return errors.Join(errKept, s.empty())
		}
		return nil
	}
	for _, segment := range s.segments {
		if err := unix.Mprotect(segment, unix.PROT_READ); err != nil {
			return fmt.Errorf("protect the packed weights: %w", err)
		}
	}
	if _, err := s.File.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(s.end)), int64(len(s.Key))); err != nil {
		return fmt.Errorf("memory for packed weights: %w", err)
	}
	return nil
}

// packed returns memory for packed weights, which holds them already if they are kept.
func (b *Backend) packed(bytes int) ([]byte, error) {
	if b.keeper == nil {
		return b.anonymous(bytes)
	}
	return b.keeper.take(bytes)
}

// Reused reports whether the weights were packed by a process before.
func (b *Backend) Reused() bool { return b.keeper != nil && b.keeper.whole }

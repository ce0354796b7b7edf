package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
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

// keeper is a Kept in use.
type keeper struct {
	Kept
	whole bool  // all is packed already
	total int64 // the end of what is packed, if it is whole
	end   int64 // of what was mapped so far
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

// take maps the next bytes: what is packed already, or memory to pack into.
func (s *keeper) take(bytes int) ([]byte, error) {
	from := (s.end + pageBytes - 1) &^ (pageBytes - 1)
	s.end = from + int64(bytes)
	protection, flags := unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED
	if s.whole {
		protection, flags = unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE
		if s.end > s.total {
			return nil, errors.Join(errKept, s.empty())
		}
	} else if err := s.File.Truncate(s.end); err != nil {
		return nil, fmt.Errorf("memory for %d MiB of packed weights: %w", bytes>>20, err)
	}
	data, err := unix.Mmap(int(s.File.Fd()), from, max(bytes, 1), protection, flags)
	if err != nil {
		return nil, fmt.Errorf("map %d MiB of packed weights: %w: the machine, or a limit (ulimit -v), has less", bytes>>20, err)
	}
	unix.Madvise(data, unix.MADV_HUGEPAGE) // where the kernel has them for shared memory
	return data, nil
}

// finish says that all is packed in these parts.
func (s *keeper) finish(parts [][]byte) error {
	if s.whole {
		if s.end != s.total {
			return errors.Join(errKept, s.empty())
		}
		return nil
	}
	for _, data := range parts {
		if err := unix.Mprotect(data, unix.PROT_READ); err != nil {
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
	data, err := b.keeper.take(bytes)
	if err == nil {
		b.memory = append(b.memory, data)
	}
	return data, err
}

// Reused reports whether the weights were packed by a process before.
func (b *Backend) Reused() bool { return b.keeper != nil && b.keeper.whole }

package host

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// populatePieceBytes is how much memory is taken between two looks at what is left.
	populatePieceBytes = 64 << 20
	// populateGrainBytes is how much one call of the kernel takes: meanwhile nobody else may change what memory this process has.
	populateGrainBytes = 4 << 20
	// hugeBytes is from which size on memory is in huge pages, where the kernel has them: less time to take it, and to read it.
	hugeBytes = 8 << 20
	// nowBytes is how much of the KV cache is taken before the backend is attached.
	nowBytes = 32 << 20
	// fillNice is the priority of the thread that takes the rest: it has no haste, and what computes has.
	fillNice = 10
)

// Close gives the memory of weights, cache and buffers back. The backend must not be used afterwards.
func (b *Backend) Close() {
	b.fill.end()
	for _, data := range b.memory {
		unix.Munmap(data)
	}
	b.memory = nil
	if b.keeper != nil {
		b.keeper.close()
	}
}

// anonymous returns zeroed memory outside the Go heap, aligned to a page, that Close gives back.
func (b *Backend) anonymous(bytes int) ([]byte, error) {
	data, err := unix.Mmap(-1, 0, max(bytes, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("take %d MiB of memory: %w: the machine, or a limit (ulimit -v), has less", bytes>>20, err)
	}
	if bytes >= hugeBytes {
		unix.Madvise(data, unix.MADV_HUGEPAGE)
	}
	b.memory = append(b.memory, data)
	return data, nil
}

func (b *Backend) anonymousFloats(count int) ([]float32, error) {
	data, err := b.anonymous(4 * count)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&data[0])), count), nil
}

// room fails where less memory than so many bytes is left.
func (b *Backend) room(bytes int) error {
	if free, of, err := b.free(); err != nil {
		return err
	} else if free < int64(bytes) {
		return fmt.Errorf("only %d MiB of memory of %s are left for a KV cache of %d blocks: free some, or lower "+
			"--max-batch-total-tokens or --cpu-memory-fraction",
			free>>20, of, b.blocks)
	}
	return nil
}

// takeBuffer has the kernel give memory that begins at a page.
func (b *Backend) takeBuffer(data []byte) error {
	for len(data) > 0 && !b.fill.ends.Load() {
		piece := data[:min(len(data), populatePieceBytes)]
		data = data[len(piece):]
		if err := b.room(len(piece)); err != nil {
			return err
		}
		for from := 0; from < len(piece) && !b.fill.ends.Load(); from += populateGrainBytes {
			if err := populatePages(piece[from:min(from+populateGrainBytes, len(piece))]); err != nil {
				return fmt.Errorf("take memory of buffers: %w", err)
			}
		}
		b.fill.rest.Add(-int64(len(piece)))
	}
	return nil
}

// populatePages takes memory that begins at a page. It changes nothing, so that others may write there meanwhile.
func populatePages(data []byte) error {
	err := unix.Madvise(data, unix.MADV_POPULATE_WRITE)
	if err != unix.EINVAL {
		return err
	}
	for i := 0; i < len(data); i += pageBytes { // kernels before 5.14
		atomic.AddUint32((*uint32)(unsafe.Pointer(&data[i])), 0)
	}
	return nil
}

const pageBytes = 4096

// fill is the thread that has the kernel give the memory of buffers and KV cache while the backend computes already: it takes
// seconds for each GiB where a hypervisor has to find it first, and steps seldom need all of the buffers. Blocks come in the
// order of their numbers, which is that in which the scheduler gives them first; one that is used before its turn is given then.
// Nobody else may have taken the memory, of which the cache is a share, in these seconds. Where somebody has, the next step
// fails: the group ends, starts again with a cache for which there is memory, and goes on with what it had.
type fill struct {
	rest    atomic.Int64 // bytes
	failure atomic.Pointer[error]
	ends    atomic.Bool
	running sync.WaitGroup
}

func (f *fill) end() {
	f.ends.Store(true)
	f.running.Wait()
}

// failed is why the cache has not the memory that it was promised.
func (f *fill) failed() error {
	if err := f.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// startFill takes the first blocks of the cache, and begins to take buffers and the other blocks.
func (b *Backend) startFill(buffers [][]byte) error {
	blockBytes := max(b.config.Layers*b.blockStride()*b.kind.Bytes(), 1) // a rank may have no KV heads
	bufferBytes := 0
	for _, data := range buffers {
		bufferBytes += len(data)
	}
	if err := b.room(bufferBytes); err != nil {
		return err
	}
	b.fill.rest.Store(int64(bufferBytes + b.blocks*blockBytes))
	now := min(b.blocks, nowBytes/blockBytes+1)
	if err := b.takeBlocks(0, now); err != nil {
		return err
	}
	b.fill.running.Go(func() {
		runtime.LockOSThread() // for its priority; the thread ends with the goroutine
		unix.Setpriority(unix.PRIO_PROCESS, 0, fillNice)
		if err := b.takeRest(buffers, now, populatePieceBytes/blockBytes+1); err != nil {
			b.fill.failure.Store(&err)
		}
	})
	return nil
}

// takeRest takes buffers, and the blocks behind the first, so many at a time.
func (b *Backend) takeRest(buffers [][]byte, first, step int) error {
	for _, data := range buffers {
		if err := b.takeBuffer(data); err != nil {
			return err
		}
	}
	for from := first; from < b.blocks && !b.fill.ends.Load(); from += step {
		if err := b.takeBlocks(from, min(from+step, b.blocks)); err != nil {
			return err
		}
	}
	return nil
}

// takeBlocks has the kernel give the memory of blocks of all layers.
func (b *Backend) takeBlocks(from, to int) error {
	stride := b.blockStride() * b.kind.Bytes()
	if err := b.room((to - from) * b.config.Layers * stride); err != nil {
		return err
	}
	for layer := range b.config.Layers {
		begin, end := (layer*b.blocks+from)*stride, (layer*b.blocks+to)*stride
		for begin &^= pageBytes - 1; begin < end && !b.fill.ends.Load(); begin += populateGrainBytes {
			if err := populatePages(b.cache.Data[begin:min(begin+populateGrainBytes, end)]); err != nil {
				return fmt.Errorf("take memory of the KV cache: %w", err)
			}
		}
	}
	b.fill.rest.Add(-int64((to - from) * b.config.Layers * stride))
	return nil
}

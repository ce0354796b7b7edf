package answer

import "sync"

// writersBatch is how many streams a writer takes at once.
const writersBatch = 16

// writers write what comes for streams whose clients keep up, one stream after the other on few goroutines: a goroutine of its own
// that wakes for each token costs a stream about a fifth more. They wait for no client: what its connection does not take at
// once is left to the stream's handler.
type writers struct {
	most int // goroutines; there are only as many as have work

	mu      sync.Mutex // guards all below
	running int
	ready   []*stream // from next on
	next    int
}

// add gives a stream to a writer. It does not block.
func (w *writers) add(s *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = append(w.ready, s)
	if w.running < w.most {
		w.running++
		go w.write()
	}
}

// write writes until there is nothing to write.
func (w *writers) write() {
	var batch [writersBatch]*stream
	for n := w.take(batch[:]); n > 0; n = w.take(batch[:]) {
		for _, s := range batch[:n] {
			s.serve()
		}
	}
}

// take takes the first streams; a writer that gets none ends.
func (w *writers) take(batch []*stream) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := copy(batch, w.ready[w.next:])
	clear(w.ready[w.next : w.next+n])
	if w.next += n; 2*w.next >= len(w.ready) { // not at the end alone, to which busy writers never come
		left := copy(w.ready, w.ready[w.next:])
		clear(w.ready[left:])
		w.ready, w.next = w.ready[:left], 0
	}
	if n == 0 {
		w.running--
	}
	return n
}

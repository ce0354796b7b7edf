package answer

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

const (
	// workTimeout bounds what a validation worker does for one request at a time: it writes a chat, or tokenises a text.
	workTimeout = 10 * time.Second
	// longWorkBytes is from where on a text can keep a worker for long. Of such work no client has all workers.
	longWorkBytes = 16 << 10
)

// workers bound the work for requests that takes the processor. Who finds none free waits for a turn, in the order of
// arrival, but for clients whose long work has all workers but one: they let others go first.
type workers struct {
	mu      sync.Mutex // guards all below
	free    int
	long    map[netip.Addr]int // of each client, the workers that are busy with its long work
	most    int                // of them
	waiting list.List          // of *turn
}

// turn is a piece of work that waits for a worker.
type turn struct {
	client netip.Addr
	long   bool
	begun  chan struct{} // closed once it has a worker
}

func newWorkers(count int) *workers {
	return &workers{free: count, long: map[netip.Addr]int{}, most: max(count-1, 1)}
}

// enter waits for a worker until the context ends; then it returns false.
func (ws *workers) enter(ctx context.Context, t *turn) bool {
	t.begun = make(chan struct{})
	ws.mu.Lock()
	place := ws.waiting.PushBack(t)
	ws.begin()
	ws.mu.Unlock()
	select {
	case <-t.begun:
		return true
	case <-ctx.Done():
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	select {
	case <-t.begun:
		ws.end(t)
	default:
		ws.waiting.Remove(place)
	}
	return false
}

// leave gives the worker back.
func (ws *workers) leave(t *turn) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.end(t)
}

// begin gives free workers to who may have them. The mutex is held.
func (ws *workers) begin() {
	for place := ws.waiting.Front(); place != nil && ws.free > 0; {
		t, next := place.Value.(*turn), place.Next()
		if !t.long || ws.long[t.client] < ws.most {
			ws.waiting.Remove(place)
			ws.free--
			if t.long {
				ws.long[t.client]++
			}
			close(t.begun)
		}
		place = next
	}
}

// end takes a worker back and passes it on. The mutex is held.
func (ws *workers) end(t *turn) {
	ws.free++
	if t.long {
		if ws.long[t.client]--; ws.long[t.client] == 0 {
			delete(ws.long, t.client)
		}
	}
	ws.begin()
}

// Work does work on a text of so many bytes once there is a worker for it. The work must end with its context: when the
// client leaves, or it has taken workTimeout.
func (s *Service) Work(ctx context.Context, bytes int, work func(context.Context) error) *request.Refusal {
	t := &turn{client: wire.ClientOf(ctx), long: bytes >= longWorkBytes}
	if !s.workers.enter(ctx, t) {
		return request.ClientLeft
	}
	defer s.workers.leave(t)
	bounded, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	switch err := work(bounded); {
	case ctx.Err() != nil:
		return request.ClientLeft
	case bounded.Err() != nil:
		return request.Invalid("the text took more than %v to be tokenised; shorten it", workTimeout)
	case err != nil:
		return request.Invalid("tokenizer error %v", err)
	}
	return nil
}

package masks

import (
	"container/list"
	"errors"
	"sync"

	"lockstep/protocol/guide"
)

const (
	// compilers is how many guides are compiled at once.
	compilers = 2
	// maxGuides and maxGuidesBytes bound the guides that are kept; those that sequences use live as long as these.
	maxGuides      = 256
	maxGuidesBytes = 512 << 20
)

// errClosed is what those are told whose guide was waiting to be compiled when the store was closed.
var errClosed = errors.New("the store of guides is closed")

// Store compiles guides off the step loop, each once, and keeps those that were asked for last. Its methods are safe for concurrent use.
type Store struct {
	vocabulary func() (*Vocabulary, error)
	slots      chan struct{}

	mu       sync.Mutex
	of       map[guide.Source]*stored
	order    list.List // of *stored, the last asked for in front
	waiting  sync.WaitGroup
	stopped  bool
	words    *Vocabulary
	building sync.Mutex
}

// stored is a guide, or one that is being compiled.
type stored struct {
	source guide.Source
	place  *list.Element
	guide  *Guide
	err    error
	done   []func(*Guide, error) // who waits; nil once it is compiled
}

// NewStore returns a store of guides on a vocabulary, which is made when the first is asked for.
func NewStore(vocabulary func() (*Vocabulary, error)) *Store {
	return &Store{vocabulary: vocabulary, slots: make(chan struct{}, compilers), of: map[guide.Source]*stored{}}
}

// Known is a guide that is compiled; nil: it is not.
func (s *Store) Known(source guide.Source) *Guide {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.of[source]
	if g == nil || g.guide == nil {
		return nil
	}
	s.order.MoveToFront(g.place)
	return g.guide
}

// Want has a guide compiled, and then done called, on another goroutine. After Close it may not be called at all.
func (s *Store) Want(source guide.Source, done func(*Guide, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	if g := s.of[source]; g != nil {
		s.order.MoveToFront(g.place)
		if g.done != nil {
			g.done = append(g.done, done)
			return
		}
		s.waiting.Go(func() { done(g.guide, g.err) })
		return
	}
	g := &stored{source: source, done: []func(*Guide, error){done}}
	g.place = s.order.PushFront(g)
	s.of[source] = g
	s.waiting.Go(func() { s.compile(g) })
}

// Close waits for what is being compiled.
func (s *Store) Close() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.waiting.Wait()
}

func (s *Store) compile(g *stored) {
	s.slots <- struct{}{}
	made, err := s.make(g.source)
	<-s.slots
	s.mu.Lock()
	g.guide, g.err = made, err
	done := g.done
	g.done = nil
	if err != nil {
		s.forget(g)
	}
	s.shrink()
	s.mu.Unlock()
	for _, tell := range done {
		tell(made, err)
	}
}

func (s *Store) make(source guide.Source) (*Guide, error) {
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		return nil, errClosed
	}
	program, err := guide.Compile(source)
	if err != nil {
		return nil, err
	}
	words, err := s.vocabularyOnce()
	if err != nil {
		return nil, err
	}
	return NewThinking(words, program, source.Thought), nil
}

// vocabularyOnce makes the vocabulary, which takes some hundreds of milliseconds for large ones.
func (s *Store) vocabularyOnce() (*Vocabulary, error) {
	s.building.Lock()
	defer s.building.Unlock()
	if s.words == nil {
		words, err := s.vocabulary()
		if err != nil {
			return nil, err
		}
		s.words = words
	}
	return s.words, nil
}

// shrink forgets what was not asked for for longest.
func (s *Store) shrink() {
	bytes := 0
	for place := s.order.Front(); place != nil; {
		g := place.Value.(*stored)
		place = place.Next()
		if g.done != nil {
			continue
		}
		if bytes += g.guide.Bytes(); bytes > maxGuidesBytes || s.order.Len() > maxGuides && place == nil {
			s.forget(g)
		}
	}
}

func (s *Store) forget(g *stored) {
	s.order.Remove(g.place)
	delete(s.of, g.source)
}

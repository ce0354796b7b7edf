package masks_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"lockstep/protocol/guide"
	"lockstep/shard/masks"
)

// storeOf returns a store on a small vocabulary, and what counts how often that was made.
func storeOf(t *testing.T) (*masks.Store, func() int) {
	var mu sync.Mutex
	made := 0
	store := masks.NewStore(func() (*masks.Vocabulary, error) {
		mu.Lock()
		defer mu.Unlock()
		made++
		return newVocabulary([]string{"a", "b", "0", "1", `"`, ""}, []int32{5}), nil
	})
	t.Cleanup(store.Close)
	return store, func() int {
		mu.Lock()
		defer mu.Unlock()
		return made
	}
}

type answer struct {
	guide *masks.Guide
	err   error
}

// want waits for a guide.
func want(store *masks.Store, source guide.Source) answer {
	answers := make(chan answer, 1)
	store.Want(source, func(g *masks.Guide, err error) { answers <- answer{g, err} })
	return <-answers
}

func choice(number int) guide.Source {
	return guide.Source{Kind: guide.Choice, Text: fmt.Sprintf(`["%d"]`, number)}
}

func TestStoreCompilesOnce(t *testing.T) {
	store, made := storeOf(t)
	source := guide.Source{Kind: guide.Regex, Text: `[ab]*0{3,9}`}
	if store.Known(source) != nil {
		t.Error("a guide is known that nobody has asked for")
	}
	const callers = 50
	answers := make(chan answer, callers)
	for range callers {
		go store.Want(source, func(g *masks.Guide, err error) { answers <- answer{g, err} })
	}
	first := <-answers
	if first.err != nil || first.guide == nil {
		t.Fatal(first.err)
	}
	for range callers - 1 {
		if a := <-answers; a != first {
			t.Errorf("callers have unlike guides: %v and %v", a, first)
		}
	}
	if store.Known(source) != first.guide {
		t.Error("the guide is not kept")
	}
	if made() != 1 {
		t.Errorf("the vocabulary was made %d times", made())
	}
}

func TestStoreErrors(t *testing.T) {
	store, _ := storeOf(t)
	source := guide.Source{Kind: guide.Regex, Text: `(`}
	var failure *guide.Error
	for range 2 {
		if a := want(store, source); a.guide != nil || !errors.As(a.err, &failure) || failure.Reason != guide.Invalid {
			t.Errorf("got %v", a)
		}
	}
	if store.Known(source) != nil {
		t.Error("what cannot be compiled is known")
	}
	broken := errors.New("no tokenizer")
	fails := masks.NewStore(func() (*masks.Vocabulary, error) { return nil, broken })
	defer fails.Close()
	if a := want(fails, choice(1)); !errors.Is(a.err, broken) {
		t.Errorf("got %v, want %v", a.err, broken)
	}
}

func TestStoreForgets(t *testing.T) {
	store, _ := storeOf(t)
	for i := range masks.MaxGuides {
		if a := want(store, choice(i)); a.err != nil {
			t.Fatal(a.err)
		}
	}
	if store.Known(choice(0)) == nil { // this asks for it: now the second is the oldest
		t.Fatal("a guide is forgotten before there are too many")
	}
	if a := want(store, choice(masks.MaxGuides)); a.err != nil {
		t.Fatal(a.err)
	}
	for i, kept := range map[int]bool{0: true, 1: false, 2: true, masks.MaxGuides: true} {
		if got := store.Known(choice(i)) != nil; got != kept {
			t.Errorf("guide %d: known %v, want %v", i, got, kept)
		}
	}
}

func TestStoreCloses(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	var once sync.Once
	store := masks.NewStore(func() (*masks.Vocabulary, error) {
		once.Do(func() { close(began) })
		<-release
		return newVocabulary([]string{"a"}, nil), nil
	})
	answers := make(chan answer, 1)
	store.Want(choice(1), func(g *masks.Guide, err error) { answers <- answer{g, err} })
	<-began
	closed := make(chan struct{})
	go func() {
		store.Close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("Close did not wait for what was being compiled")
	default:
	}
	close(release)
	<-closed
	if a := <-answers; a.err != nil {
		t.Error(a.err)
	}
	store.Want(choice(2), func(*masks.Guide, error) { t.Error("a closed store compiles") })
}

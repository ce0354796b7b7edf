package answer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/router/request"
)

// A guide is checked before any work is done for its request: by the operator's wish, by the group's build, and by its text, which is
// compiled once.
func TestCheckGuide(t *testing.T) {
	s := &Service{workers: newWorkers(1)}
	model := func(version int) *Model { return &Model{Card: &protocol.ModelCard{GuideVersion: version}} }
	good, ill := &guide.Source{Kind: guide.Regex, Text: "a+"}, &guide.Source{Kind: guide.Regex, Text: "("}
	for range 2 {
		if refusal, failure := s.CheckGuide(t.Context(), model(guide.Version), good); refusal != nil || failure != nil {
			t.Errorf("a good one: got %v, %v", refusal, failure)
		}
		var why *guide.Error
		if refusal, failure := s.CheckGuide(t.Context(), model(guide.Version), ill); refusal != nil || !errors.As(failure, &why) {
			t.Errorf("an ill one: got %v, %v", refusal, failure)
		}
	}
	if compiled := len(s.compiled.of); compiled != 2 {
		t.Errorf("%d are remembered, want 2", compiled)
	}
	for _, version := range []int{0, guide.Version + 1} {
		if _, failure := s.CheckGuide(t.Context(), model(version), good); !errors.Is(failure, errGuidesUnknown) {
			t.Errorf("a group of version %d: got %v", version, failure)
		}
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	other := &guide.Source{Kind: guide.Regex, Text: "b+"}
	if refusal, _ := s.CheckGuide(left, model(guide.Version), other); refusal != request.ClientLeft || len(s.compiled.of) != 2 {
		t.Errorf("a client who has left: got %v, %d are remembered", refusal, len(s.compiled.of))
	}
	s.config.Guides.Disabled = true
	if _, failure := s.CheckGuide(t.Context(), model(guide.Version), good); !errors.Is(failure, ErrGuidesDisabled) {
		t.Errorf("disabled: got %v", failure)
	}
}

// However many different guides come, few are remembered.
func TestRememberedGuides(t *testing.T) {
	s := &Service{workers: newWorkers(1)}
	model := &Model{Card: &protocol.ModelCard{GuideVersion: guide.Version}}
	for i := range rememberedGuides + 10 {
		source := &guide.Source{Kind: guide.Regex, Text: fmt.Sprint("a", i)}
		if _, failure := s.CheckGuide(t.Context(), model, source); failure != nil {
			t.Fatal(failure)
		}
	}
	if got := len(s.compiled.of); got > rememberedGuides {
		t.Errorf("%d are remembered, at most %d should be", got, rememberedGuides)
	}
}

// Sources that share their work take no more than one may, and come out alike where they were compiled before.
func TestGuidesShareWork(t *testing.T) {
	s := &Service{workers: newWorkers(1)}
	model := &Model{Card: &protocol.ModelCard{GuideVersion: guide.Version}}
	source := func(i int) *guide.Source {
		return &guide.Source{Kind: guide.Regex, Text: strings.Repeat("a", 1000+i)}
	}
	_, work, err := guide.CompileWithin(*source(0), guide.MaxWork)
	if err != nil || work < 1000 {
		t.Fatalf("a source takes %d steps, %v", work, err)
	}
	for range 3 {
		left, compiled := 5*work, 0
		for i := 0; left >= 0; i++ {
			if _, failure := s.CheckGuideWithin(t.Context(), model, source(i), &left); left >= 0 && failure != nil {
				t.Fatal(failure)
			}
			if left >= 0 {
				compiled++
			}
		}
		if known := len(s.compiled.of); compiled != 4 || known != 4 { // each takes a few more steps than the one before
			t.Errorf("%d are compiled, %d known, want 4", compiled, known)
		}
	}
	if _, failure := s.CheckGuide(t.Context(), model, source(4)); failure != nil {
		t.Errorf("by itself: %v", failure)
	}
}

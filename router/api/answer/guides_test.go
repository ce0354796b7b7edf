package answer

import (
	"context"
	"errors"
	"fmt"
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

package driver

import (
	"slices"
	"strings"
	"testing"

	"lockstep/shard/gpu/kernels"
)

func card(index, major, minor int) Card {
	return Card{Index: index, Name: "Test", UUID: "GPU-" + strings.Repeat(string(rune('a'+index)), 8) + "-0", Major: major, Minor: minor}
}

func TestChoose(t *testing.T) {
	hopper, two := card(0, 9, 0), card(1, 9, 0)
	old, ada := card(2, 7, 5), card(3, 8, 9)
	for _, c := range []struct {
		cards []Card
		names string
		want  []int
		err   string
	}{
		{cards: []Card{hopper, two}, want: []int{0, 1}},
		{cards: []Card{hopper, two}, names: "1,0", want: []int{1, 0}},
		{cards: []Card{hopper, two}, names: "0 0", want: []int{0, 0}},
		{cards: []Card{hopper, two}, names: "GPU-bbbb", want: []int{1}},
		{cards: []Card{hopper, two}, names: "MIG-BBBB", want: []int{1}},
		{cards: []Card{hopper, two}, names: "GPU-", err: "several cards"},
		{cards: []Card{hopper, two}, names: "2", err: "there is no card 2; the driver shows 0: Test, GPU-aaaaaaaa-0; 1: Test"},
		{cards: []Card{hopper, two}, names: "GPU-x", err: "there is no card GPU-x"},
		{cards: []Card{hopper, old}, want: []int{0}},
		{cards: []Card{old}, err: "compute capability 7.5, and the kernels need 8.0"},
		{cards: []Card{hopper, old}, names: "0,2", err: "compute capability 7.5"},
		{cards: []Card{hopper, ada}, err: "adds in another way"},
		{cards: []Card{hopper, ada}, names: "3", want: []int{3}},
	} {
		got, err := Choose(c.cards, strings.FieldsFunc(c.names, func(r rune) bool { return r == ',' || r == ' ' }))
		var indices []int
		for _, card := range got {
			indices = append(indices, card.Index)
		}
		if !slices.Equal(indices, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v of %s: got %v, %v; want %v, %q", c.names, list(c.cards), indices, err, c.want, c.err)
		}
	}
}

// Every compute capability gets code that it takes, by the rules of the CUDA C++ programming guide (compute capabilities, binary
// compatibility).
func TestTarget(t *testing.T) {
	manifest, err := kernels.ReadManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		major, minor int
		want         string
	}{
		{8, 0, "sm_80"}, {8, 6, "sm_86"}, {8, 7, "compute_80"}, {8, 9, "sm_89"}, {9, 0, "sm_90a"}, {9, 1, "compute_80"},
		{10, 0, "sm_100a"}, {10, 3, "compute_80"}, {11, 0, "compute_80"}, {12, 0, "sm_120a"}, {12, 1, "compute_80"},
	} {
		if got := card(0, c.major, c.minor).target(manifest.Targets); got != c.want {
			t.Errorf("%d.%d: got %s, want %s", c.major, c.minor, got, c.want)
		}
	}
	if got := card(0, 8, 9).target([]string{"compute_80", "sm_86", "sm_80"}); got != "sm_86" {
		t.Errorf("got %s, want the latest that runs", got)
	}
}

func TestClassesTellGenerationsApart(t *testing.T) {
	for major, want := range map[int]string{8: "a", 9: "h", 10: "h", 11: "m11", 12: "h"} {
		if got := card(0, major, 0).class(); got != want {
			t.Errorf("%d.0: got %s, want %s", major, got, want)
		}
	}
}

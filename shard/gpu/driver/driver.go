// Package driver computes on NVIDIA cards: it implements gpu.Device over libcuda, the library of the driver, which it opens at run
// time. Neither cgo nor a toolkit is needed, but opening libraries makes a binary dynamic: only one that is built with the tag cuda
// (make build-cuda) can, and in any other Cards and Open return ErrNotBuilt.
//
// Bindings, layouts, choices and sentences are tested against a library that imitates the driver's (testdata/libcuda.c). What only a
// card can show, that kernels run as that imitation lets them, was never seen: none was at hand.
package driver

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// DefaultLibrary is the driver's library.
const DefaultLibrary = "libcuda.so.1"

// ErrNotBuilt says that this binary cannot open the driver.
var ErrNotBuilt = errors.New("this binary was built without cuda: take bin/lockstep-cuda, which `make build-cuda` makes")

// Card is a card of this machine, as the driver shows it: it counts from 0 those that CUDA_VISIBLE_DEVICES leaves.
type Card struct {
	Index        int
	Name         string // "NVIDIA H100 80GB HBM3"
	UUID         string // "GPU-" and 32 hexadecimal digits in groups, as nvidia-smi writes it
	Memory       int64  // bytes
	Major, Minor int    // of its compute capability
}

func (c Card) String() string { return fmt.Sprintf("card %d (%s)", c.Index, c.Name) }

// Options say which card Open takes.
type Options struct {
	Library string // of the driver; empty: DefaultLibrary
	UUID    string // of the card
	// Shared says that other ranks take memory of the same card.
	Shared bool
	// GiveUp is asked while the card computes; with its error the wait ends. Nil: never.
	GiveUp func() error
}

// minMajor is the compute capability that the kernels need: their instruction for products of bfloat16 (mma.m16n8k16) came with 8.0.
const minMajor = 8

// usable refuses a card for which there are no kernels.
func (c Card) usable() error {
	if c.Major >= minMajor {
		return nil
	}
	return fmt.Errorf("%v has compute capability %d.%d, and the kernels need %d.0 or later: choose other cards with --devices, or "+
		"--kernels cpu", c, c.Major, c.Minor, minMajor)
}

// Choose returns the cards that are to compute together: those named by index, or by UUID or the beginning of one, in that order; with
// no names all that can. A card that is named twice is returned twice.
func Choose(cards []Card, names []string) (chosen []Card, err error) {
	for _, name := range names {
		card, err := find(cards, name)
		if err == nil {
			err = card.usable()
		}
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, card)
	}
	if len(names) == 0 {
		for _, card := range cards {
			if err = card.usable(); err == nil {
				chosen = append(chosen, card)
			}
		}
		if len(chosen) == 0 {
			return nil, err
		}
	}
	for _, card := range chosen {
		if first := chosen[0]; card.class() != first.class() {
			return nil, fmt.Errorf("%v adds in another way than %v, so they cannot compute one model: choose cards of one kind with "+
				"--devices", card, first)
		}
	}
	return chosen, nil
}

func find(cards []Card, name string) (Card, error) {
	if index, err := strconv.Atoi(name); err == nil {
		for _, card := range cards {
			if card.Index == index {
				return card, nil
			}
		}
	} else {
		matches := slices.DeleteFunc(slices.Clone(cards), func(c Card) bool { return !strings.HasPrefix(bare(c.UUID), bare(name)) })
		switch len(matches) {
		case 0:
		case 1:
			return matches[0], nil
		default:
			return Card{}, fmt.Errorf("%s is the beginning of the UUIDs of several cards: write more of it", name)
		}
	}
	return Card{}, fmt.Errorf("there is no card %s; the driver shows %s", name, list(cards))
}

// bare is a UUID without what says of what: "GPU-", or "MIG-" of a part of a card, which the driver shows as a card.
func bare(uuid string) string {
	uuid = strings.ToLower(uuid)
	return strings.TrimPrefix(strings.TrimPrefix(uuid, "gpu-"), "mig-")
}

// list names cards for people.
func list(cards []Card) string {
	texts := make([]string, len(cards))
	for i, card := range cards {
		texts[i] = fmt.Sprintf("%d: %s, %s", card.Index, card.Name, card.UUID)
	}
	return strings.Join(texts, "; ")
}

// class names how a card's tensor cores cut off sums: gpu.Description.Class. A generation that nobody has examined is a class of its
// own.
func (c Card) class() string {
	switch c.Major {
	case 8:
		return "a"
	case 9, 10, 12:
		return "h"
	}
	return "m" + strconv.Itoa(c.Major)
}

// target chooses the code for a card among those that the kernels are compiled for: cubins, and PTX, from which the driver makes
// code itself. A cubin runs on its own compute capability, and unless it is specific to that ("sm_90a") on later ones of the same
// major version; not so on 8.7, which embedded devices have.
func (c Card) target(targets []string) string {
	best, bestMinor, ptx := "", -1, ""
	for _, target := range targets {
		if strings.HasPrefix(target, "compute_") {
			if !strings.HasSuffix(target, "a") { // which only the capability itself takes
				ptx = target
			}
			continue
		}
		major, minor, specific := capability(target)
		switch {
		case major != c.Major, minor > c.Minor, minor <= bestMinor:
		case minor < c.Minor && (specific || c.Major == 8 && c.Minor == 7):
		default:
			best, bestMinor = target, minor
		}
	}
	if best == "" {
		return ptx
	}
	return best
}

// capability reads "sm_90a".
func capability(target string) (major, minor int, specific bool) {
	digits := strings.TrimRight(strings.TrimPrefix(target, "sm_"), "af")
	number, err := strconv.Atoi(digits)
	if err != nil {
		return math.MaxInt, math.MaxInt, true // no card has it
	}
	return number / 10, number % 10, "sm_"+digits != target
}

// MemoryError says that a card has too little memory.
type MemoryError struct {
	Card        Card
	Bytes, Free int64
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("%v has no %.2f GiB of memory left: %.2f of %.2f GiB are free", e.Card, gibibytes(e.Bytes), gibibytes(e.Free),
		gibibytes(e.Card.Memory))
}

func gibibytes(bytes int64) float64 { return float64(bytes) / (1 << 30) }

//go:build cuda && linux

package driver_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/protocol/outside"
	"lockstep/shard"
	"lockstep/shard/backendtest"
	"lockstep/shard/gpu"
	"lockstep/shard/gpu/driver"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// groupOn is a group of which open gives each rank its device.
func groupOn(t *testing.T, source *model.Model, ranks int, numerics string, open func() (gpu.Device, error)) *backendtest.Group {
	return backendtest.New(t, source, ranks, func(part *model.Part) (backendtest.Backend, error) {
		device, err := open()
		if err != nil {
			return nil, err
		}
		return backendtest.WithTeam(2, func(team *workers.Team) (backendtest.Backend, error) {
			b, err := gpu.Load(part, device, team, gpu.Options{Numerics: numerics, Graphs: gpu.DefaultGraphs})
			return ahead{b}, err
		})
	})
}

// ahead plans a step of one sequence behind each that can be followed.
type ahead struct{ *gpu.Backend }

func (b ahead) Forward(chunks []model.Chunk, consume func(model.Scores)) error {
	if len(chunks) != 1 || !b.CanBeFollowed(chunks) {
		return b.Backend.Forward(chunks, consume)
	}
	next := chunks[0]
	next.Start, next.Tokens, next.Fresh = next.Start+len(next.Tokens), []int32{model.ChosenBy(0)}, 0
	if next.Start/16 == len(next.Blocks) {
		return b.Backend.Forward(chunks, consume)
	}
	return errors.Join(b.Launch(chunks, true), b.Launch([]model.Chunk{next}, false), b.Collect(consume), b.Collect(func(model.Scores) {}))
}

func emulate() (gpu.Device, error) {
	return gpu.NewEmulated(runtime.GOMAXPROCS(0), func() (int64, string, error) { return 1 << 30, "the test", nil })
}

// Whatever a model launches, on every kind of card, a driver takes: kernels' names, the sizes of their arguments as cubins have them,
// grids, shared memory.
func TestEveryLaunchIsTaken(t *testing.T) {
	for _, capability := range []string{"8.6", "9.0", "12.0"} {
		library, log := imitate(t, "CARDS=One:"+capability+":8192:0", "BUSY=0")
		for _, name := range append(modeltest.Names(t), "quantised") {
			source, files := openToLaunch(t, name)
			if files["golden.jsonl"] == nil {
				continue
			}
			cases := modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data)
			for _, numerics := range shard.CardNumerics() {
				t.Run(capability+" "+name+" "+numerics, func(t *testing.T) {
					g := groupOn(t, source, 1, numerics, func() (gpu.Device, error) {
						return driver.Open(driver.Options{Library: library, UUID: uuid(0)})
					})
					for _, c := range cases {
						s := g.Sequence(len(c.Prompt))
						s.Compute(c.Prompt, model.LogitsAll)
						for i := range min(6, g.MaxTokens-len(c.Prompt)) { // a graph is made of the second of a kind
							s.Compute(c.Prompt[:1], []model.Logits{model.LogitsLast, model.LogitsBest}[i%2])
						}
						s.Release()
					}
				})
			}
		}
		launched := map[string]bool{}
		for line := range strings.Lines(log()) {
			if fields := strings.Fields(line); fields[0] == "launch" {
				launched[fields[1]] = true
			}
		}
		if captured := strings.Count(log(), " captured\n"); captured < 1000 || !strings.Contains(log(), "\ngraph of ") {
			t.Errorf("%s: %d launches were captured", capability, captured)
		}
		t.Logf("%s: launched %v", capability, slices.Sorted(maps.Keys(launched)))
		for _, kernel := range []string{"coded_8", "coded_32", "coded_experts_8", "coded_experts_32", "linear_experts_8", "order"} {
			if !launched[kernel] {
				t.Errorf("%s: %s was not launched", capability, kernel)
			}
		}
		if len(launched) < 20 {
			t.Errorf("%s: only %d kernels were launched", capability, len(launched))
		}
	}
}

// openToLaunch opens a reference model, or one whose matrices are reordered codes, but for those of an expert.
func openToLaunch(t *testing.T, name string) (*model.Model, fstest.MapFS) {
	if name != "quantised" {
		return modeltest.Open(t, name)
	}
	dir := backendtest.RandomGPTQ(t, modeltest.Files(t, "mixtral"), 16, func(name string) backendtest.GPTQForm {
		if strings.Contains(name, ".experts.0.") || strings.HasSuffix(name, "moe.gate") {
			return backendtest.GPTQForm{}
		}
		return backendtest.GPTQForm{Bits: 4, Ordered: true}
	}, rand.New(rand.NewPCG(1, 2)))
	return modeltest.OpenFS(t, dir), dir
}

// On a card every reference case holds, and where it adds as the emulation does, every logit has the emulation's bits. This was never
// run on a card: only the imitation, which computes nothing, has failed it.
func TestOnCard(t *testing.T) {
	library := os.Getenv("LOCKSTEP_CUDA_LIBRARY")
	cards, err := driver.Cards(library)
	if err == nil {
		cards, err = driver.Choose(cards, []string{"0"})
	}
	if err != nil {
		outside.MissingCard(t, err)
	}
	card := cards[0]
	onCard := func() (gpu.Device, error) {
		return driver.Open(driver.Options{Library: library, UUID: card.UUID, Shared: true})
	}
	plain := backendtest.Tolerance{Logit: 0.1, Logprob: 0.1, Margin: 0.2, Outliers: 0.05}
	for _, name := range modeltest.Names(t) {
		source, files := modeltest.Open(t, name)
		if files["golden.jsonl"] == nil {
			continue
		}
		cases := modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data)
		for numerics, allowed := range map[string]backendtest.Tolerance{"bf16": plain, "two-term": backendtest.Exact} {
			for _, ranks := range []int{1, 2} {
				g := groupOn(t, source, ranks, numerics, onCard)
				for _, c := range cases {
					worst := backendtest.Check(t, g, c, allowed)
					t.Logf("%v: %s, %s, %d ranks, %s: a logit is off by %.1e standard deviations at most", card, name, numerics, ranks,
						c.ID, worst)
				}
				if card.Major == 9 || card.Major == 10 || card.Major == 12 {
					compare(t, g, groupOn(t, source, ranks, numerics, emulate), cases[0].Prompt)
				}
			}
		}
	}
}

// compare computes a prompt whole, and its last token alone, on both.
func compare(t *testing.T, card, emulated *backendtest.Group, prompt []int32) {
	t.Helper()
	var got [2][][]float32
	for i, g := range []*backendtest.Group{card, emulated} {
		s := g.Sequence(len(prompt))
		got[i] = append(got[i], s.Compute(prompt[:len(prompt)-1], model.LogitsAll)...)
		got[i] = append(got[i], s.Compute(prompt[len(prompt)-1:], model.LogitsLast)...)
		s.Release()
	}
	for row := range got[0] {
		if !slices.Equal(got[0][row], got[1][row]) {
			t.Errorf("row %d of %d: the card's logits are not the emulation's", row, len(got[0]))
			return
		}
	}
}

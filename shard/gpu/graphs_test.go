package gpu_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// keeper is an emulated card whose graphs are counted; unable, it cannot make any.
type keeper struct {
	device interface {
		gpu.Peered
		gpu.Grapher
	}
	unable            bool
	captures, replays *atomic.Int32
}

func (k keeper) Capture(f func() error) (gpu.Graph, error) {
	if k.unable {
		return nil, errors.New("this driver is too old")
	}
	k.captures.Add(1)
	return k.device.Capture(f)
}

func (k keeper) Replay(graph gpu.Graph) error {
	k.replays.Add(1)
	return k.device.Replay(graph)
}

// plain is a card without graphs.
type plain struct{ gpu.Peered }

// keeping is a card with them.
type keeping struct {
	gpu.Peered
	keeper
}

// decoding are the steps of three sequences, of which the last two begin and end while the first goes on: the first passes from one part
// of attention to the next, and takes a block.
func decoding(source *model.Model) (steps [][]model.Chunk) {
	var tables [3][]int32
	for i := range int32(3) {
		for block := range int32(20) {
			tables[i] = append(tables[i], 3*block+i)
		}
	}
	tokens := randomPrompt(source, 64)
	chunk := func(table, start, count, fresh int) model.Chunk {
		return model.Chunk{Start: start, PromptTokens: start + 1, Tokens: tokens[(start+table)%40:][:count],
			Blocks: tables[table][:(start+count+15)/16], Fresh: fresh, Logits: model.LogitsLast}
	}
	steps = append(steps, []model.Chunk{chunk(0, 250, 3, 16), chunk(1, 0, 5, 1), chunk(2, 0, 2, 1)})
	for i := range 6 {
		step := []model.Chunk{chunk(0, 253+i, 1, max(0, min(1, i-2))*max(0, 1-max(i-3, 0)))}
		if i != 2 {
			step = append(step, chunk(1, 5+i, 1, 0), chunk(2, 2+i, 1, 0))
		}
		steps = append(steps, step)
	}
	return steps
}

// Steps that are filled up and launched as graphs have the bits of those that are launched kernel by kernel.
func TestGraphs(t *testing.T) {
	for i, name := range []string{"llama_tied_1kv_f32", "mixtral", "gemma3", "gpt2", "deepseek_v2_mla", "gpt_oss"} {
		for _, ranks := range []int{1, 2} {
			if (i > 0 || ranks > 1) && !outside.All() {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", name, ranks), func(t *testing.T) {
				source, _ := modeltest.Open(t, name)
				if source.Config.MaxPositions < 260 {
					t.Fatalf("sequences of %d positions have one part", source.Config.MaxPositions)
				}
				var captures, replays atomic.Int32
				kept := func(unable bool) *backendtest.Group {
					return groupOn(t, source, ranks, "bf16", func(_ int, device gpu.Device) gpu.Device {
						all := device.(interface {
							gpu.Peered
							gpu.Grapher
						})
						return keeping{all, keeper{all, unable, &captures, &replays}}
					})
				}
				one := groupOn(t, source, ranks, "bf16", func(_ int, device gpu.Device) gpu.Device { return plain{device.(gpu.Peered)} })
				graphs, unable := kept(false), kept(true)
				for i, step := range decoding(source) {
					want := one.Step(step)
					for what, g := range map[string]*backendtest.Group{"by graphs": graphs, "where no graph can be made": unable} {
						if row := backendtest.FirstDifference(g.Step(step), want); row >= 0 {
							t.Errorf("step %d, row %d: other logits %s", i, row, what)
						}
					}
				}
				if c, r := captures.Load(), replays.Load(); c != int32(2*ranks) || r != int32(3*ranks) {
					t.Errorf("%d graphs were made and launched %d times by %d ranks, want 2 and 3 of each", c, r, ranks)
				}
			})
		}
	}
}

package host

import (
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// The memory of the first blocks is there when a backend is attached, and that of the others soon. Where somebody else has taken it
// meanwhile the next step says so; until then what is promised counts as taken.
func TestFill(t *testing.T) {
	defer goleak.VerifyNone(t)
	source, _ := modeltest.Open(t, "llama_gqa_9q3kv")
	part, err := source.Part(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		left int64  // what is left once the first blocks are taken
		want string // of the error of a step
	}{{1 << 40, ""}, {1 << 20, "only 1 MiB of memory of a test are left for a KV cache of "}} {
		team := workers.New(2, nil)
		b, err := Load(part, team, Options{Kernels: cpu.Best(), Numerics: "f32", Progress: func(float64) {}})
		if err != nil {
			t.Fatal(err)
		}
		blockBytes := b.Describe().BlockBytes
		blocks := 2 * nowBytes / blockBytes
		var attached atomic.Bool
		looked := make(chan struct{})
		b.free = func() (int64, string, error) {
			if attached.Load() {
				return c.left, "a test", nil
			}
			if b.fill.rest.Load() > 0 && b.fill.rest.Load() < int64(blocks*blockBytes) { // the thread behind Attach
				<-looked
				return c.left, "a test", nil
			}
			return 1 << 40, "a test", nil
		}
		group, err := collective.Open(nil, 0, collective.Sizes{Ranks: 1, ReduceFloats: 16 * part.Config.Hidden, GatherFloats: 16 *
			part.Config.Vocabulary})
		if err == nil {
			err = b.Attach(group, blocks, 16)
		}
		if err != nil {
			t.Fatal(err)
		}
		attached.Store(true)
		if free, _, _ := b.FreeBytes(); free > c.left-int64(nowBytes/2) {
			t.Errorf("%d bytes are free, of %d that are left: the cache is not taken yet", free, c.left)
		}
		close(looked)
		b.fill.running.Wait()
		err = b.Forward([]model.Chunk{{Tokens: []int32{1}, PromptTokens: 1, Blocks: []int32{int32(blocks - 1)}}}, func(model.Scores) {})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("got error %v, want %q", err, c.want)
		}
		if free, _, _ := b.FreeBytes(); err == nil && free != c.left {
			t.Errorf("%d bytes are free, want %d: all is taken", free, c.left)
		}
		b.Close()
		group.Close()
		team.Close()
	}
}

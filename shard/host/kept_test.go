package host

import (
	"encoding/binary"
	"slices"
	"testing"

	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// Weights that one process has packed are those that the next one finds, if it is to have the same; what was not finished, or is
// somebody else's, is packed anew.
func TestKeptWeights(t *testing.T) {
	source, _ := modeltest.Open(t, "llama_gqa_9q3kv")
	team := workers.New(2, nil)
	defer team.Close()
	file, err := collective.NewMemory("weights")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	load := func(rank, ranks int, key byte) *Backend {
		t.Helper()
		part, err := source.Part(rank, ranks)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Load(part, team, Options{Kernels: cpu.Best(), Progress: func(float64) {}, Kept: &Kept{File: file, Key: [32]byte{key}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	bytes := func(b *Backend) (all []byte) {
		for _, segment := range b.keeper.segments {
			all = append(all, segment[:min(int64(len(segment)), b.keeper.end-b.keeper.from)]...)
		}
		return all[pageBytes:]
	}
	first := load(0, 1, 1)
	want := slices.Clone(bytes(first))
	if first.Reused() || len(want) < 1000 {
		t.Fatalf("the first load found %d bytes of weights, reused: %v", len(want), first.Reused())
	}
	if again := load(0, 1, 1); !again.Reused() || !slices.Equal(bytes(again), want) {
		t.Errorf("the same weights are packed anew, or others: reused %v", again.Reused())
	}
	if half := load(1, 2, 2); half.Reused() || slices.Equal(bytes(half), want) {
		t.Errorf("another rank's weights were reused: %v", half.Reused())
	}
	if back := load(0, 1, 1); back.Reused() || !slices.Equal(bytes(back), want) {
		t.Errorf("weights were reused though another's were packed over them: %v", back.Reused())
	}
	file.WriteAt(make([]byte, 8), 32) // as of a process that dies while it packs
	if unfinished := load(0, 1, 1); unfinished.Reused() || !slices.Equal(bytes(unfinished), want) {
		t.Errorf("weights that are not all packed were reused: %v", unfinished.Reused())
	}
	file.WriteAt(binary.LittleEndian.AppendUint64(nil, pageBytes+64), 32)
	part, _ := source.Part(0, 1)
	options := Options{Kernels: cpu.Best(), Progress: func(float64) {}, Kept: &Kept{File: file, Key: [32]byte{1}}}
	if _, err := Load(part, team, options); err == nil {
		t.Error("weights of another size were used")
	}
	if mended := load(0, 1, 1); mended.Reused() || !slices.Equal(bytes(mended), want) {
		t.Errorf("weights of another size were used in the end: %v", mended.Reused())
	}
}

// Parts that lie in several segments are found where they were packed, and one process after the other packs nothing.
func TestKeptSegments(t *testing.T) {
	defer func(was int) { segmentBytes = was }(segmentBytes)
	segmentBytes = 2 * hugePageBytes
	team := workers.New(2, nil)
	defer team.Close()
	file, err := collective.NewMemory("weights")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, reused := range []bool{false, true} {
		k, err := openKept(Kept{File: file, Key: [32]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		if k.whole != reused {
			t.Fatalf("packed already: %v, want %v", k.whole, reused)
		}
		for i, bytes := range []int{3 << 20, 100, 2<<20 + 5, 9 << 20, 4096, 3 << 20} {
			data, err := k.take(bytes)
			if err != nil {
				t.Fatal(err)
			}
			if mark := byte(i + 1); !reused {
				k.fill(team, k.end)
				data[0], data[bytes/2], data[bytes-1] = mark, mark, mark
			} else if data[0] != mark || data[bytes/2] != mark || data[bytes-1] != mark {
				t.Errorf("part %d has %d, %d and %d", i, data[0], data[bytes/2], data[bytes-1])
			}
		}
		if many := len(k.segments) > 1; many == reused {
			t.Errorf("%d segments, reused: %v", len(k.segments), reused)
		}
		for i, segment := range k.segments {
			if len(segment)%hugePageBytes != 0 {
				t.Errorf("segment %d has %d bytes, which are no whole huge pages", i, len(segment))
			}
		}
		if err := k.finish(); err != nil {
			t.Fatal(err)
		}
		k.close()
	}
}

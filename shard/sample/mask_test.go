package sample_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/shard/sample"
)

// maskOf is a set of tokens in both of its forms.
func maskOf(vocabulary int, ids []int32) (listed, asBits *sample.Mask) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	bits := make([]uint64, (vocabulary+63)/64)
	for _, id := range ids {
		bits[id>>6] |= 1 << (id & 63)
	}
	return &sample.Mask{IDs: ids}, &sample.Mask{Bits: bits}
}

// randomIDs draws between none and all of a vocabulary.
func randomIDs(random *rand.Rand, vocabulary int) (ids []int32) {
	share := []float64{0, 0.02, 0.5, 1}[random.IntN(4)]
	for id := range int32(vocabulary) {
		if random.Float64() < share {
			ids = append(ids, id)
		}
	}
	return append(ids, random.Int32N(int32(vocabulary)))
}

// What a guide allows is chosen from as if the request itself had allowed it, with every other parameter, in both forms of the mask; and
// from no other tokens.
func TestMasksAreAllowedIDs(t *testing.T) {
	random := rand.New(rand.NewPCG(20261128, 0))
	var used sample.Sampler
	nothing := 0
	for i := range 10000 {
		logits, c, p := randomCase(random)
		allowed := randomIDs(random, len(logits))
		p.IgnoreEOS = false // a guided text ends in any case
		both := allowed
		if len(p.AllowedTokenIDs) > 0 {
			both = slices.DeleteFunc(slices.Clone(allowed), func(id int32) bool { return !slices.Contains(p.AllowedTokenIDs, id) })
		}
		left := slices.DeleteFunc(slices.Clone(both), func(id int32) bool { return slices.Contains(p.BannedTokenIDs, id) })
		plain := p
		plain.AllowedTokenIDs = both
		listed, asBits := maskOf(len(logits), allowed)
		for _, mask := range []*sample.Mask{listed, asBits} {
			guided := c
			guided.Allowed = mask
			token, logprob, top := used.Choose(logits, guided, &p, 5, nil)
			if len(left) == 0 {
				if nothing++; token != sample.NoToken || len(top) != 0 {
					t.Fatalf("case %d, %+v: nothing is left, but it chose %d of %v", i, p, token, top)
				}
				continue
			}
			want, wantLogprob, wantTop := new(sample.Sampler).Choose(logits, c, &plain, 5, nil)
			if token != want || logprob != wantLogprob || !slices.Equal(top, wantTop) {
				t.Fatalf("case %d, %+v of %v: got %d (%v) %v, want %d (%v) %v", i, p, allowed, token, logprob, top, want, wantLogprob,
					wantTop)
			}
			if !slices.Contains(left, token) {
				t.Fatalf("case %d, %+v: %d is not among %v", i, p, token, left)
			}
			got := used.Distribution(logits, guided, &p)
			positive(got)
			if wanted := used.Distribution(logits, c, &plain); !maps.Equal(got, positive(wanted)) {
				t.Fatalf("case %d, %+v of %v: got %v, want %v", i, p, allowed, got, wanted)
			}
		}
	}
	if nothing == 0 {
		t.Error("in no case nothing was left")
	}
}

// positive leaves out what has no probability: ids that cannot be chosen may be told with 0 or not at all.
func positive(distribution map[int32]float64) map[int32]float64 {
	maps.DeleteFunc(distribution, func(_ int32, probability float64) bool { return probability == 0 })
	return distribution
}

// Of a guided text the ends are kept from being chosen as long as the minimum, or a wish to go on behind them, wants it and something else
// is left; where nothing else is, they are chosen.
func TestGuidedEnds(t *testing.T) {
	logits := []float32{1, 2, 9, 0, 8, 3} // 2 and 4 end
	for _, test := range []struct {
		name    string
		allowed []int32
		p       protocol.Sampling
		want    int32
	}{
		{"an end is allowed", []int32{1, 2, 3}, protocol.Sampling{}, 2},
		{"an end is not allowed", []int32{1, 3}, protocol.Sampling{}, 1},
		{"minimum", []int32{1, 2, 3, 4}, protocol.Sampling{MinNewTokens: 5}, 1},
		{"minimum reached", []int32{1, 2, 3, 4}, protocol.Sampling{MinNewTokens: 2}, 2},
		{"minimum, only ends are left", []int32{2, 4}, protocol.Sampling{MinNewTokens: 5}, 2},
		{"minimum, what else is allowed is banned", []int32{2, 3, 4}, protocol.Sampling{MinNewTokens: 5, BannedTokenIDs: []int32{3}}, 2},
		{"goes on", []int32{1, 2, 3, 4}, protocol.Sampling{IgnoreEOS: true}, 1},
		{"goes on, only ends are left", []int32{2, 4}, protocol.Sampling{IgnoreEOS: true}, 2},
		{"goes on, one end is banned", []int32{2, 4}, protocol.Sampling{IgnoreEOS: true, BannedTokenIDs: []int32{2}}, 4},
		{"all are banned", []int32{2, 4}, protocol.Sampling{BannedTokenIDs: []int32{2, 4}}, sample.NoToken},
		{"others are asked for", []int32{1, 3}, protocol.Sampling{AllowedTokenIDs: []int32{0, 2, 5}}, sample.NoToken},
		{"nothing is allowed", nil, protocol.Sampling{}, sample.NoToken},
	} {
		for _, sampled := range []bool{false, true} {
			listed, asBits := maskOf(len(logits), test.allowed)
			for _, mask := range []*sample.Mask{listed, asBits} {
				p := test.p
				if p.Sample = sampled; sampled {
					p.TopK = 1
				}
				c := sample.Context{Tokens: []int32{0, 1, 1}, Prompt: 1, EOS: []int32{2, 4}, Allowed: mask}
				if got, _, _ := new(sample.Sampler).Choose(logits, c, &p, 0, nil); got != test.want {
					t.Errorf("%s, sampled %v, bits %v: got %d, want %d", test.name, sampled, mask.Bits != nil, got, test.want)
				}
			}
		}
	}
}

// Scores of a broken model that a guide allows: the choice is one of them.
func TestGuidedBrokenLogits(t *testing.T) {
	for _, logits := range [][]float32{{5, -inf, -inf, 7}, {inf, -inf, inf, 1}, {0, nan, nan, 0}, {0, nan, -inf, 3}} {
		listed, asBits := maskOf(4, []int32{1, 2})
		for _, mask := range []*sample.Mask{listed, asBits} {
			c := after(1)
			c.Allowed = mask
			for _, p := range []protocol.Sampling{{}, {Sample: true}, {Sample: true, Temperature: 0.5, TopP: 0.9}, {RepetitionPenalty: 2}} {
				if token, logprob, _ := new(sample.Sampler).Choose(logits, c, &p, 0, nil); token != 1 && token != 2 || !(logprob <= 0) {
					t.Errorf("%v, %+v: got %d (%v)", logits, p, token, logprob)
				}
			}
		}
	}
}

func TestNoAllocationsGuided(t *testing.T) {
	logits, c := usualInput(3000)
	listed, asBits := maskOf(3000, randomIDs(rand.New(rand.NewPCG(1, 1)), 3000))
	out := make([]sample.Alternative, 0, 10)
	var s sample.Sampler
	for _, mask := range []*sample.Mask{listed, asBits} {
		c.Allowed = mask
		for _, u := range usual {
			if got := testing.AllocsPerRun(10, func() { s.Choose(logits, c, &u.p, 5, out) }); got != 0 {
				t.Errorf("%s: %v allocations a choice, want none", u.name, got)
			}
		}
	}
}

// Guided choices beside BenchmarkChoose's: of a few tokens, as between the values of a document, and of most, as within a text.
func BenchmarkChooseGuided(b *testing.B) {
	const vocabulary = 128 << 10
	logits, c := usualInput(vocabulary)
	for _, allowed := range []int32{10, vocabulary - 500} {
		var ids []int32
		for i := range allowed {
			ids = append(ids, i*(vocabulary/allowed))
		}
		listed, asBits := maskOf(vocabulary, ids)
		if c.Allowed = listed; allowed > 256 {
			c.Allowed = asBits
		}
		for _, u := range usual[:6] {
			b.Run(fmt.Sprintf("%d tokens, %s", allowed, u.name), func(b *testing.B) {
				var s sample.Sampler
				for b.Loop() {
					s.Choose(logits, c, &u.p, 0, nil)
				}
			})
		}
	}
}

// The likeliest of masked logits is what Choose chooses, and whether they are given depends on what is allowed, not on the mask's form.
func TestMasked(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	var s, other sample.Sampler
	given := 0
	for i := range 3000 {
		logits := make([]float32, 400+random.IntN(700))
		for id := range logits {
			logits[id] = float32(random.NormFloat64())
		}
		c := after(1, 2)
		p := protocol.Sampling{IgnoreEOS: random.IntN(2) == 0}
		if random.IntN(4) == 0 {
			p.PresencePenalty = 1
		}
		listed, asBits := maskOf(len(logits), append(randomIDs(random, len(logits)), c.EOS...))
		if listed.Size() != asBits.Size() {
			t.Fatalf("case %d: %d tokens, %d as bits", i, listed.Size(), asBits.Size())
		}
		c.Allowed = asBits
		masked := s.Masked(logits, c, &p)
		c.Allowed = listed
		if again := other.Masked(logits, c, &p); !slices.Equal(again, masked) || (again == nil) != (masked == nil) {
			t.Fatalf("case %d: %v as bits, %v listed", i, masked, again)
		}
		if masked == nil {
			continue
		}
		given++
		token, logprob := sample.Best(masked)
		if want, wantLogprob, _ := other.Choose(logits, c, &p, 0, nil); token != want || logprob != wantLogprob {
			t.Fatalf("case %d, %+v: the likeliest is %d (%v), chosen %d (%v)", i, p, token, logprob, want, wantLogprob)
		}
	}
	if given == 0 || given == 3000 {
		t.Errorf("masked logits were given in %d of 3000 cases", given)
	}
}

package admission

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// naivePeak adds up what lives at each future moment.
func naivePeak(futures []future, block int) int {
	worst := 0
	for _, moment := range futures {
		sum := 0
		for _, f := range futures {
			if f.steps >= moment.steps {
				sum += (f.now + moment.steps + block - 1) / block * block
			}
		}
		worst = max(worst, sum)
	}
	return worst
}

func TestPeakIsThatOfAllMoments(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	var s scratch
	for range 3000 {
		block := []int{1, 2, 7, 16, 64}[random.IntN(5)]
		futures := make([]future, 1+random.IntN(30))
		for i := range futures {
			futures[i] = future{now: 1 + random.IntN(200), steps: random.IntN(100)}
		}
		slices.SortFunc(futures, func(a, b future) int { return b.steps - a.steps })
		if got, want := s.peak(futures, block), naivePeak(futures, block); got != want {
			t.Fatalf("blocks of %d, %v: got %d, want %d", block, futures, got, want)
		}
	}
	if got := s.peak(nil, 16); got != 0 {
		t.Fatalf("got %d, want 0", got)
	}
}

// The estimate of facts 2.2 for two requests, by hand: a = 11, b = 89 + 16; and a = 31, b = 19 + 16.
func TestAssumedPeakByHand(t *testing.T) {
	c, err := New(Config{QueueLimit: 10})
	if err != nil {
		t.Fatal(err)
	}
	c.SetGroup("a", Group{Kind: "m"})
	g := c.groups["a"]
	g.Limits.MaxSequenceTokens, g.Limits.CapacityTokens, g.Limits.BlockTokens = 1000, 1000, 1
	c.Push(Item{ID: 1, Kind: "m", PromptTokens: 5, MaxNewTokens: 95})
	c.Push(Item{ID: 2, Kind: "m", PromptTokens: 20, MaxNewTokens: 30})
	if got, want := len(c.Admit(0)), 2; got != want {
		t.Fatalf("got %d, want %d", got, want)
	}
	c.Advance(1, 5)
	c.Advance(2, 10)
	if got, want := c.Load("a").PeakTokens, max(11+105, 2*35+11+31); got != want {
		t.Fatalf("got %d, want %d", got, want)
	}
	// With an average of 64 the first is assumed to end at 64; used by 85 percent or more, at its max_new_tokens again.
	for range 200 {
		c.kinds["m"].lengths.learn(3)
	}
	if got, want := c.kinds["m"].lengths.average(), 64; got != want {
		t.Fatalf("got an average of %d, want %d", got, want)
	}
	if got, want := c.Load("a").PeakTokens, 2*35+11+31; got != want { // 11 + 58 + 16 + … is less
		t.Fatalf("got %d, want %d", got, want)
	}
	g.Limits.CapacityTokens = 47 // 40 are held
	if got, want := c.Load("a").PeakTokens, 116; got != want {
		t.Fatalf("busy: got %d, want %d", got, want)
	}
}

func TestAverageMovesAsLightLLMs(t *testing.T) {
	l := newLengths(Config{History: 3})
	l.learn(100)
	if got, want := l.mean, 2048+0.5*(100-2048); got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	before := l.mean
	l.learn(10)
	if got, want := l.mean, before+0.4*(64-before); math.Abs(got-want) > 1e-9 {
		t.Fatalf("got %v, want %v", got, want)
	}
	for range 100 {
		l.learn(70)
	}
	if got, want := l.weight, 0.04; got != want {
		t.Fatalf("got a weight of %v, want %v", got, want)
	}
	l.learn(1)
	if got, want := l.sorted, []int{1, 70, 70}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// Draws follow the history: their mean, and once something is produced, only what is longer.
func TestDrawsFollowTheHistory(t *testing.T) {
	l := newLengths(Config{History: 200})
	sum := 0
	for i := range 200 {
		l.learn(10 + i)
		sum += 10 + i
	}
	const draws = 20000
	mean := func(produced, most int) float64 {
		total := 0
		for id := range uint64(draws) {
			length := l.draw(produced, most, uniform(7, id, 0, uint64(produced)))
			if length <= produced || length > most {
				t.Fatalf("drew %d with %d produced and at most %d", length, produced, most)
			}
			total += length
		}
		return float64(total) / draws
	}
	if got, want := mean(0, 1000), float64(sum)/200; math.Abs(got-want) > 2 {
		t.Errorf("fresh: got a mean of %v, want %v", got, want)
	}
	if got, want := mean(0, 50), (40*29.5+160*50)/200.0; math.Abs(got-want) > 1 { // 10 … 49, and 160 that are cut
		t.Errorf("cut: got a mean of %v, want %v", got, want)
	}
	// 110 … 209 are longer: one of 101 pieces of the list leads up to 220, the others are even.
	if got, want := mean(109, 220), (100*159.0+214.5)/101; math.Abs(got-want) > 2 {
		t.Errorf("with 109 produced: got a mean of %v, want %v", got, want)
	}
	if got, want := l.draw(5, 5, 0.5), 5; got != want {
		t.Errorf("at the end: got %d, want %d", got, want)
	}
	// A prior of as many as have ended makes half of the draws the most.
	l = newLengths(Config{History: 200, Prior: 20})
	for range 10 {
		l.learn(100)
	}
	if got, want := mean(0, 1000), 550.0; math.Abs(got-want) > 15 {
		t.Errorf("prior: got a mean of %v, want %v", got, want)
	}
}

func TestUniform(t *testing.T) {
	var tenths [10]int
	for id := range uint64(100000) {
		tenths[int(10*uniform(1, id, 0, 0))]++
	}
	for i, got := range tenths {
		if got < 9500 || got > 10500 {
			t.Errorf("tenth %d: got %d of 100000", i, got)
		}
	}
}

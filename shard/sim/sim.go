// Package sim is a backend that computes nothing: it answers with seeded tokens at a modelled step time. So a whole server,
// with all of its parts but the arithmetic, runs at any speed and size: for the router's benchmarks, for drills of faults, and
// to try a deployment without its weights.
//
// What it answers depends on the tokens as a language model's answers do: a position's state is a hash of its token, of the
// sequence's adapter and of the state before it, kept in the KV blocks, and the logits are a function of the state. So a wrong
// block, a block that was not cleared or a position that was skipped shows in every token behind it, and a sequence that is
// parked, resumed, or found in the prefix cache must go on exactly. Of all tokens four have a chance at each position, and none
// that ends a sequence.
package sim

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"lockstep/shard/collective"
	"lockstep/shard/model"
	"lockstep/shard/sample"
	"lockstep/shard/schedule"
)

// Config is what the backend is to be like.
type Config struct {
	StepModel StepModel `json:"step_model"`
	// Stamps puts the moment of a step's end (StampNow) in place of the log-probability of plainly chosen tokens, so that a
	// benchmark can tell how long they travel.
	Stamps bool `json:"stamps,omitempty"`
}

const (
	blockTokens = 16
	// deviceBytes is the memory of the modelled device, beside its weights.
	deviceBytes = 64 << 30
	// cacheElementBytes are those of a number of the modelled KV cache.
	cacheElementBytes = 2
	// candidates is how many tokens have a chance at a position.
	candidates = 4
	// never is the logit of all others: its exponential is 0.
	never = -1e30
	// beatInterval divides long steps, so that they are not taken for stalls.
	beatInterval = 20 * time.Millisecond
)

// Backend is one rank. One goroutine owns it.
type Backend struct {
	config Config
	model  model.Config
	rank   int
	seeds  []uint64 // by adapter
	group  *collective.Group
	states []uint64 // [block][position]; see the package
	// drafted says of each state that it may be of a wrong guess.
	drafted []bool
	taken   int64    // bytes of the modelled device that the KV cache has
	wanted  []wanted // of the step that was launched last
	steps   []launched
	rows    []float32
	ends    time.Time // of the last step
}

// wanted is a row whose scores are wanted, or the likeliest token alone.
type wanted struct {
	state    uint64
	onlyBest bool
}

// launched is a step that is not collected yet.
type launched struct {
	wanted  []wanted
	seconds float64 // that it takes
	begun   time.Time
}

// New returns a rank's backend for a model of this shape and adapters of these digests, which are all that it takes of them.
func New(shape model.Config, rank int, config Config, adapters []string) *Backend {
	b := &Backend{config: config, model: shape, rank: rank, seeds: []uint64{0}}
	for _, digest := range adapters {
		sum := fnv.New64a()
		sum.Write([]byte(digest))
		b.seeds = append(b.seeds, sum.Sum64())
	}
	return b
}

// Describe says what is modelled.
func (b *Backend) Describe() model.Device {
	return model.Device{Type: "sim", Name: "simulated (" + b.config.StepModel.Name + ")", Numerics: "sim.1", BlockTokens: blockTokens,
		BlockBytes: cacheElementBytes * 2 * blockTokens * b.model.KVHeads * b.model.HeadDim * b.model.Layers}
}

// ExchangeFloats is nothing: the ranks meet in each step, and have nothing to say.
func (b *Backend) ExchangeFloats(int) (reduce, gather int) { return 0, 0 }

// FreeBytes is what the modelled device has beside the KV cache.
func (b *Backend) FreeBytes() (bytes int64, of string, err error) {
	return deviceBytes - b.taken, "the simulated device", nil
}

// Attach takes 8 bytes a position. A cache that the modelled device could not hold is refused, as a real one would be.
func (b *Backend) Attach(group *collective.Group, blocks, _ int) error {
	need := int64(blocks) * int64(b.Describe().BlockBytes)
	if need > deviceBytes {
		return fmt.Errorf("a KV cache of %d tokens takes %d GiB, and the simulated device has %d: lower --max-batch-total-tokens",
			blocks*blockTokens, need>>30, deviceBytes>>30)
	}
	b.group, b.taken = group, need
	b.states, b.drafted = make([]uint64, blocks*blockTokens), make([]bool, blocks*blockTokens)
	return nil
}

// Close does nothing.
func (b *Backend) Close() {}

// Forward is a Launch that is collected at once.
func (b *Backend) Forward(chunks []model.Chunk, consume func(model.Scores)) error {
	if err := b.Launch(chunks, false); err != nil {
		return err
	}
	return b.Collect(consume)
}

// CanBeFollowed reports whether the likeliest token is all that is wanted of each row.
func (b *Backend) CanBeFollowed(chunks []model.Chunk) bool {
	for i := range chunks {
		if l := chunks[i].Logits; l != model.LogitsNone && l != model.LogitsBest {
			return false
		}
	}
	return !b.model.Reward
}

// Launch computes a step's states; Collect waits until the modelled device would have.
func (b *Backend) Launch(chunks []model.Chunk, _ bool) error {
	before := b.wanted
	step := launched{begun: time.Now()}
	var cost schedule.Cost
	for i := range chunks {
		c := &chunks[i]
		cost.Add(c.Start, len(c.Tokens))
		step.wanted = b.advance(c, before, step.wanted)
	}
	step.seconds = b.config.StepModel.Seconds(&cost)
	b.wanted, b.steps = step.wanted, append(b.steps, step)
	return nil
}

// Collect takes as long as the step model says, from the end of the last step on or now.
func (b *Backend) Collect(consume func(model.Scores)) error {
	step := b.steps[0]
	b.steps = slices.Delete(b.steps, 0, 1)
	if b.ends.Before(step.begun) {
		b.ends = step.begun
	}
	b.ends = b.ends.Add(time.Duration(step.seconds * float64(time.Second)))
	if _, err := b.group.Exchange(); err != nil {
		return err
	}
	for left := time.Until(b.ends); left > 0; left = time.Until(b.ends) {
		time.Sleep(min(left, beatInterval))
		b.group.Beat()
	}
	if b.rank > 0 {
		return nil
	}
	limit := model.LogitRows
	if b.model.Reward {
		limit = max(1, len(step.wanted))
	}
	for part := range slices.Chunk(step.wanted, limit) {
		consume(b.scores(part))
	}
	return nil
}

// advance computes a chunk's states, and appends those that are wanted; before are those of the step before.
func (b *Backend) advance(c *model.Chunk, before, rows []wanted) []wanted {
	for _, block := range c.FreshBlocks() {
		clear(b.states[int(block)*blockTokens:][:blockTokens])
	}
	at := func(position int) int { return int(c.Blocks[position/blockTokens])*blockTokens + position%blockTokens }
	state := uint64(0)
	if c.Start > 0 {
		state = b.states[at(c.Start-1)]
	}
	for i, token := range c.Tokens {
		if token < 0 {
			token, _ = b.scores(before[-1-token:][:1]).Best(0)
		}
		state = mix(state ^ uint64(token) + 1 ^ b.seeds[c.Adapter])
		place := at(c.Start + i)
		if was := b.states[place]; was != 0 && was != state && !b.drafted[place] { // what another sequence left: it was not cleared
			state = mix(state ^ was)
		}
		b.states[place], b.drafted[place] = state, i >= len(c.Tokens)-c.Drafted
		if c.Wants(i) {
			rows = append(rows, wanted{state, c.Logits == model.LogitsBest})
		}
	}
	return rows
}

// mix is the finaliser of SplitMix64, a bijection that spreads every bit.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// scores are those of some states.
type scores struct {
	*Backend
	wanted []wanted
	stamp  float32
}

func (b *Backend) scores(rows []wanted) *scores {
	width := b.model.Vocabulary
	if b.model.Reward {
		width = 1
	}
	if need := len(rows) * width; cap(b.rows) < need {
		b.rows = make([]float32, need)
	}
	return &scores{Backend: b, wanted: rows, stamp: StampNow()}
}

func (s *scores) Rows() int { return len(s.wanted) }

// Row writes a row's logits. Rows have places of their own, so several goroutines may ask for different ones.
func (s *scores) Row(row int) []float32 {
	if s.model.Reward {
		s.rows[row] = unit(s.wanted[row].state)
		return s.rows[row : row+1]
	}
	logits := s.rows[:cap(s.rows)][row*s.model.Vocabulary:][:s.model.Vocabulary]
	for i := range logits {
		logits[i] = never
	}
	tokens, values, count := s.candidates(s.wanted[row].state)
	for i := range count {
		logits[tokens[i]] = values[i]
	}
	return logits
}

// BestOf is that of model.Scores.
func (s *scores) BestOf(logits []float32) (token int32, logprob float32) { return sample.Best(logits) }

// Best needs the candidates only: the others add nothing to the sum. Of a row of which nothing else is wanted the log-probability is
// rounded otherwise, as that of a card is: who mixes the two gives other answers under other loads.
func (s *scores) Best(row int) (token int32, logprob float32) {
	tokens, values, count := s.candidates(s.wanted[row].state)
	best, logprob := sample.Best(values[:count])
	switch {
	case s.config.Stamps:
		logprob = s.stamp
	case s.wanted[row].onlyBest:
		logprob = math.Nextafter32(logprob, -math.MaxFloat32)
	}
	return tokens[best], logprob
}

// candidates returns the tokens that may follow a state, by id, and their logits, between 0 and 4.
func (s *scores) candidates(state uint64) (tokens [candidates]int32, logits [candidates]float32, count int) {
	for i := range uint64(4 * candidates) { // ids that end a sequence, or come twice, are passed over
		draw := mix(state + i)
		token := int32(draw % uint64(s.model.Vocabulary))
		at, twice := slices.BinarySearch(tokens[:count], token)
		if twice || slices.Contains(s.model.EOSTokenIDs, token) {
			continue
		}
		copy(tokens[at+1:], tokens[at:count])
		copy(logits[at+1:], logits[at:count])
		tokens[at], logits[at] = token, 4*unit(mix(draw))
		if count++; count == candidates {
			break
		}
	}
	if count == 0 { // a vocabulary of nothing else
		count = 1
	}
	return tokens, logits, count
}

// unit maps a state to [0, 1).
func unit(state uint64) float32 { return float32(state>>40) * 0x1p-24 }

// stampMicroseconds is where stamps begin anew: single precision holds all smaller whole numbers.
const stampMicroseconds = 1 << 24

// StampNow is the moment in microseconds, modulo 2^24.
func StampNow() float32 { return float32(time.Now().UnixMicro() % stampMicroseconds) }

// SinceStamp is how long ago a stamp was made.
func SinceStamp(stamp float64) time.Duration {
	passed := time.Now().UnixMicro()%stampMicroseconds - int64(stamp)
	return time.Duration((passed+stampMicroseconds)%stampMicroseconds) * time.Microsecond
}

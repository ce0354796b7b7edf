package model

// LogitRows is how many rows of logits a backend hands over at a time.
const LogitRows = 64

// Logits says for which tokens of a chunk logits are wanted.
type Logits uint8

const (
	LogitsNone Logits = iota // the prompt goes on in a later step
	LogitsLast               // and of what is drafted
	LogitsBest               // of the same, and of these only the likeliest
	LogitsAll                // prompt log-probabilities are wanted
)

// Chunk is a run of tokens of one sequence that a step computes.
type Chunk struct {
	Start        int     // position of Tokens[0]
	PromptTokens int     // length of the sequence's prompt, without what was generated
	Adapter      int     // of the whole sequence: 0 none, else its number among the group's, counted from 1
	Tokens       []int32 // at least one; see ChosenBy
	Blocks       []int32 // the sequence's block table, covering Start+len(Tokens) positions
	// Drafted is how many of the last Tokens are guesses. Logits are wanted of these too, and of the token before them; if one turns out
	// wrong, a later step computes its position anew, and nothing else may have come of it.
	Drafted int
	// Fresh is how many of the last Blocks the sequence takes with this step: they are cleared first, so that nothing of their
	// former owner, not even a NaN, can reach it.
	Fresh  int
	Logits Logits
}

// ChosenBy is, in place of a token that the host does not know yet, the likeliest one of a wanted row of the step before, whose wanted rows
// have LogitsBest.
func ChosenBy(row int) int32 { return int32(-1 - row) }

// Wants reports whether logits of Tokens[i] are wanted.
func (c *Chunk) Wants(i int) bool {
	return c.Logits == LogitsAll || c.Logits != LogitsNone && i >= len(c.Tokens)-1-c.Drafted
}

// FreshBlocks are the last Fresh of Blocks.
func (c *Chunk) FreshBlocks() []int32 { return c.Blocks[len(c.Blocks)-c.Fresh:] }

// Scores are the logits of some of a step's wanted rows, in the order of the chunks and their tokens; a reward model has one
// logit a row, the score. They are valid while they are handed over. Methods may be called from several goroutines at once,
// for different rows.
type Scores interface {
	Rows() int
	// Row returns a row's logits, but of LogitsBest; they must not be changed.
	Row(row int) []float32
	// Best returns the likeliest token (the lowest id of several), as sample.Sampler chooses it from Row without any parameter,
	// and its log-probability, which may differ from the sampler's in rounding where the chunk has LogitsBest.
	Best(row int) (token int32, logprob float32)
	// BestOf returns the same of logits that the caller has changed, whose rounding may differ in any case.
	BestOf(logits []float32) (token int32, logprob float32)
}

// Device says what a backend computes with, and in which units.
type Device struct {
	Type string // as clients know it: "cpu"
	Name string // of what computes, for people: "avx512 kernels"
	// Numerics names the arithmetic: groups that are equal in it compute the same bits for the same model.
	Numerics    string
	Uneven      bool // the bits depend also on the number of shards
	BlockTokens int  // positions of a KV block
	BlockBytes  int  // of a KV block on all ranks together
}

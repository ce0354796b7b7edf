package schedule

// Cost is how much a step computes, in the terms that its duration depends on. A pair is a token that is computed and a
// position that it attends to.
type Cost struct {
	PrefillTokens int `json:"prefill_tokens"` // of sequences of which the step computes several tokens
	PrefillPairs  int `json:"prefill_pairs"`
	Decodes       int `json:"decodes"` // sequences of which it computes one token
	DecodePairs   int `json:"decode_pairs"`
}

// Add counts a run of tokens of one sequence that begins at position start.
func (c *Cost) Add(start, count int) {
	pairs := count*start + count*(count+1)/2
	if count == 1 {
		c.Decodes++
		c.DecodePairs += pairs
	} else {
		c.PrefillTokens += count
		c.PrefillPairs += pairs
	}
}

package sample

import "math"

// Summary is what a card leaves of a row of logits, or of a part of it, where nothing is wanted but the likeliest token. It is exact:
// summaries of parts add up to that of the row, however it is cut and in any order. So the log-probability does not depend on how many
// cards share the vocabulary.
//
// A logit x adds e^x as a sum of integers: it is f 2^n with n = round(x / ln 2) and f about 1, a float32 (kernels/rows.cu computes it),
// and adds f 2^24, which is an integer, shifted by n mod 16, to bin n / 16. The five bins that end with the highest one's are kept: what
// is below is less than 2^-64 of the sum.
type Summary struct {
	Bins    [summaryBins]uint64 // the last is bin Bin
	Highest float32             // without any logit, NaN not counted, -Inf
	Token   int32               // that has it, the first of several
	Bin     int32
	_       int32
}

const (
	summaryBins = 5
	binBits     = 16 // powers of two of a bin
	unitBits    = 24 // of an e^x of 1
	// largestLogit is what larger logits, and smaller ones with the other sign, count as.
	largestLogit = 16384
)

// NoSummary is that of no logits.
func NoSummary() Summary {
	return Summary{Highest: float32(math.Inf(-1)), Token: math.MaxInt32, Bin: math.MinInt32 / 2}
}

// Add takes another part of the row.
func (s *Summary) Add(o *Summary) {
	if o.Highest > s.Highest || o.Highest == s.Highest && o.Token < s.Token {
		s.Highest, s.Token = o.Highest, o.Token
	}
	if o.Bin == s.Bin {
		for i := range s.Bins {
			s.Bins[i] += o.Bins[i]
		}
		return
	}
	bins, last := s.Bins, max(s.Bin, o.Bin)
	for i := range s.Bins {
		s.Bins[i] = binAt(&bins, s.Bin, last, i) + binAt(&o.Bins, o.Bin, last, i)
	}
	s.Bin = last
}

// binAt is the i-th of bins that would end with last.
func binAt(bins *[summaryBins]uint64, bin, last int32, i int) uint64 {
	if at := i + int(last-bin); at < summaryBins {
		return bins[at]
	}
	return 0
}

// Best returns the likeliest token and its log-probability. Without any finite logit all of a vocabulary are alike, as for Choose.
func (s *Summary) Best(vocabulary int) (token int32, logprob float32) {
	sum := 0.0
	for _, bin := range s.Bins {
		sum = sum/(1<<binBits) + float64(bin)
	}
	if sum == 0 {
		return 0, float32(-log(float64(vocabulary)))
	}
	powers := float64(float64(int(s.Bin)*binBits-unitBits) * math.Ln2)
	highest := min(max(float64(s.Highest), -largestLogit), largestLogit)
	return s.Token, min(logprobOf(float32(highest), 0, log(sum)+powers), 0) // what was cut off is not in the sum
}

// Package draft guesses how a text goes on that repeats itself: what followed the last time that its newest tokens occurred may
// follow again. It is a pure core. What a guess is worth is for others to find out, by computing the tokens as if they were known: a
// wrong guess costs time and changes nothing.
package draft

const (
	// matched is how many tokens must have occurred before.
	matched = 3
	// mostMisses wrong guesses in a row are taken for a text that does not repeat itself; then it rests for so many steps.
	mostMisses = 3
	rest       = 32
)

// Lookup guesses for one text. The zero value is ready.
type Lookup struct {
	misses  int // guesses since the last one of which a token was right
	resting int // steps without a guess that are to come
}

// Propose appends up to count tokens to a list that may follow the text; none where nothing is known or guesses have been wrong.
// Those behind the first follow what the first ones make of the text: a loop goes on.
func (l *Lookup) Propose(to, text []int32, count int) []int32 {
	if l.resting > 0 {
		l.resting--
		return to
	}
	at := follower(text)
	if at < 0 || count < 1 {
		return to
	}
	first := len(to)
	for i := range count {
		if from := at + i; from < len(text) {
			to = append(to, text[from])
		} else {
			to = append(to, to[first+from-len(text)])
		}
	}
	if l.misses++; l.misses == mostMisses {
		l.misses, l.resting = 0, rest
	}
	return to
}

// Accept says that a token of the last guess was right.
func (l *Lookup) Accept() { l.misses, l.resting = 0, 0 }

// follower is where the token lies that followed the newest tokens the last time that they occurred; -1: they are new.
func follower(text []int32) int {
	if len(text) <= matched {
		return -1
	}
	newest := [matched]int32(text[len(text)-matched:])
	for at := len(text) - 1; at >= matched; at-- {
		if text[at-1] == newest[matched-1] && [matched]int32(text[at-matched:at]) == newest {
			return at
		}
	}
	return -1
}

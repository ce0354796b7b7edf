package guide

import (
	"fmt"
	"math/big"
	"strings"
)

const (
	// maxDigits bounds those of the bounds of numbers.
	maxDigits = 200
	// maxMultiple bounds what integers can be multiples of.
	maxMultiple = 10000
)

// What numbers are without bounds.
const (
	anyInteger  = `-?(?:0|[1-9][0-9]*)`
	anyNumber   = anyInteger + `(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?`
	anyFraction = `(?:\.[0-9]+)?`
)

// limit is a bound of a number.
type limit struct {
	value  *big.Rat
	strict bool // the bound itself is outside
}

// decimal is the size of a number in digits.
type decimal struct {
	whole    string // without zeros in front, but for 0 itself
	fraction string // without zeros behind
}

// numbers are the values of one type of JSON's.
type numbers struct {
	integer   bool
	low, high *limit
	multiples []int64
}

// raise makes the lower bound the higher of two.
func (n *numbers) raise(l limit) {
	if n.low == nil || tighter(l, *n.low, l.value.Cmp(n.low.value)) {
		n.low = &l
	}
}

// lower makes the upper bound the lower of two.
func (n *numbers) lower(l limit) {
	if n.high == nil || tighter(l, *n.high, -l.value.Cmp(n.high.value)) {
		n.high = &l
	}
}

func tighter(l, old limit, order int) bool { return order > 0 || order == 0 && l.strict && !old.strict }

// holds reports whether a value is one of the numbers.
func (n *numbers) holds(v *big.Rat) bool {
	if n.integer && !v.IsInt() || n.low != nil && !above(v, *n.low, 1) || n.high != nil && !above(v, *n.high, -1) {
		return false
	}
	for _, m := range n.multiples {
		if !new(big.Rat).Quo(v, big.NewRat(m, 1)).IsInt() {
			return false
		}
	}
	return true
}

// above reports whether v is within a lower bound, or with a sign of -1 within an upper one.
func above(v *big.Rat, l limit, sign int) bool {
	order := sign * v.Cmp(l.value)
	return order > 0 || order == 0 && !l.strict
}

// numeral is the rule of a number as JSON writes it. With bounds it has neither an exponent nor a minus before zero.
func (c *compiler) numeral(n *numbers) int32 {
	if n.low == nil && n.high == nil && len(n.multiples) == 0 {
		if n.integer {
			return integerStart
		}
		return numberStart
	}
	n.integer = n.integer || len(n.multiples) > 0
	zero := limit{value: new(big.Rat)}
	var positive, negative *automaton
	if n.high == nil || above(zero.value, *n.high, -1) || n.high.value.Sign() > 0 {
		positive = c.sizes(n.integer, n.low, n.high)
	}
	if n.low == nil || n.low.value.Sign() < 0 {
		from, to := &limit{zero.value, true}, negated(n.low)
		if high := negated(n.high); high != nil && high.value.Sign() >= 0 {
			from = &limit{high.value, high.strict || high.value.Sign() == 0}
		}
		negative = c.sizes(n.integer, from, to)
	}
	for _, m := range n.multiples {
		multiples := c.multiples(m)
		positive, negative = c.intersect(positive, multiples), c.intersect(negative, multiples)
	}
	return c.split(c.spell(positive, rawSpelling, endNode), c.literal("-", c.spell(negative, rawSpelling, endNode)))
}

func negated(l *limit) *limit {
	if l == nil {
		return nil
	}
	return &limit{new(big.Rat).Neg(l.value), l.strict}
}

// sizes reads numbers without a sign that are within bounds.
func (c *compiler) sizes(integer bool, low, high *limit) *automaton {
	fraction := anyFraction
	if integer {
		fraction = ""
	}
	a := c.pattern(`(?:0|[1-9][0-9]*)`+fraction, false)
	if low != nil && (low.value.Sign() > 0 || low.value.Sign() == 0 && low.strict) {
		a = c.intersect(a, c.pattern(atLeast(digitsOf(low.value), low.strict, fraction), false))
	}
	if high != nil {
		a = c.intersect(a, c.pattern(atMost(digitsOf(high.value), high.strict, fraction), false))
	}
	return a
}

// digitsOf writes a number that has a finite number of digits, as those that are read from decimals have.
func digitsOf(v *big.Rat) decimal {
	text := new(big.Rat).Abs(v).FloatString(maxDigits + maxExponent)
	whole, fraction, _ := strings.Cut(text, ".")
	return decimal{whole, strings.TrimRight(fraction, "0")}
}

// digits is a class of digits; "" where it has none.
func digits(low, high byte) string {
	switch {
	case low > high:
		return ""
	case low == high:
		return string(low)
	}
	return fmt.Sprintf("[%c-%c]", low, high)
}

// either is any of the alternatives that are not empty; where there is none, it matches nothing.
func either(alternatives ...string) string {
	var there []string
	for _, a := range alternatives {
		if a != "" {
			there = append(there, a)
		}
	}
	if len(there) == 0 {
		return `[^\x00-\x{10ffff}]`
	}
	return "(?:" + strings.Join(there, "|") + ")"
}

// atLeast is an expression for numbers from d on, each with what may be its fraction; "" for integers.
func atLeast(d decimal, strict bool, fraction string) string {
	count := len(d.whole)
	equal := d.whole
	switch {
	case fraction != "":
		equal += fractionAtLeast(d.fraction, strict)
	case d.fraction != "" || strict:
		equal = ""
	}
	return either(fmt.Sprintf("[1-9][0-9]{%d,}", count)+fraction, differing(d.whole, 0, func(digit byte, _ bool) string {
		return digits(digit+1, '9')
	}, fraction), equal)
}

// atMost is an expression for numbers up to d.
func atMost(d decimal, strict bool, fraction string) string {
	count := len(d.whole)
	shorter := ""
	if count > 1 {
		shorter = fmt.Sprintf("(?:0|[1-9][0-9]{0,%d})", count-2) + fraction
	}
	equal := d.whole
	switch {
	case fraction != "":
		if equal = fractionAtMost(d.fraction, strict); equal != "" {
			equal = d.whole + equal
		}
		if d.fraction == "" && strict {
			equal = ""
		}
	case d.fraction == "" && strict:
		equal = ""
	}
	return either(shorter, differing(d.whole, 0, func(digit byte, first bool) string {
		if first && count > 1 {
			return digits('1', digit-1)
		}
		return digits('0', digit-1)
	}, fraction), equal)
}

// differing is an expression for whole numbers with as many digits, the first unlike one of which is among others.
func differing(whole string, at int, others func(digit byte, first bool) string, fraction string) string {
	if at == len(whole) {
		return ""
	}
	here := others(whole[at], at == 0)
	if here != "" {
		here += fmt.Sprintf("[0-9]{%d}", len(whole)-at-1) + fraction
	}
	behind := differing(whole, at+1, others, fraction)
	if behind != "" {
		behind = string(whole[at]) + behind
	}
	if here == "" && behind == "" {
		return ""
	}
	return either(here, behind)
}

// fractionAtLeast is an expression for what stands behind an equal whole number.
func fractionAtLeast(fraction string, strict bool) string {
	const more = `[0-9]*[1-9][0-9]*`
	if fraction == "" {
		if strict {
			return `\.` + more
		}
		return anyFraction
	}
	tail := "[0-9]*"
	if strict {
		tail = more
	}
	for i := len(fraction) - 1; i >= 0; i-- {
		larger := digits(fraction[i]+1, '9')
		if larger != "" {
			larger += "[0-9]*"
		}
		tail = either(larger, string(fraction[i])+tail)
	}
	return `\.` + tail
}

// fractionAtMost is an expression for what stands behind an equal whole number, which may be nothing.
func fractionAtMost(fraction string, strict bool) string {
	if fraction == "" {
		return `(?:\.0+)?`
	}
	tail := ""
	for i := len(fraction) - 1; i >= 0; i-- {
		smaller := digits('0', fraction[i]-1)
		if smaller != "" {
			smaller += "[0-9]*"
		}
		equal := string(fraction[i]) + "(?:" + tail + ")?"
		if i == len(fraction)-1 {
			equal = string(fraction[i]) + "0*"
			if strict {
				equal = ""
			}
		}
		if smaller == "" && equal == "" {
			continue
		}
		tail = either(smaller, equal)
	}
	return `(?:\.` + tail + `)?`
}

// multiples reads the multiples of m: its states are remainders.
func (c *compiler) multiples(m int64) *automaton {
	if m < 1 || m > maxMultiple {
		c.fail(TooLarge, "multiples of up to %d can be asked for, not of %d", maxMultiple, m)
		return nil
	}
	a := &automaton{}
	for r := range m {
		s := charState{accepts: r == 0}
		for d := range int64(10) {
			s.edges = append(s.edges, charEdge{rune('0' + d), rune('0' + d), int32((r*10 + d) % m)})
		}
		a.states = append(a.states, s)
	}
	c.spend(int(m) * 10)
	return a
}

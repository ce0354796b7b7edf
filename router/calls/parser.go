package calls

import (
	"encoding/json"
	"slices"
	"strings"
)

const (
	// maxHeldBytes is how much text may wait for the decision whether it is a call; with more it is content.
	maxHeldBytes = 64 << 10
	// maxNameBytes bounds names of tools and of members; what is longer is no call.
	maxNameBytes = 256
	// maxMarkerBytes is more than any marker has.
	maxMarkerBytes = 64
	// maxSpaceBytes is how much white space waits for what follows it; more goes out.
	maxSpaceBytes = 1 << 10
)

// Tool is a function that the model may call.
type Tool struct {
	Name       string
	Parameters json.RawMessage // JSON Schema; empty: no arguments
}

// Options say what to look for. A Format of nil looks for no calls, a Reasoning without End for no reasoning.
type Options struct {
	Format    *Format
	Tools     []Tool
	Reasoning Reasoning
}

// Delta is what came to one of the answer's parts: only one field is set.
type Delta struct {
	Reasoning string
	Content   string
	Call      *Call
}

// Call is a piece of a call. Calls come one after the other, and their indices count up from 0.
type Call struct {
	Index     int
	Name      string // in a call's first piece only, and whole
	Arguments string // what is to be appended; may be empty
}

// Parser reads one answer. One goroutine uses it.
type Parser struct {
	format    *Format
	tools     map[string]json.RawMessage
	schemas   map[string]any // parsed parameters, by tool
	reasoning Reasoning

	thinking bool // within reasoning
	thought  bool // reasoning has ended, and does not begin again
	begun    bool // of the present part something else than white space was said
	trim     bool // white space at the present part's start is nobody's

	held   []byte // may begin a marker
	space  []byte // goes out only if text follows
	reader reader // nil: none is at work
	raw    []byte // what the reader took, as long as that may turn out to be content
	recent []byte // the last of what the reader took: a marker may have begun there when it gives up
	calls  int

	deltas  []Delta
	part    part   // of the answer that grows
	name    string // of a call that has just begun
	growing []byte
}

// part is what a delta may be of.
type part int

const (
	noPart part = iota
	reasoningPart
	contentPart
	callPart
)

// NewParser starts with an empty answer.
func NewParser(options Options) *Parser {
	p := &Parser{format: options.Format, reasoning: options.Reasoning, tools: make(map[string]json.RawMessage, len(options.Tools))}
	if p.format == nil {
		p.format = &Format{}
	}
	for _, tool := range options.Tools {
		p.tools[tool.Name] = tool.Parameters
	}
	if p.reasoning.End == "" {
		p.reasoning.Start = ""
	} else if p.reasoning.Inside {
		p.thinking, p.trim = true, true
	}
	return p
}

// Add takes what the model said next and returns what has become certain by it.
func (p *Parser) Add(text string) []Delta {
	for i := range len(text) {
		p.take(text[i])
	}
	return p.flush()
}

// End returns what was held back. Cut says that the answer ended by its length, not by the model.
func (p *Parser) End(cut bool) []Delta {
	if p.reader != nil {
		p.reader.end(p, cut)
		p.reader = nil
		p.giveBack(p.raw)
	}
	held := p.held
	p.held = nil
	for _, c := range held {
		p.release(c)
	}
	if !p.thinking && p.calls == 0 {
		p.say(p.space)
	}
	p.space = nil
	return p.flush()
}

// Calls is how many calls have begun.
func (p *Parser) Calls() int { return p.calls }

// flush hands out what has grown.
func (p *Parser) flush() []Delta {
	p.turn(noPart)
	deltas := p.deltas
	p.deltas = nil
	return deltas
}

// turn makes a delta of what has grown if what comes is of another part.
func (p *Parser) turn(to part) {
	if p.part == to {
		return
	}
	text := string(p.growing)
	switch p.part {
	case reasoningPart:
		p.deltas = append(p.deltas, Delta{Reasoning: text})
	case contentPart:
		p.deltas = append(p.deltas, Delta{Content: text})
	case callPart:
		p.deltas = append(p.deltas, Delta{Call: &Call{Index: p.calls - 1, Name: p.name, Arguments: text}})
	}
	p.part, p.name, p.growing = to, "", p.growing[:0]
}

// say adds to reasoning or content.
func (p *Parser) say(text []byte) {
	if len(text) == 0 {
		return
	}
	if p.thinking {
		p.turn(reasoningPart)
	} else {
		p.turn(contentPart)
	}
	p.growing = append(p.growing, text...)
}

// begin starts a call: what the reader took is no content any more.
func (p *Parser) begin(name string) {
	p.turn(noPart)
	p.calls++
	p.part, p.name = callPart, name
	p.raw, p.space = nil, nil
}

// arguments adds to the present call.
func (p *Parser) arguments(text ...byte) {
	p.turn(callPart)
	p.growing = append(p.growing, text...)
}

func (p *Parser) known(name string) bool {
	_, ok := p.tools[name]
	return ok
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// take gives a byte to whom it concerns: to the reader at work, or to those who look for markers.
func (p *Parser) take(c byte) {
	if p.reader == nil {
		p.seek(c)
		return
	}
	if p.calls == 0 {
		p.raw = append(p.raw, c)
	}
	if len(p.recent) == 2*maxMarkerBytes {
		p.recent = append(p.recent[:0], p.recent[maxMarkerBytes:]...)
	}
	p.recent = append(p.recent, c)
	result := p.reader.read(p, c)
	if result == more && len(p.raw) <= maxHeldBytes {
		return
	}
	p.reader = nil
	if result == done {
		return
	}
	again := p.markerBegun()
	if p.calls == 0 {
		p.giveBack(p.raw[:len(p.raw)-len(again)])
	}
	for _, c := range again {
		p.take(c)
	}
}

// markerBegun returns the end of what a reader took that may begin a marker; at least the last byte.
func (p *Parser) markerBegun() []byte {
	recent := p.recent
	p.recent = nil
	for len(recent) > 1 && !slices.ContainsFunc(p.format.markers, func(m string) bool { return strings.HasPrefix(m, string(recent)) }) {
		recent = recent[1:]
	}
	return recent
}

// giveBack makes content of what a reader took in vain.
func (p *Parser) giveBack(raw []byte) {
	p.raw = nil
	for _, c := range raw {
		p.release(c)
	}
}

// seek looks for markers outside of calls.
func (p *Parser) seek(c byte) {
	if len(p.held) == 0 && !p.begun && !p.thinking && strings.IndexByte(p.format.bare, c) >= 0 && p.calls == 0 {
		p.open("")
		p.take(c)
		return
	}
	p.held = append(p.held, c)
	for len(p.held) > 0 {
		marker, partly := p.match()
		if marker != "" {
			p.held = p.held[:0]
			p.found(marker)
			return
		}
		if partly {
			return
		}
		first := p.held[0]
		p.held = append(p.held[:0], p.held[1:]...)
		p.release(first)
	}
}

// match compares what is held with all that may stand here: a whole marker, or whether it may become one.
func (p *Parser) match() (marker string, partly bool) {
	try := func(candidate string) {
		if len(p.held) <= len(candidate) && candidate[:len(p.held)] == string(p.held) {
			partly = true
			if len(p.held) == len(candidate) {
				marker = candidate
			}
		}
	}
	if !p.begun && !p.thought && p.calls == 0 {
		try(p.reasoning.Start)
	}
	if p.thinking {
		try(p.reasoning.End)
		return marker, partly
	}
	if !p.begun && p.calls == 0 {
		try(p.format.prelude)
	}
	for _, candidate := range p.format.markers {
		try(candidate)
	}
	return marker, partly
}

// found takes a marker out of the text.
func (p *Parser) found(marker string) {
	switch {
	case marker == p.reasoning.Start && !p.begun:
		// a model that was given the start may still say it
		p.thinking, p.trim, p.space = true, true, nil
	case p.thinking:
		p.thinking, p.thought, p.begun, p.trim, p.space = false, true, false, true, nil
	default:
		p.open(marker)
	}
}

// open sets a reader to work behind a marker, or at a bare call for "".
func (p *Parser) open(marker string) {
	p.reader, p.recent = p.format.open(marker), p.recent[:0]
	if p.calls == 0 {
		p.raw = []byte(marker)
	}
}

// reader reads the calls that one marker opens. It looks at each byte once and holds no state of the parser.
type reader interface {
	read(p *Parser, c byte) result
	// end is told that no more comes, and begins a call of what it has if that is one.
	end(p *Parser, cut bool)
}

// result is what a byte was to a reader.
type result int

const (
	more  result = iota // it belongs to the calls, and so may what follows
	done                // it is their last
	past                // it stands behind them
	wrong               // it makes them none, unless one has begun
)

// release lets a byte go that belongs to no marker.
func (p *Parser) release(c byte) {
	switch {
	case p.calls > 0, isSpace(c) && p.trim:
		return
	case isSpace(c):
		if len(p.space) == maxSpaceBytes {
			p.say(p.space)
			p.begun, p.space = true, p.space[:0]
		}
		p.space = append(p.space, c)
		return
	}
	p.say(p.space)
	p.say([]byte{c})
	p.begun, p.trim, p.space = true, false, p.space[:0]
}

package openai

import (
	"strings"

	"lockstep/protocol"
	"lockstep/router/api/answer"
	"lockstep/router/calls"
)

// part is a thought, a text or a call of an answer, in the order in which they came.
type part struct {
	kind  partKind
	index int
	call  *madeCall // of a call
	text  strings.Builder
	cut   bool // the answer was, while it grew
}

type partKind int

const (
	partThought partKind = iota
	partText
	partCall
)

// partWriter appends the events of a part's beginning, of what is added to it, and of its end.
type partWriter interface {
	open(b []byte, p *part) []byte
	grow(b []byte, p *part, piece string) []byte
	shut(b []byte, p *part) []byte
}

// tellParts appends the events of what a token has made visible.
func (c *choice) tellParts(b []byte, t *answer.Token, last *answer.Generation, w partWriter) []byte {
	c.note(t)
	shown := c.show(t, last)
	deltas := []calls.Delta{{Content: shown}}
	if c.said != nil {
		deltas = c.hear(shown, last)
	} else {
		c.text.WriteString(shown)
	}
	for _, delta := range deltas {
		kind, piece := partText, delta.Content
		switch {
		case delta.Call != nil:
			kind, piece = partCall, delta.Call.Arguments
		case delta.Reasoning != "":
			kind, piece = partThought, delta.Reasoning
		case piece == "":
			continue
		}
		p := c.newest()
		if p == nil || p.kind != kind || kind == partCall && delta.Call.Name != "" {
			b = c.shutNewest(b, w)
			p = &part{kind: kind, index: len(c.parts)}
			if kind == partCall {
				p.call = c.said.calls[delta.Call.Index]
			}
			c.parts = append(c.parts, p)
			b = w.open(b, p)
		}
		if p.text.WriteString(piece); piece != "" {
			b = w.grow(b, p, piece)
		}
	}
	if p := c.newest(); last != nil && p != nil {
		p.cut = last.Finish == protocol.FinishLength
		b = w.shut(b, p)
	}
	return b
}

// newest is the part that grows; nil: there is none yet.
func (c *choice) newest() *part {
	if len(c.parts) == 0 {
		return nil
	}
	return c.parts[len(c.parts)-1]
}

func (c *choice) shutNewest(b []byte, w partWriter) []byte {
	if p := c.newest(); p != nil {
		return w.shut(b, p)
	}
	return b
}

// quiet writes no events: for answers in one body.
type quiet struct{}

func (quiet) open(b []byte, _ *part) []byte           { return b }
func (quiet) grow(b []byte, _ *part, _ string) []byte { return b }
func (quiet) shut(b []byte, _ *part) []byte           { return b }

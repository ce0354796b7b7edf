package api

import (
	"strconv"

	"lockstep/protocol"
	"lockstep/router/api/wire"
)

// token is one generated token as a client sees it.
type token struct {
	id      int32
	text    string
	logprob float32
	special bool
	top     []token // the likeliest at its place, where that was asked for
}

// appendToken appends {"id":…,"text":…,"logprob":…,"special":…}.
func appendToken(b []byte, t *token) []byte {
	b = append(b, `{"id":`...)
	b = strconv.AppendInt(b, int64(t.id), 10)
	b = append(b, `,"text":`...)
	b = wire.AppendExactText(b, t.text)
	b = append(b, `,"logprob":`...)
	b = wire.AppendFloat(b, t.logprob)
	b = append(b, `,"special":`...)
	b = strconv.AppendBool(b, t.special)
	return append(b, '}')
}

// generation is one finished generation.
type generation struct {
	text     string // with the prompt in front where that was asked for
	finish   string
	sampling protocol.Sampling
	length   int           // of the prompt in tokens
	prompt   []promptToken // only where asked for
	tokens   []token
}

// promptToken is one token of the prompt; the first has no log-probability.
type promptToken struct {
	id      int32
	text    string
	logprob float32
}

// meanLogprob is what best_of compares.
func (g *generation) meanLogprob() float64 {
	sum := 0.0
	for i := range g.tokens {
		sum += float64(g.tokens[i].logprob)
	}
	return sum / float64(len(g.tokens))
}

func (g *generation) appendSeed(b []byte) []byte {
	b = append(b, `,"seed":`...)
	if !g.sampling.Sample {
		return append(b, "null"...)
	}
	return strconv.AppendUint(b, g.sampling.Seed, 10)
}

// appendOutcome appends finish_reason, generated_tokens and seed, without braces.
func (g *generation) appendOutcome(b []byte, tokens int) []byte {
	b = append(b, `"finish_reason":"`...)
	b = append(b, g.finish...)
	b = append(b, `","generated_tokens":`...)
	b = strconv.AppendInt(b, int64(tokens), 10)
	return g.appendSeed(b)
}

// appendLists appends the lists prefill and tokens.
func (g *generation) appendLists(b []byte) []byte {
	b = append(b, `,"prefill":[`...)
	for i := range g.prompt {
		t := &g.prompt[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":`...)
		b = strconv.AppendInt(b, int64(t.id), 10)
		b = append(b, `,"text":`...)
		b = wire.AppendExactText(b, t.text)
		b = append(b, `,"logprob":`...)
		if i == 0 {
			b = append(b, "null"...)
		} else {
			b = wire.AppendFloat(b, t.logprob)
		}
		b = append(b, '}')
	}
	b = append(b, `],"tokens":[`...)
	for i := range g.tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendToken(b, &g.tokens[i])
	}
	return append(b, ']')
}

// appendTop appends the list top_tokens with the alternatives of every token, if they were asked for.
func (g *generation) appendTop(b []byte) []byte {
	if len(g.tokens) == 0 || len(g.tokens[0].top) == 0 {
		return b
	}
	b = append(b, `,"top_tokens":[`...)
	for i := range g.tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendAlternatives(b, g.tokens[i].top)
	}
	return append(b, ']')
}

func appendAlternatives(b []byte, top []token) []byte {
	b = append(b, '[')
	for i := range top {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendToken(b, &top[i])
	}
	return append(b, ']')
}

// appendGeneration appends a whole answer; others are the copies of best_of that lost.
func appendGeneration(b []byte, g *generation, others []*generation, details bool) []byte {
	b = append(b, `{"generated_text":`...)
	b = wire.AppendExactText(b, g.text)
	if !details {
		return append(b, '}')
	}
	b = append(b, `,"details":{`...)
	b = g.appendOutcome(b, len(g.tokens))
	b = g.appendLists(b)
	if len(others) > 0 {
		b = append(b, `,"best_of_sequences":[`...)
		for i, other := range others {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"generated_text":`...)
			b = wire.AppendExactText(b, other.text)
			b = append(b, ',')
			b = other.appendOutcome(b, len(other.tokens))
			b = append(other.appendTop(other.appendLists(b)), '}')
		}
		b = append(b, ']')
	}
	b = g.appendTop(b)
	return append(b, `}}`...)
}

// appendEvent appends the event of a stream's token number index, from 1 on; last is nil but for the last token.
func appendEvent(b []byte, t *token, last *generation, index int, f form, details bool) []byte {
	b = append(append(b, f.eventPrefix()...), '{')
	if f.three {
		b = append(b, `"index":`...)
		b = append(strconv.AppendInt(b, int64(index), 10), ',')
	}
	b = append(b, `"token":`...)
	b = appendToken(b, t)
	if len(t.top) > 0 {
		b = append(b, `,"top_tokens":`...)
		b = appendAlternatives(b, t.top)
	}
	if last == nil {
		return append(b, `,"generated_text":null,"details":null}`+"\n\n"...)
	}
	b = append(b, `,"generated_text":`...)
	b = wire.AppendExactText(b, last.text)
	if !details {
		return append(b, `,"details":null}`+"\n\n"...)
	}
	b = append(b, `,"details":{`...)
	b = last.appendOutcome(b, index)
	if f.three {
		b = append(b, `,"input_length":`...)
		b = strconv.AppendInt(b, int64(last.length), 10)
	}
	return append(b, "}}\n\n"...)
}

// appendError appends TGI's error object.
func appendError(b []byte, message, kind string) []byte {
	b = append(b, `{"error":`...)
	b = wire.AppendExactText(b, message)
	b = append(b, `,"error_type":"`...)
	b = append(b, kind...)
	return append(b, `"}`...)
}

package tgi

import (
	"strconv"

	"lockstep/protocol"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
)

// appendToken appends {"id":…,"text":…,"logprob":…,"special":…}.
func appendToken(b []byte, t *answer.Token) []byte {
	b = append(b, `{"id":`...)
	b = strconv.AppendInt(b, int64(t.ID), 10)
	b = append(b, `,"text":`...)
	b = wire.AppendExactText(b, t.Text)
	b = append(b, `,"logprob":`...)
	b = wire.AppendFloat(b, t.Logprob)
	b = append(b, `,"special":`...)
	b = strconv.AppendBool(b, t.Special)
	return append(b, '}')
}

func appendSeed(b []byte, g *answer.Generation) []byte {
	b = append(b, `,"seed":`...)
	if !g.Sampling.Sample {
		return append(b, "null"...)
	}
	return strconv.AppendUint(b, g.Sampling.Seed, 10)
}

// finishReasons are TGI's words.
var finishReasons = map[protocol.Finish]string{
	protocol.FinishLength: "length", protocol.FinishEOS: "eos_token", protocol.FinishStop: "stop_sequence",
}

// appendOutcome appends finish_reason, generated_tokens and seed, without braces.
func appendOutcome(b []byte, g *answer.Generation, tokens int) []byte {
	b = append(b, `"finish_reason":"`...)
	b = append(b, finishReasons[g.Finish]...)
	b = append(b, `","generated_tokens":`...)
	b = strconv.AppendInt(b, int64(tokens), 10)
	return appendSeed(b, g)
}

// appendLists appends the lists prefill and tokens.
func appendLists(b []byte, g *answer.Generation) []byte {
	b = append(b, `,"prefill":[`...)
	for i := range g.Prompt {
		t := &g.Prompt[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":`...)
		b = strconv.AppendInt(b, int64(t.ID), 10)
		b = append(b, `,"text":`...)
		b = wire.AppendExactText(b, t.Text)
		b = append(b, `,"logprob":`...)
		if i == 0 {
			b = append(b, "null"...)
		} else {
			b = wire.AppendFloat(b, t.Logprob)
		}
		b = append(b, '}')
	}
	b = append(b, `],"tokens":[`...)
	for i := range g.Tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendToken(b, &g.Tokens[i])
	}
	return append(b, ']')
}

// appendTop appends the list top_tokens with the alternatives of every token, if they were asked for.
func appendTop(b []byte, g *answer.Generation) []byte {
	if len(g.Tokens) == 0 || len(g.Tokens[0].Top) == 0 {
		return b
	}
	b = append(b, `,"top_tokens":[`...)
	for i := range g.Tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendAlternatives(b, g.Tokens[i].Top)
	}
	return append(b, ']')
}

func appendAlternatives(b []byte, top []answer.Token) []byte {
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
func appendGeneration(b []byte, g *answer.Generation, others []*answer.Generation, details bool) []byte {
	b = append(b, `{"generated_text":`...)
	b = wire.AppendExactText(b, g.Text)
	if !details {
		return append(b, '}')
	}
	b = append(b, `,"details":{`...)
	b = appendOutcome(b, g, len(g.Tokens))
	b = appendLists(b, g)
	if len(others) > 0 {
		b = append(b, `,"best_of_sequences":[`...)
		for i, other := range others {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"generated_text":`...)
			b = wire.AppendExactText(b, other.Text)
			b = append(b, ',')
			b = appendOutcome(b, other, len(other.Tokens))
			b = append(appendTop(appendLists(b, other), other), '}')
		}
		b = append(b, ']')
	}
	b = appendTop(b, g)
	return append(b, `}}`...)
}

// appendEvent appends the event of a stream's token number index, from 1 on; last is nil but for the last token.
func appendEvent(b []byte, t *answer.Token, last *answer.Generation, index int, f form, details bool) []byte {
	b = append(append(b, f.eventPrefix...), '{')
	if f.indexedEvents {
		b = append(b, `"index":`...)
		b = append(strconv.AppendInt(b, int64(index), 10), ',')
	}
	b = append(b, `"token":`...)
	b = appendToken(b, t)
	if len(t.Top) > 0 {
		b = append(b, `,"top_tokens":`...)
		b = appendAlternatives(b, t.Top)
	}
	if last == nil {
		return append(b, `,"generated_text":null,"details":null}`+"\n\n"...)
	}
	b = append(b, `,"generated_text":`...)
	b = wire.AppendExactText(b, last.Text)
	if !details {
		return append(b, `,"details":null}`+"\n\n"...)
	}
	b = append(b, `,"details":{`...)
	b = appendOutcome(b, last, index)
	if f.indexedEvents {
		b = append(b, `,"input_length":`...)
		b = strconv.AppendInt(b, int64(last.PromptTokens), 10)
	}
	return append(b, "}}\n\n"...)
}

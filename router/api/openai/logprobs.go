package openai

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
)

// leastLogprob stands for what JSON cannot hold: the logarithm of zero. OpenAI has the same number.
const leastLogprob = -9999

// logprobRecords are the log-probabilities of an answer, or of a chunk of it, as JSON without the brackets.
type logprobRecords struct {
	chat                           []byte // of chats: objects
	tokens, logprobs, top, offsets []byte // of completions: lists side by side
}

// appendLogprobs appends what was recorded, null if log-probabilities are not wanted or a chunk has none.
func (c *choice) appendLogprobs(b []byte) []byte {
	r, body := &c.records, c.job.body
	switch {
	case !body.logprobs, body.stream && len(r.chat)+len(r.tokens) == 0:
		return append(b, "null"...)
	case body.chat:
		return append(append(append(b, `{"content":[`...), r.chat...), `],"refusal":null}`...)
	}
	b = append(append(b, `{"tokens":[`...), r.tokens...)
	b = append(append(b, `],"token_logprobs":[`...), r.logprobs...)
	b = append(append(b, `],"top_logprobs":[`...), r.top...)
	return append(append(append(b, `],"text_offset":[`...), r.offsets...), "]}"...)
}

// spelling is a token's text on its own, or its id where that is wanted.
func (c *choice) spelling(id int32) string {
	if c.job.body.tokensAsIDs {
		return "token_id:" + strconv.Itoa(int(id))
	}
	return c.Model.Tokenizer.Decode([]int32{id}, false)
}

// add records a token at an offset in characters; logprob is nil for the first of a prompt. Of tokens that are spelled
// alike in top the first counts.
func (r *logprobRecords) add(spelled string, logprob *float32, offset int, top []answer.Token, spelling func(int32) string) {
	r.tokens = wire.AppendText(wire.AppendComma(r.tokens), spelled)
	r.offsets = strconv.AppendInt(wire.AppendComma(r.offsets), int64(offset), 10)
	r.logprobs, r.top = wire.AppendComma(r.logprobs), wire.AppendComma(r.top)
	if logprob == nil {
		r.logprobs, r.top = append(r.logprobs, "null"...), append(r.top, "null"...)
		return
	}
	r.logprobs = appendLogprob(r.logprobs, *logprob)
	r.top = append(r.top, '{')
	var names []string
	for i := range top {
		name := spelling(top[i].ID)
		if slices.Contains(names, name) {
			continue
		}
		if len(names) > 0 {
			r.top = append(r.top, ',')
		}
		names = append(names, name)
		r.top = appendLogprob(append(wire.AppendText(r.top, name), ':'), top[i].Logprob)
	}
	r.top = append(r.top, '}')
}

// notePrompt records the prompt's tokens.
func (c *choice) notePrompt() {
	logprobs, offsets := c.PromptLogprobs(), c.promptOffsets()
	for i, id := range c.Request.Prompt {
		spelled, offset := c.spelling(id), offsets[i]
		switch {
		case i == 0:
			c.records.add(spelled, nil, offset, nil, nil)
		case i <= len(logprobs):
			p := &logprobs[i-1]
			top := []answer.Token{{ID: id, Logprob: p.Logprob}}
			for _, other := range p.Top {
				top = append(top, answer.Token{ID: other.ID, Logprob: other.Logprob})
			}
			c.records.add(spelled, &p.Logprob, offset, top, c.spelling)
		}
	}
}

// promptOffsets are the places of the prompt's tokens in the repeated text, in characters. They never go back: all tokens of
// a character have its place, and tokens that stand for none of the text have that of what follows.
func (c *choice) promptOffsets() []int {
	offsets, at := make([]int, len(c.Request.Prompt)), 0
	stream := c.Model.Tokenizer.NewPlainStream(nil)
	for i, id := range c.Request.Prompt {
		if given := c.prompt.offsets; given != nil {
			at = max(at, int(given[i][0]))
		}
		offsets[i] = at
		if c.prompt.offsets == nil && (c.job.body.showSpecial || !c.Model.Tokenizer.IsSpecial(id)) {
			at += utf8.RuneCountInString(stream.Next(id))
		}
	}
	return offsets
}

func appendLogprob(b []byte, logprob float32) []byte {
	if !(logprob > leastLogprob) {
		logprob = leastLogprob
	}
	return wire.AppendFloat(b, logprob)
}

// appendChatRecord appends a token with its alternatives as chats have them.
func (c *choice) appendChatRecord(b []byte, t *answer.Token) []byte {
	b = c.appendChatToken(append(b, '{'), t)
	b = append(b, `,"top_logprobs":[`...)
	for i := range t.Top {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(c.appendChatToken(append(b, '{'), &t.Top[i]), '}')
	}
	return append(b, "]}"...)
}

// appendChatToken appends "token":…,"logprob":…,"bytes":[…].
func (c *choice) appendChatToken(b []byte, t *answer.Token) []byte {
	b = wire.AppendText(append(b, `"token":`...), c.spelling(t.ID))
	b = appendLogprob(append(b, `,"logprob":`...), t.Logprob)
	b = append(b, `,"bytes":[`...)
	for i, value := range []byte(c.Model.Tokenizer.Bytes(t.ID)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(value), 10)
	}
	return append(b, ']')
}

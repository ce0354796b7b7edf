package openai

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"lockstep/protocol/ordered"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// serveTokenize answers POST /tokenize, which two servers have for different bodies: TGI 3 takes that of a generate route, vLLM
// a prompt or messages.
func (d *Dialect) serveTokenize(w http.ResponseWriter, r *http.Request) {
	var body *generateBody
	vLLM := false
	_, refusal := d.answers.Bodies.ReadJSON(w, r)
	if refusal == nil {
		refusal = d.answers.Bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			top, ok := wire.Of(w).Members()
			switch vLLM = !wire.Has(top, "inputs") && wire.Has(top, "prompt", "messages"); {
			case vLLM && !ok: // in what is not UTF-8 members can be found
				return notAnObject
			case vLLM:
				body, refusal = readTokenize(top)
			}
			return refusal
		})
	}
	switch {
	case !vLLM: // which tells what is wrong, too
		d.config.Lent.Tokenize(w, r)
	case refusal != nil:
		d.refuse(w, refusal)
	default:
		d.tokenizeAsVLLM(w, r, body)
	}
}

// serveChatTokenize answers POST /chat_tokenize of TGI 3: what the template writes, and its tokens.
func (d *Dialect) serveChatTokenize(w http.ResponseWriter, r *http.Request) {
	data, refusal := d.answers.Bodies.ReadJSON(w, r)
	var body *generateBody
	theirs := true // the refusal is in the lender's words
	if refusal == nil {
		refusal = d.answers.Bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			if refusal := d.config.Lent.CheckChat(data); refusal != nil {
				return refusal
			}
			theirs = false
			top, ok := wire.Of(w).Members()
			if !ok {
				return notAnObject
			}
			body, refusal = readBody(top, true, tokenizeFields)
			return refusal
		})
	}
	switch {
	case refusal != nil && theirs:
		d.config.Lent.RefuseBody(w, refusal)
		return
	case refusal != nil:
		d.refuse(w, refusal)
		return
	}
	model, refusal := d.answers.WaitModel(r.Context())
	if refusal != nil {
		d.refuse(w, refusal)
		return
	}
	written, failure := d.writeChat(r.Context(), model, body)
	if failure != nil {
		d.refuse(w, failure)
		return
	}
	encoding, refusal := d.answers.EncodeWithOffsets(r.Context(), model, written, body.addsToChat())
	if refusal != nil {
		d.refuse(w, refusal)
		return
	}
	b := d.config.Lent.AppendPlaces([]byte(`{"tokenize_response":`), written, encoding)
	wire.Respond(w, http.StatusOK, wire.JSONType, append(wire.AppendExactText(append(b, `,"templated_text":`...), written), '}'))
}

// tokenizeAsVLLM answers with the ids of a prompt or of messages, {"count":…,"max_model_len":…,"tokens":…,"token_strs":…}.
func (d *Dialect) tokenizeAsVLLM(w http.ResponseWriter, r *http.Request, body *generateBody) {
	job := &work{body: body}
	model, refusal := d.answers.WaitModel(r.Context())
	if refusal != nil {
		d.refuse(w, refusal)
		return
	}
	job.model = model
	if err := d.makePrompts(r.Context(), job); err != nil {
		d.refuse(w, err)
		return
	}
	ids := job.prompts[0].ids
	b := strconv.AppendInt([]byte(`{"count":`), int64(len(ids)), 10)
	b = strconv.AppendInt(append(b, `,"max_model_len":`...), int64(model.MaxTotalTokens), 10)
	b = wire.AppendIDs(append(b, `,"tokens":`...), ids)
	if b = append(b, `,"token_strs":`...); body.tokenTexts {
		b = append(b, '[')
		for i, id := range ids {
			if i > 0 {
				b = append(b, ',')
			}
			b = wire.AppendText(b, model.Tokenizer.Decode([]int32{id}, false))
		}
		b = append(b, ']')
	} else {
		b = append(b, "null"...)
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(b, '}'))
}

// readTokenize reads the body of vLLM's /tokenize.
func readTokenize(top []ordered.Member) (*generateBody, *request.Refusal) {
	body, refusal := readBody(top, wire.Find(top, "messages") != nil, tokenizeFields)
	if refusal == nil && len(body.prompts) > 1 {
		refusal = wrongType("prompt", "a string", []any{})
	}
	return body, refusal
}

// tokenizeFields are what the routes that only tokenise have more: templates may write what cannot be generated yet.
var tokenizeFields = map[string]fieldReader{
	"tools":             objectsField(func(b *generateBody, v json.RawMessage) { b.tools.raw = v }),
	"tool_choice":       func(*generateBody, string, json.RawMessage) *request.Refusal { return nil },
	"return_token_strs": flagField(func(b *generateBody, v bool) { b.tokenTexts = v }),
}

// serveDetokenize answers POST /detokenize of vLLM: {"tokens":…} to {"prompt":…}, special tokens kept.
func (d *Dialect) serveDetokenize(w http.ResponseWriter, r *http.Request) {
	_, refusal := d.answers.Bodies.ReadJSON(w, r)
	var ids []int32
	if refusal == nil {
		refusal = d.answers.Bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			top, ok := wire.Of(w).Members()
			if !ok {
				return notAnObject
			}
			ids, refusal = readTokens(top)
			return refusal
		})
	}
	if refusal != nil {
		d.refuse(w, refusal)
		return
	}
	model, refusal := d.answers.WaitModel(r.Context())
	if refusal != nil {
		d.refuse(w, refusal)
		return
	}
	if err := checkTokens("tokens", ids, model); err != nil {
		d.refuse(w, err)
		return
	}
	var prompt string
	refusal = d.answers.Work(r.Context(), len(ids), func(context.Context) error {
		prompt = model.Tokenizer.Decode(ids, false)
		return nil
	})
	if refusal != nil {
		d.refuse(w, refusal)
		return
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(wire.AppendText([]byte(`{"prompt":`), prompt), '}'))
}

// readTokens reads the body of /detokenize.
func readTokens(top []ordered.Member) (ids []int32, err *request.Refusal) {
	for _, m := range top {
		if m.Name == "tokens" && string(m.Value) != "null" {
			err = idsField(math.MaxInt32, func(_ *generateBody, v []int32) { ids = v })(nil, m.Name, m.Value)
			return ids, err
		}
	}
	return nil, missingField("tokens")
}

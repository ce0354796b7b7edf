package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"lockstep/protocol/ordered"
	"lockstep/protocol/text"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// serveTokenize answers POST /tokenize, which two servers have for different bodies: TGI 3 takes that of a generate route
// and looks at its text only; vLLM takes a prompt or messages.
func (s *Server) serveTokenize(w http.ResponseWriter, r *http.Request) {
	f := form{three: true}
	data, refusal := s.bodies.ReadJSON(w, r)
	if refusal != nil {
		s.refuse(w, refusal, f)
		return
	}
	var body *generateBody
	var theirs *openAIBody
	vLLM := false
	refusal = s.bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
		top, _ := wire.Of(w).Members()
		if vLLM = wire.Find(top, "inputs") == nil && (wire.Find(top, "prompt") != nil || wire.Find(top, "messages") != nil); vLLM {
			theirs, refusal = readTokenize(top)
		} else {
			body, refusal = decodeTGI(data, f)
		}
		return refusal
	})
	switch {
	case refusal != nil && vLLM:
		s.refuseAsOpenAI(w, refusal)
		return
	case refusal != nil:
		s.refuse(w, refusal, f)
		return
	case vLLM:
		s.tokenizeAsVLLM(w, r, theirs)
		return
	}
	model, refusal := s.waitModel(r.Context())
	if refusal == nil {
		var encoding text.Encoding
		if encoding, refusal = s.encodeOn(r.Context(), model, body.Inputs, true, true); refusal == nil {
			wire.Respond(w, http.StatusOK, wire.JSONType, appendPlaces(nil, body.Inputs, encoding))
			return
		}
	}
	s.refuse(w, refusal, f)
}

// appendPlaces appends the array of {"id":…,"text":…,"start":…,"stop":…} of a text's tokens, whose places are in bytes.
func appendPlaces(b []byte, inputs string, encoding text.Encoding) []byte {
	begins := make([]int, 0, len(inputs)+1) // of each character
	for i := range inputs {
		begins = append(begins, i)
	}
	begins = append(begins, len(inputs))
	b = append(b, '[')
	for i, id := range encoding.IDs {
		start, stop := begins[encoding.Offsets[i][0]], begins[encoding.Offsets[i][1]]
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"id":`...), int64(id), 10)
		b = wire.AppendExactText(append(b, `,"text":`...), inputs[start:stop])
		b = strconv.AppendInt(append(b, `,"start":`...), int64(start), 10)
		b = strconv.AppendInt(append(b, `,"stop":`...), int64(stop), 10)
		b = append(b, '}')
	}
	return append(b, ']')
}

// serveChatTokenize answers POST /chat_tokenize of TGI 3: what the template writes, and its tokens.
func (s *Server) serveChatTokenize(w http.ResponseWriter, r *http.Request) {
	data, refusal := s.bodies.ReadJSON(w, r)
	var body *openAIBody
	theirs := true // the refusal is TGI's
	if refusal == nil {
		refusal = s.bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			// The original's words where there is no list of messages.
			err := (&bodyDecoder{data: data}).structure(structure{name: "ChatRequest", required: 1, fields: []field{
				{"messages", func(d *bodyDecoder) error { return d.ignore() }},
			}})
			if err != nil {
				return refusalOf(err)
			}
			theirs = false
			top, _ := wire.Of(w).Members()
			body, refusal = readOpenAI(top, true, tokenizeFields)
			return refusal
		})
	}
	switch {
	case refusal != nil && theirs:
		s.refuse(w, refusal, form{three: true})
		return
	case refusal != nil:
		s.refuseAsOpenAI(w, refusal)
		return
	}
	model, refusal := s.waitModel(r.Context())
	if refusal != nil {
		s.refuseAsOpenAI(w, refusal)
		return
	}
	written, failure := s.writeChat(r.Context(), model, body)
	if failure != nil {
		s.refuseAsOpenAI(w, failure)
		return
	}
	encoding, refusal := s.encodeOn(r.Context(), model, written, body.addsToChat(), true)
	if refusal != nil {
		s.refuseAsOpenAI(w, refusal)
		return
	}
	b := appendPlaces([]byte(`{"tokenize_response":`), written, encoding)
	wire.Respond(w, http.StatusOK, wire.JSONType, append(wire.AppendExactText(append(b, `,"templated_text":`...), written), '}'))
}

// tokenizeAsVLLM answers with the ids of a prompt or of messages, {"count":…,"max_model_len":…,"tokens":…,"token_strs":…}.
func (s *Server) tokenizeAsVLLM(w http.ResponseWriter, r *http.Request, body *openAIBody) {
	job := &openAIJob{body: body}
	model, refusal := s.waitModel(r.Context())
	if refusal != nil {
		s.refuseAsOpenAI(w, refusal)
		return
	}
	job.model = model
	if err := s.makePrompts(r.Context(), job); err != nil {
		s.refuseAsOpenAI(w, err)
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
func readTokenize(top []ordered.Member) (*openAIBody, *request.Refusal) {
	body, refusal := readOpenAI(top, wire.Find(top, "messages") != nil, tokenizeFields)
	if refusal == nil && len(body.prompts) > 1 {
		refusal = wrongType("prompt", "a string", []any{})
	}
	return body, refusal
}

// tokenizeFields are what the routes that only tokenise have more: templates may write what cannot be generated yet.
var tokenizeFields = map[string]openAIField{
	"tools":             objectsField(func(b *openAIBody, v json.RawMessage) { b.tools = v }),
	"tool_choice":       func(*openAIBody, string, json.RawMessage) *request.Refusal { return nil },
	"return_token_strs": flagField(func(b *openAIBody, v bool) { b.tokenTexts = v }),
}

// serveDetokenize answers POST /detokenize of vLLM: {"tokens":…} to {"prompt":…}, special tokens kept.
func (s *Server) serveDetokenize(w http.ResponseWriter, r *http.Request) {
	_, refusal := s.bodies.ReadJSON(w, r)
	var ids []int32
	if refusal == nil {
		refusal = s.bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			top, ok := wire.Of(w).Members()
			if !ok {
				return notAnObject
			}
			ids, refusal = readTokens(top)
			return refusal
		})
	}
	if refusal != nil {
		s.refuseAsOpenAI(w, refusal)
		return
	}
	model, refusal := s.waitModel(r.Context())
	if refusal != nil {
		s.refuseAsOpenAI(w, refusal)
		return
	}
	if err := checkTokens("tokens", ids, model); err != nil {
		s.refuseAsOpenAI(w, err)
		return
	}
	var prompt string
	refusal = s.onWorker(r.Context(), len(ids), func(context.Context) error {
		prompt = model.Tokenizer.Decode(ids, false)
		return nil
	})
	if refusal != nil {
		s.refuseAsOpenAI(w, refusal)
		return
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(wire.AppendText([]byte(`{"prompt":`), prompt), '}'))
}

// readTokens reads the body of /detokenize.
func readTokens(top []ordered.Member) (ids []int32, err *request.Refusal) {
	for _, m := range top {
		if m.Name == "tokens" && string(m.Value) != "null" {
			err = idsField(math.MaxInt32, func(_ *openAIBody, v []int32) { ids = v })(nil, m.Name, m.Value)
			return ids, err
		}
	}
	return nil, missingField("tokens")
}

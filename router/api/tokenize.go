package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"lockstep/protocol/text"
)

// serveTokenize answers POST /tokenize, which two servers have for different bodies: TGI 3 takes that of a generate route
// and looks at its text only; vLLM takes a prompt or messages.
func (s *Server) serveTokenize(w http.ResponseWriter, r *http.Request) {
	f := form{three: true}
	data, failure := s.readBody(w, r)
	if failure != nil {
		s.refuseBody(w, failure, f)
		return
	}
	var body *generateBody
	var theirs *openAIBody
	failure = s.decode(r.Context(), func() (err error) {
		if top, _ := members(data); !hasMember(top, "inputs") && (hasMember(top, "prompt") || hasMember(top, "messages")) {
			theirs, err = readTokenize(top)
			return err
		}
		body, err = decodeTGI(data, f)
		return decodeFailure(err)
	})
	switch {
	case failure != nil:
		s.refuseBody(w, failure, f)
		return
	case theirs != nil:
		s.tokenizeAsVLLM(w, r, theirs)
		return
	}
	model, refusal := s.waitModel(r.Context())
	if refusal == nil {
		var encoding text.Encoding
		if encoding, refusal = s.encodeOn(r.Context(), model, body.Inputs, true, true); refusal == nil {
			respond(w, http.StatusOK, jsonType, appendPlaces(nil, body.Inputs, encoding))
			return
		}
	}
	s.respondError(w, refusal, f)
}

func hasMember(list []member, name string) bool {
	for _, m := range list {
		if m.name == name {
			return true
		}
	}
	return false
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
		b = appendExactText(append(b, `,"text":`...), inputs[start:stop])
		b = strconv.AppendInt(append(b, `,"start":`...), int64(start), 10)
		b = strconv.AppendInt(append(b, `,"stop":`...), int64(stop), 10)
		b = append(b, '}')
	}
	return append(b, ']')
}

// serveChatTokenize answers POST /chat_tokenize of TGI 3: what the template writes, and its tokens.
func (s *Server) serveChatTokenize(w http.ResponseWriter, r *http.Request) {
	data, err := s.readBody(w, r)
	var body *openAIBody
	if err == nil {
		err = s.decode(r.Context(), func() error {
			// The original's words where there is no list of messages.
			err := (&bodyDecoder{data: data}).structure(structure{name: "ChatRequest", required: 1, fields: []field{
				{"messages", func(d *bodyDecoder) error { return d.ignore() }},
			}})
			if err != nil {
				return decodeFailure(err)
			}
			top, _ := members(data) // it was read once already
			read, wrong := readOpenAI(top, true, tokenizeFields)
			if wrong != nil {
				return wrong
			}
			body = read
			return nil
		})
	}
	if err != nil {
		s.refuseBody(w, err, form{three: true})
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
	respond(w, http.StatusOK, jsonType, append(appendExactText(append(b, `,"templated_text":`...), written), '}'))
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
	b = appendIDs(append(b, `,"tokens":`...), ids)
	if b = append(b, `,"token_strs":`...); body.tokenTexts {
		b = append(b, '[')
		for i, id := range ids {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, model.Tokenizer.Decode([]int32{id}, false))
		}
		b = append(b, ']')
	} else {
		b = append(b, "null"...)
	}
	respond(w, http.StatusOK, jsonType, append(b, '}'))
}

// readTokenize reads the body of vLLM's /tokenize.
func readTokenize(top []member) (*openAIBody, error) {
	body, err := readOpenAI(top, hasMember(top, "messages"), tokenizeFields)
	if err == nil && len(body.prompts) > 1 {
		err = wrongType("prompt", "a string", []any{})
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// tokenizeFields are what the routes that only tokenise have more: templates may write what cannot be generated yet.
var tokenizeFields = map[string]openAIField{
	"tools":             objectsField(func(b *openAIBody, v json.RawMessage) { b.tools = v }),
	"tool_choice":       func(*openAIBody, string, json.RawMessage) *openAIError { return nil },
	"return_token_strs": flagField(func(b *openAIBody, v bool) { b.tokenTexts = v }),
}

// serveDetokenize answers POST /detokenize of vLLM: {"tokens":…} to {"prompt":…}, special tokens kept.
func (s *Server) serveDetokenize(w http.ResponseWriter, r *http.Request) {
	data, err := s.openAIData(w, r)
	if err != nil {
		s.refuseAsOpenAI(w, err)
		return
	}
	var ids []int32
	err = s.decode(r.Context(), func() error {
		read, wrong := readTokens(data)
		if wrong != nil {
			return wrong
		}
		ids = read
		return nil
	})
	if err != nil {
		s.refuseAsOpenAI(w, err)
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
	respond(w, http.StatusOK, jsonType, append(appendText([]byte(`{"prompt":`), prompt), '}'))
}

// readTokens reads the body of /detokenize.
func readTokens(data []byte) (ids []int32, err *openAIError) {
	top, err := openAIObject(data)
	if err != nil {
		return nil, err
	}
	for _, m := range top {
		if m.name == "tokens" && string(m.value) != "null" {
			err = idsField(math.MaxInt32, func(_ *openAIBody, v []int32) { ids = v })(nil, m.name, m.value)
			return ids, err
		}
	}
	return nil, missingField("tokens")
}

package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lockstep/router/request"
	"lockstep/router/text"
)

// maxClientBatchSize is TGI 3's default for the prompts of one completion request, which /info tells.
const maxClientBatchSize = 4

// serveModels answers GET /v1/models of TGI 3: a list of the one model.
func (s *Server) serveModels(w http.ResponseWriter, r *http.Request) {
	model := s.backend.Model()
	if model == nil {
		respond(w, http.StatusServiceUnavailable, jsonType, appendError(nil, "unhealthy", "healthcheck"))
		return
	}
	b := appendText([]byte(`{"object":"list","data":[{"id":`), model.Card.ModelID)
	b = appendText(append(b, `,"object":"model","created":0,"owned_by":`...), model.Card.ModelID)
	respond(w, http.StatusOK, jsonType, append(b, "}]}"...))
}

// serveTokenize answers POST /tokenize of TGI 3, which takes the body of a generate route and looks at its text only.
func (s *Server) serveTokenize(w http.ResponseWriter, r *http.Request) {
	f := form{three: true}
	body := s.readTGI(w, r, f)
	if body == nil {
		return
	}
	model, refusal := s.waitModel(r.Context())
	if refusal == nil {
		var tokens []byte
		if tokens, refusal = s.tokenize(r.Context(), model, body.Inputs); refusal == nil {
			respond(w, http.StatusOK, jsonType, tokens)
			return
		}
	}
	status, answer := s.describe(requestID(w), refusal, f)
	respond(w, status, jsonType, answer)
}

// tokenize returns the array of {"id":…,"text":…,"start":…,"stop":…} of a text's tokens, whose places are in bytes.
func (s *Server) tokenize(ctx context.Context, model *Model, inputs string) ([]byte, *request.Error) {
	var encoding text.Encoding
	refusal := s.onWorker(ctx, func() (err error) {
		encoding, err = model.Tokenizer.EncodeOffsets(inputs, true)
		return err
	})
	if refusal != nil {
		return nil, refusal
	}
	begins := make([]int, 0, len(inputs)+1) // of each character
	for i := range inputs {
		begins = append(begins, i)
	}
	begins = append(begins, len(inputs))
	b := []byte{'['}
	for i, id := range encoding.IDs {
		start, stop := begins[encoding.Offsets[i][0]], begins[encoding.Offsets[i][1]]
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"id":`...), int64(id), 10)
		b = appendText(append(b, `,"text":`...), inputs[start:stop])
		b = strconv.AppendInt(append(b, `,"start":`...), int64(start), 10)
		b = strconv.AppendInt(append(b, `,"stop":`...), int64(stop), 10)
		b = append(b, '}')
	}
	return append(b, ']'), nil
}

// grammar is a constraint on the output. Only its kind is kept: none is supported.
type grammar struct{ kind string }

var grammarKinds = []string{"json", "json_object", "regex", "json_schema"}

// intoGrammar reads {"type":…,"value":…}, an adjacently tagged enumeration to the original's decoder.
func intoGrammar(target *grammar) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		if c, ok := d.space(); ok && c != '{' && c != '[' {
			return d.unexpected("adjacently tagged enum GrammarType")
		}
		return d.structure(structure{name: "GrammarType", required: 2, fields: []field{
			{"type", func(d *bodyDecoder) error { return target.readKind(d) }},
			{"value", func(d *bodyDecoder) error { return target.readValue(d) }},
		}})
	}
}

func (g *grammar) readKind(d *bodyDecoder) error {
	if c, ok := d.space(); ok && c != '"' {
		return d.unexpected("variant of enum GrammarType")
	}
	if err := intoText(&g.kind)(d); err != nil {
		return err
	}
	if !slices.Contains(grammarKinds, g.kind) {
		return d.misfit("unknown variant `" + g.kind + "`, expected one of `" + strings.Join(grammarKinds, "`, `") + "`")
	}
	return nil
}

// readValue reads what the kind asks for; anything, if the kind has not come yet.
func (g *grammar) readValue(d *bodyDecoder) error {
	var ignored string
	switch g.kind {
	case "regex":
		return intoText(&ignored)(d)
	case "json_schema":
		return d.structure(structure{name: "JsonSchemaConfig", required: 1, fields: []field{
			{"schema", func(d *bodyDecoder) error { return d.ignore() }},
			{"name", optional(intoText(&ignored))},
		}})
	}
	return d.ignore()
}

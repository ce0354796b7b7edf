package api

import (
	"io"
	"math"
	"mime"
	"net/http"
	"strings"
	"time"
)

// parameters are the generation parameters of TGI 0.9.4 as they stand in a body; nil is null or absent.
type parameters struct {
	BestOf              *uint64
	Temperature         *float32
	RepetitionPenalty   *float32
	TopK                *int32
	TopP                *float32
	TypicalP            *float32
	DoSample            bool
	MaxNewTokens        uint64
	ReturnFullText      *bool
	Stop                []string
	Truncate            *uint64
	Watermark           bool
	Details             bool
	DecoderInputDetails bool
	Seed                *uint64
	Extensions          extensions
}

// generateBody is the body of the generate routes; Stream counts on the compatible routes only.
type generateBody struct {
	Inputs     string
	Parameters parameters
	Stream     bool
}

func intoSize(target *uint64) func(*bodyDecoder) error {
	return intoUnsigned(target, "usize", math.MaxUint64)
}

// tgi094Parameters is the structure of parameters in the order in which an array holds them.
func tgi094Parameters(p *parameters) structure {
	return structure{name: "GenerateParameters", fields: []field{
		{"best_of", nullable(&p.BestOf, intoSize)},
		{"temperature", nullable(&p.Temperature, intoFloat)},
		{"repetition_penalty", nullable(&p.RepetitionPenalty, intoFloat)},
		{"top_k", nullable(&p.TopK, intoSigned)},
		{"top_p", nullable(&p.TopP, intoFloat)},
		{"typical_p", nullable(&p.TypicalP, intoFloat)},
		{"do_sample", intoBool(&p.DoSample)},
		{"max_new_tokens", intoUnsigned(&p.MaxNewTokens, "u32", math.MaxUint32)},
		{"return_full_text", nullable(&p.ReturnFullText, intoBool)},
		{"stop", intoList(&p.Stop, intoText)},
		{"truncate", nullable(&p.Truncate, intoSize)},
		{"watermark", intoBool(&p.Watermark)},
		{"details", intoBool(&p.Details)},
		{"decoder_input_details", intoBool(&p.DecoderInputDetails)},
		{"seed", nullable(&p.Seed, func(target *uint64) func(*bodyDecoder) error {
			return intoUnsigned(target, "u64", math.MaxUint64)
		})},
	}, extensions: p.Extensions.fields()}
}

// decodeTGI094 reads a body of TGI 0.9.4. compat adds the field stream.
func decodeTGI094(data []byte, compat bool) (*generateBody, error) {
	body := &generateBody{Parameters: parameters{MaxNewTokens: 20}}
	s := structure{name: "GenerateRequest", required: 1, fields: []field{
		{"inputs", intoText(&body.Inputs)},
		{"parameters", func(d *bodyDecoder) error { return d.structure(tgi094Parameters(&body.Parameters)) }},
	}}
	if compat {
		s.name = "CompatGenerateRequest"
		s.fields = append(s.fields, field{"stream", intoBool(&body.Stream)})
	}
	d := &bodyDecoder{data: data}
	if err := d.structure(s); err != nil {
		return nil, err
	}
	return body, nil
}

// plainError is an error whose body is plain text: the framework of the original answers it before the dialect's code.
type plainError struct {
	status int
	text   string
}

func (e *plainError) Error() string { return e.text }

// readBody checks the content type and reads the body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *plainError) {
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, &plainError{http.StatusUnsupportedMediaType, "Expected request with `Content-Type: application/json`"}
	}
	tooLong := &plainError{http.StatusRequestEntityTooLarge, "Failed to buffer the request body: length limit exceeded"}
	if r.ContentLength > limit+drainBytes {
		return nil, tooLong
	}
	control := http.NewResponseController(w)
	setBodyDeadline(control)
	data, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	clearBodyDeadline(control)
	if err != nil {
		return nil, &plainError{http.StatusBadRequest, "Failed to buffer the request body: " + err.Error()}
	}
	if int64(len(data)) > limit {
		return nil, tooLong
	}
	return data, nil
}

// bodyTimeout bounds how long a client may take for the body.
const bodyTimeout = 2 * time.Minute

func setBodyDeadline(control *http.ResponseController) {
	control.SetReadDeadline(time.Now().Add(bodyTimeout))
}
func clearBodyDeadline(control *http.ResponseController) { control.SetReadDeadline(time.Time{}) }

// drainBytes is how much of a body that is too long the server still reads, so that its connection can be used again.
const drainBytes = 256 << 10

// isJSON reports whether a content type is application/json or application/*+json.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && media == "" {
		return false
	}
	kind, subtype, _ := strings.Cut(media, "/")
	return kind == "application" && (subtype == "json" || strings.HasSuffix(subtype, "+json"))
}

// decodeFailure puts a refused body into the framework's words.
func decodeFailure(err error) *plainError {
	if refusal, ok := err.(*bodyError); ok && !refusal.syntax {
		return &plainError{http.StatusUnprocessableEntity, "Failed to deserialize the JSON body into the target type: " + err.Error()}
	}
	return &plainError{http.StatusBadRequest, "Failed to parse the request body as JSON: " + err.Error()}
}

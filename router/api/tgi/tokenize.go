package tgi

import (
	"net/http"
	"strconv"

	"lockstep/protocol/text"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// Tokenize answers POST /tokenize of TGI 3, which takes the body of a generate route and looks at its text only.
func (d *Dialect) Tokenize(w http.ResponseWriter, r *http.Request) {
	f := form{version: versions[Form3]}
	body := d.readBody(w, r, f)
	if body == nil {
		return
	}
	model, refusal := d.answers.WaitModel(r.Context())
	if refusal == nil {
		var encoding text.Encoding
		if encoding, refusal = d.answers.EncodeWithOffsets(r.Context(), model, body.Inputs, true); refusal == nil {
			wire.Respond(w, http.StatusOK, wire.JSONType, AppendPlaces(nil, body.Inputs, encoding))
			return
		}
	}
	d.refuse(w, refusal, f)
}

// RefuseBody answers a body that cannot be read in the words of TGI's framework.
func (d *Dialect) RefuseBody(w http.ResponseWriter, refusal *request.Refusal) {
	d.refuse(w, refusal, form{version: versions[Form3]})
}

// CheckChat refuses a body without messages in the words of TGI 3.
func CheckChat(data []byte) *request.Refusal {
	err := (&bodyDecoder{data: data}).structure(structure{name: "ChatRequest", required: 1, fields: []field{
		{"messages", func(d *bodyDecoder) error { return d.ignore() }},
	}})
	if err != nil {
		return refusalOf(err)
	}
	return nil
}

// AppendPlaces appends the array of {"id":…,"text":…,"start":…,"stop":…} of a text's tokens, whose places are in bytes.
func AppendPlaces(b []byte, inputs string, encoding text.Encoding) []byte {
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

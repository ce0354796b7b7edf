package mindie

import (
	"strings"
	"testing"

	"lockstep/router/request"
)

// No body makes the decoder panic; what is accepted is within the ranges.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		`{"inputs":"a","parameters":{"details":true,"stop":null,"seed":null,"adapter_id":"None","top_p":0.5,"temperature":1e-3}}`,
		`{"inputs":[{"type":"text","text":"a"}],"stream":true,"fullTextEnabled":true}`,
		`{"inputs":"\ud800","parameters":{"seed":1e400,"top_k":-1}}`,
		`[`, strings.Repeat("[", 2000), `{"a":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, stream := range []bool{false, true} {
			b, err := decode(data, stream, !stream)
			if err == nil && (b.inputs == "" || b.maxNewTokens < 1 || b.sampling.TopP < 0 || b.sampling.TopP >= 1 || b.stream &&
				b.decoderInputDetails) {
				t.Fatalf("got %+v of %q", b, data)
			}
		}
	})
}

// Every refusal that is answered has a status.
func TestEveryClassHasAStatus(t *testing.T) {
	for class := request.Validation; class < request.Left; class++ {
		if status := outcomes[class].status; status < 400 || status > 599 {
			t.Errorf("class %d has the status %d", class, status)
		}
	}
}

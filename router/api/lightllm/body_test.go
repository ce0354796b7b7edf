package lightllm

import (
	"strings"
	"testing"

	"lockstep/router/api/wire"
)

// No body makes the decoder panic; what is accepted is within the ranges.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		`{"inputs":[1,2],"parameters":{"best_of":2,"stop_sequences":["a",[1]],"logit_bias":{"5":1},` +
			`"exponential_decay_length_penalty":[1,1.5]},"multimodal_params":{}}`,
		`{"inputs":"\ud800","parameters":{"seed":1e400,"top_k":-1}}`, `{"chat":"a"}`,
		`{"a":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		top, err := wire.Object(data)
		if err != nil {
			return
		}
		for _, stream := range []bool{false, true} {
			b, err := decode(top, stream)
			if err != nil {
				continue
			}
			if b.bestOf < 1 || b.bestOf > maxBestOf || b.maxNewTokens < 1 || stream && b.bestOf != 1 {
				t.Fatalf("got %+v of %q", b, data)
			}
			for copy := range b.bestOf {
				b.resolved(copy)
			}
		}
	})
}

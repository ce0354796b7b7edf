package api

import (
	"encoding/json"
	"strings"
	"testing"

	"lockstep/router/api/wire"
)

// No body makes a decoder panic, whatever dialect it is taken for; what is accepted is within the dialect's ranges.
func FuzzDialectBodies(f *testing.F) {
	for _, body := range []string{
		`{"inputs":"a","parameters":{"details":true,"stop":null,"seed":null,"adapter_id":"None","top_p":0.5,"temperature":1e-3}}`,
		`{"inputs":[1,2],"parameters":{"best_of":2,"stop_sequences":["a",[1]],"logit_bias":{"5":1},"exponential_decay_length_penalty":[1,1.5]},"multimodal_params":{}}`,
		`{"inputs":[{"type":"text","text":"a"}],"stream":true,"fullTextEnabled":true}`, `{"inputs":"\ud800","parameters":{"seed":1e400,"top_k":-1}}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","tool_calls":[{"function":{"arguments":"{\"a\":1}"}}]}],"logprobs":true,"stop":"a"}`,
		`{"prompt":[[1,2],[3]],"n":2,"logit_bias":{"7":-100},"stream":true,"stream_options":{"include_usage":true},"max_tokens":5.0}`,
		`{"chat":"a"}`, `[`, strings.Repeat("[", 2000), `{"a":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`,
	} {
		f.Add([]byte(body))
	}
	s := &Server{config: Config{DefaultDialect: TGI}}
	f.Fuzz(func(t *testing.T, data []byte) {
		s.detectBody(data)
		for _, stream := range []bool{false, true} {
			if b, err := decodeMindIE(data, stream, !stream); err == nil {
				if b.inputs == "" || b.maxNewTokens < 1 || b.sampling.TopP < 0 || b.sampling.TopP >= 1 || b.stream && b.decoderInputDetails {
					t.Fatalf("MindIE took %q as %+v", data, b)
				}
			}
			if b, err := decodeOpenAI(data, stream); err == nil {
				if b.n < 1 || b.copies() > openAIMaxChoices || b.temperature < 0 || (b.messages == nil) == (b.prompts == nil) || !json.Valid(b.conversation(false, stream)) {
					t.Fatalf("OpenAI took %q as %+v", data, b)
				}
				b.resolveSampling(0, 1)
			}
			top, err := wire.Object(data)
			if err != nil {
				continue
			}
			if b, err := decodeLightLLM(top, stream); err == nil {
				if b.bestOf < 1 || b.bestOf > lightLLMMaxBestOf || b.maxNewTokens < 1 || stream && b.bestOf != 1 {
					t.Fatalf("LightLLM took %q as %+v", data, b)
				}
				for copy := range b.bestOf {
					b.resolved(copy)
				}
			}
		}
	})
}

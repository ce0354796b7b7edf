package openai

import (
	"testing"

	"lockstep/protocol"
)

// A request's own parameters go before the model's defaults, and these before the interface's.
func TestDefaultsOfTheModel(t *testing.T) {
	defaults := protocol.SamplingDefaults{Temperature: new(float32(0.5)), TopP: new(float32(0.75)), TopK: new(20),
		RepetitionPenalty: new(float32(1.25))}
	for _, c := range []struct {
		fields   string
		defaults protocol.SamplingDefaults
		want     protocol.Sampling // without the seed
	}{
		{``, protocol.SamplingDefaults{}, protocol.Sampling{Sample: true, Temperature: 1, TopP: 1}},
		{``, defaults, protocol.Sampling{Sample: true, Temperature: 0.5, TopP: 0.75, TopK: 20, RepetitionPenalty: 1.25}},
		{`,"temperature":null,"top_k":null`, defaults,
			protocol.Sampling{Sample: true, Temperature: 0.5, TopP: 0.75, TopK: 20, RepetitionPenalty: 1.25}},
		{`,"temperature":1,"top_p":1,"top_k":-1,"repetition_penalty":1,"min_p":0.5`, defaults,
			protocol.Sampling{Sample: true, Temperature: 1, TopP: 1, MinP: 0.5, RepetitionPenalty: 1}},
		{`,"temperature":0`, defaults, protocol.Sampling{RepetitionPenalty: 1.25}},
		{`,"top_p":0`, defaults, protocol.Sampling{RepetitionPenalty: 1.25}},
		{`,"min_p":0`, protocol.SamplingDefaults{MinP: new(float32(0.25)), TopK: new(0)}, protocol.Sampling{Sample: true, Temperature: 1, TopP: 1}},
		{``, protocol.SamplingDefaults{Temperature: new(float32(0))}, protocol.Sampling{}},
		{`,"temperature":0.25`, protocol.SamplingDefaults{Temperature: new(float32(0))},
			protocol.Sampling{Sample: true, Temperature: 0.25, TopP: 1}},
	} {
		body, refusal := decode([]byte(`{"prompt":"a"`+c.fields+`}`), false)
		if refusal != nil {
			t.Fatal(refusal)
		}
		got := body.resolveSampling(0, 1, &c.defaults)
		got.Seed = 0
		if got.LogitBias != nil || got.Sample != c.want.Sample || got.Temperature != c.want.Temperature || got.TopP != c.want.TopP ||
			got.TopK != c.want.TopK || got.MinP != c.want.MinP || got.RepetitionPenalty != c.want.RepetitionPenalty {
			t.Errorf("%s: got %+v, want %+v", c.fields, got, c.want)
		}
	}
}

package tgi

import (
	"reflect"
	"testing"

	"lockstep/protocol"
	"lockstep/router/request"
)

func TestExtensions(t *testing.T) {
	for _, c := range []struct {
		parameters string
		want       extensions
	}{
		{`{}`, extensions{}},
		{`{"frequency_penalty":null,"presence_penalty":null,"min_p":null,"logit_bias":null,"allowed_token_ids":null,
			"min_new_tokens":null,"ignore_eos":null,"exponential_decay_length_penalty":null,"disable_prompt_cache":null}`, extensions{}},
		{`{"frequency_penalty":1,"presence_penalty":-0.5,"min_p":0.25,"logit_bias":{"7":-100,"3":1.5},"allowed_token_ids":[3,7],
			"min_new_tokens":2,"ignore_eos":true,"exponential_decay_length_penalty":[5,1.5],"disable_prompt_cache":true}`,
			extensions{disablePromptCache: true, sampling: protocol.Sampling{
				RelativeFrequencyPenalty: 1, PresencePenalty: -0.5, MinP: 0.25,
				LogitBias:       []protocol.TokenBias{{ID: 7, Bias: -100}, {ID: 3, Bias: 1.5}},
				AllowedTokenIDs: []int32{3, 7}, MinNewTokens: 2, IgnoreEOS: true, LengthPenaltyStart: 5, LengthPenaltyFactor: 1.5,
			}}},
		{`{"logit_bias":{},"exponential_decay_length_penalty":[0,0]}`, extensions{}},
	} {
		body, err := decode([]byte(`{"inputs":"x","parameters":`+c.parameters+`}`), form{version: versions[Form094]})
		if err != nil {
			t.Fatalf("%s: %v", c.parameters, err)
		}
		if got := body.Parameters.Extensions; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.parameters, got, c.want)
		}
		if err := body.Parameters.Extensions.validate(10, 20); err != nil {
			t.Errorf("%s: %v", c.parameters, err)
		}
	}
}

func TestExtensionsThatAreRefused(t *testing.T) {
	d := New(Config{Form: Form094, Limits: request.DefaultLimits()}, nil)
	for _, c := range []struct{ parameters, want string }{
		{`{"min_p":"1"}`, "parameters.min_p: invalid type: string \"1\", expected f32 at line 1 column 39"},
		{`{"min_p":0,"min_p":0}`, "parameters: duplicate field `min_p` at line 1 column 45"},
		{`{"logit_bias":[1]}`, "parameters.logit_bias: invalid type: sequence, expected a map at line 1 column 41"},
		{`{"logit_bias":{"x":1}}`, "parameters.logit_bias.x: invalid value: string \"x\", expected a token id at line 1 column 46"},
		{`{"logit_bias":{"1":{}}}`, "parameters.logit_bias.1: invalid type: map, expected f32 at line 1 column 46"},
		{`{"logit_bias":{"1" 1}}`, "parameters.logit_bias.1: expected `:` at line 1 column 47"},
		{`{"logit_bias":{"1":1,}}`, "parameters.logit_bias: trailing comma at line 1 column 49"},
		{`{"logit_bias":{1:1}}`, "parameters.logit_bias: key must be a string at line 1 column 43"},
		{`{"allowed_token_ids":[1,2.5]}`, "parameters.allowed_token_ids[1]: invalid type: floating point `2.5`, expected i32 at line 1 " +
			"column 54"},
		{`{"exponential_decay_length_penalty":[1]}`,
			"parameters.exponential_decay_length_penalty: invalid length 1, expected struct LengthPenalty with 2 elements at line 1 " +
				"column 66"},
		{`[null,null,null,null,null,null,true,20,null,[],null,false,false,false,7,0.5]`,
			"parameters: trailing characters at line 1 column 100"},

		{`{"frequency_penalty":2.1}`, "`frequency_penalty` must be >= -2.0 and <= 2.0"},
		{`{"presence_penalty":-2.1}`, "`presence_penalty` must be >= -2.0 and <= 2.0"},
		{`{"min_p":-0.1}`, "`min_p` must be >= 0.0 and <= 1.0"},
		{`{"min_new_tokens":21}`, "`min_new_tokens` must be <= `max_new_tokens`. Given: 21 `min_new_tokens` and 20 `max_new_tokens`"},
		{`{"exponential_decay_length_penalty":[1,0.9]}`, "`exponential_decay_length_penalty` must have a factor >= 1.0"},
		{`{"exponential_decay_length_penalty":[1,1e300]}`, "`exponential_decay_length_penalty` must have a factor >= 1.0"},
		{`{"allowed_token_ids":[10]}`, "allowed token ids: token id 10 is outside the vocabulary of 10"},
		{`{"logit_bias":{"1":1,"1":2}}`, "logit bias: token id 1 is given twice"},
		{`{"logit_bias":{"10":1}}`, "logit bias: token id 10 is outside the vocabulary of 10"},
	} {
		body, err := decode([]byte(`{"inputs":"x","parameters":`+c.parameters+`}`), form{version: versions[Form094]})
		got := ""
		if err != nil {
			got = err.Error()
		} else if err := d.validateParameters(body, 1); err != nil {
			got = err.Message
		} else if err := body.Parameters.Extensions.validate(10, *body.Parameters.MaxNewTokens); err != nil {
			got = err.Message
		}
		if got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.parameters, got, c.want)
		}
	}
}

func TestSamplingOfParameters(t *testing.T) {
	for _, c := range []struct {
		parameters string
		want       protocol.Sampling
	}{
		{`{"watermark":true}`, protocol.Sampling{WatermarkGamma: 0.5, WatermarkDelta: 2}},
		{`{"min_p":0.5,"seed":3}`, protocol.Sampling{Sample: true, Seed: 3, MinP: 0.5}},
		{`{"min_p":0,"seed":3}`, protocol.Sampling{}},
		{`{"frequency_penalty":1,"temperature":0.5,"top_k":3,"top_p":0.25,"typical_p":0.75,"repetition_penalty":1.5,"seed":3}`,
			protocol.Sampling{
				Sample: true, Seed: 3, RelativeFrequencyPenalty: 1, Temperature: 0.5, TopK: 3, TopP: 0.25, TypicalP: 0.75,
				RepetitionPenalty: 1.5}},
	} {
		body, err := decode([]byte(`{"inputs":"x","parameters":`+c.parameters+`}`), form{version: versions[Form094]})
		if err != nil {
			t.Fatal(err)
		}
		if got := resolveSampling(&body.Parameters); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.parameters, got, c.want)
		}
	}
}

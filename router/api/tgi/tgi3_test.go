package tgi

import (
	"testing"

	"lockstep/protocol"
	"lockstep/router/api/answer"
	"lockstep/router/request"
)

func TestBodiesOfTGI3(t *testing.T) {
	const doesNotMatch = "data did not match any variant of untagged enum SagemakerRequest"
	for _, c := range []struct {
		form       form
		body, want string
	}{
		{form{}, `{"inputs":"x","parameters":{"max_new_tokens":null,"frequency_penalty":null,"top_n_tokens":null,"grammar":null,` +
			`"adapter_id":null}}`, ""},
		{form{}, `{"inputs":"x","parameters":{"top_n_tokens":-1}}`,
			"parameters.top_n_tokens: invalid value: integer `-1`, expected u32 at line 1 column 45"},
		{form{}, `{"inputs":"x","parameters":{"frequency_penalty":"1"}}`,
			"parameters.frequency_penalty: invalid type: string \"1\", expected f32 at line 1 column 51"},
		{form{}, `{"inputs":"x","parameters":{"frequency_penalty":1,"frequency_penalty":1}}`,
			"parameters: duplicate field `frequency_penalty` at line 1 column 69"},
		{form{}, `{"inputs":"x","parameters":{"adapter_id":1}}`,
			"parameters.adapter_id: invalid type: integer `1`, expected a string at line 1 column 42"},
		{form{}, `["x",[1,null,null,0.5,null,null,null,true,null,null,[],null,false,false,false,7,5,null,null]]`, ""},
		{form{}, `["x",[1,null,null,0.5,null,null,null,null]]`, "[1][7]: invalid type: null, expected a boolean at line 1 column 41"},

		{form{}, `{"inputs":"x","parameters":{"grammar":{"type":"json","value":{"properties":{}}}}}`, ""},
		{form{}, `{"inputs":"x","parameters":{"grammar":{"value":7,"type":"regex"}}}`, ""},
		{form{}, `{"inputs":"x","parameters":{"grammar":{"type":"json_schema","value":{"schema":{},"name":null,"strict":true}}}}`, ""},
		{form{}, `{"inputs":"x","parameters":{"grammar":{"type":"json_object"}}}`,
			"parameters.grammar: missing field `value` at line 1 column 60"},
		{form{}, `{"inputs":"x","parameters":{"grammar":{"type":"text"}}}`,
			"parameters.grammar.type: unknown variant `text`, expected one of `json`, `json_object`, `regex`, `json_schema` at line 1 " +
				"column 52"},
		{form{}, `{"inputs":"x","parameters":{"grammar":{"type":"regex","value":7}}}`,
			"parameters.grammar.value: invalid type: integer `7`, expected a string at line 1 column 63"},
		{form{}, `{"inputs":"x","parameters":{"grammar":"json"}}`,
			"parameters.grammar: invalid type: string \"json\", expected adjacently tagged enum GrammarType at line 1 column 44"},

		{form{compat: true, untagged: true}, `{"inputs":"x","stream":true}`, ""},
		{form{compat: true, untagged: true}, `{"messages":[]}`, doesNotMatch},
		{form{compat: true, untagged: true}, `{"inputs":7,"stream":true}`, doesNotMatch},
		{form{compat: true, untagged: true}, `{"inputs":7,"stream":tru}`, "expected ident at line 1 column 25"},
	} {
		c.form.version = versions[Form3]
		_, err := decode([]byte(c.body), c.form)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.body, got, c.want)
		}
	}
}

// Without any parameters TGI 3 samples; with an empty object of them it does not.
func TestDefaultsOfTGI3(t *testing.T) {
	for body, sample := range map[string]bool{
		`{"inputs":"x"}`: true, `["x"]`: true, `{"inputs":"x","parameters":{}}`: false, `["x",[]]`: false,
		`{"inputs":"x","parameters":{"do_sample":true}}`: true,
	} {
		got, err := decode([]byte(body), form{version: versions[Form3]})
		if err != nil {
			t.Fatal(err)
		}
		if p := &got.Parameters; p.DoSample != sample || p.MaxNewTokens != nil {
			t.Errorf("%s: do_sample %t, max_new_tokens %v", body, p.DoSample, p.MaxNewTokens)
		}
	}
}

func TestValidationOfTGI3(t *testing.T) {
	d := New(Config{Form: Form3, Limits: request.DefaultLimits()}, nil)
	model := &answer.Model{MaxTotalTokens: 12, MaxInputLength: 11}
	for parameters, want := range map[string]string{
		`{"frequency_penalty":-2.5,"top_p":7}`:                      "`frequency_penalty` must be >= -2.0 and <= 2.0",
		`{"frequency_penalty":3,"repetition_penalty":0}`:            "`repetition_penalty` must be strictly positive",
		`{"frequency_penalty":2,"max_new_tokens":0}`:                "`max_new_tokens` must be strictly positive",
		`{"top_n_tokens":6,"stop":["a","b","c","d","e"]}`:           "`stop` supports up to 4 stop sequences. Given: 5",
		`{"top_n_tokens":6,"grammar":{"type":"regex","value":"a"}}`: "`top_n_tokens` must be >= 0 and <= 5. Given: 6",
		`{"top_n_tokens":0,"grammar":{"type":"regex","value":"a"}}`: "",
		`{"top_n_tokens":5,"adapter_id":"mine"}`:                    "`adapter_id` is not supported",
		`{"max_new_tokens":11,"grammar":{"type":"regex","value":"a"}}`: "`inputs` tokens + `max_new_tokens` must be <= 12. Given: " +
			"2 `inputs` tokens and 11 `max_new_tokens`",
		`{"top_n_tokens":5,"frequency_penalty":-2,"max_new_tokens":10}`:    "",
		`{"top_n_tokens":null,"frequency_penalty":null,"adapter_id":null}`: "",
	} {
		body, err := decode([]byte(`{"inputs":"x","parameters":`+parameters+`}`), form{version: versions[Form3]})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		p, newTokens := &body.Parameters, uint64(10)
		if p.MaxNewTokens != nil {
			newTokens = *p.MaxNewTokens
		}
		if err := d.validateParameters(body, 1); err != nil {
			got = err.Message
		} else if err := validateLength(model, p, 2, newTokens); err != nil {
			got = err.Message
		} else if err := validateAdapter(model, p); err != nil {
			got = err.Message
		}
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", parameters, got, want)
		}
	}
}

func TestAnswersOfTGI3(t *testing.T) {
	of := func(id int32) []answer.Token {
		return []answer.Token{{ID: id, Text: "a", Logprob: -1,
			Top: []answer.Token{{ID: id, Text: "a", Logprob: -1}, {ID: 9, Text: "<e>", Logprob: -2, Special: true}}}}
	}
	winner := &answer.Generation{Text: "a", Finish: protocol.FinishLength, Sampling: protocol.Sampling{Sample: true, Seed: 3},
		PromptTokens: 4, Tokens: of(1)}
	loser := &answer.Generation{Text: "a", Finish: protocol.FinishLength, Tokens: of(2)}
	const first, second = `{"id":1,"text":"a","logprob":-1.0,"special":false}`, `{"id":2,"text":"a","logprob":-1.0,"special":false}`
	const other = `{"id":9,"text":"<e>","logprob":-2.0,"special":true}`
	want := `{"generated_text":"a","details":{"finish_reason":"length","generated_tokens":1,"seed":3,"prefill":[],"tokens":[` + first +
		`],` +
		`"best_of_sequences":[{"generated_text":"a","finish_reason":"length","generated_tokens":1,"seed":null,"prefill":[],"tokens":[` +
		second + `],` +
		`"top_tokens":[[` + second + `,` + other + `]]}],"top_tokens":[[` + first + `,` + other + `]]}}`
	if got := string(appendGeneration(nil, winner, []*answer.Generation{loser}, true)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want = `data: {"index":1,"token":` + first + `,"top_tokens":[` + first + `,` + other + `],"generated_text":"a",` +
		`"details":{"finish_reason":"length","generated_tokens":1,"seed":3,"input_length":4}}` + "\n\n"
	if got := string(appendEvent(nil, &winner.Tokens[0], winner, 1, form{version: versions[Form3]}, true)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

package tgi

import (
	"fmt"
	"strings"
	"testing"

	"lockstep/router/api/answer"
	"lockstep/router/request"
)

func TestBodies(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"inputs":"x","parameters":{"stop":["a","b"],"seed":3,"top_k":-4}}`, ""},
		{`["x",[null,0.5]]`, ""},
		{`{"inputs":"x","other":[1,{"a":[1e999,-0,"\u0041"]},true],"parameters":{}}}}`, ""},
		{`{"inputs":"x",}`, "trailing comma at line 1 column 15"},
		{`{"inputs" "x"}`, "inputs: expected `:` at line 1 column 11"},
		{`{"inputs":"x" "y":1}`, "expected `,` or `}` at line 1 column 15"},
		{`{"inputs":"x","parameters":{"stop":["a",1]}}`,
			"parameters.stop[1]: invalid type: integer `1`, expected a string at line 1 column 41"},
		{`{"inputs":"x","parameters":{"stop":["a"}}`, "parameters.stop[1]: expected `,` or `]` at line 1 column 40"},
		{`["x",{},1]`, "trailing characters at line 1 column 9"},
		{`{"inputs":tru}`, "inputs: expected ident at line 1 column 14"},
		{`{"inputs":-}`, "inputs: invalid number at line 1 column 12"},
		{`{"inputs":"\ud83d\ude00"}`, ""},
		{`{"inputs":"\ude00"}`, "inputs: lone leading surrogate in hex escape at line 1 column 17"},
		{`{"inputs":"\u00g0"}`, "inputs: invalid escape at line 1 column 16"},
		{"{\"inputs\":\"a\",\n\"parameters\":\n {\"seed\":-1}}",
			"parameters.seed: invalid value: integer `-1`, expected u64 at line 3 column 11"},
		{`{"inputs":"x","parameters":{"temperature":1e39}}`, ""},
		{`{"inputs":"x","extra":[1,}`, "extra: expected value at line 1 column 26"},
	} {
		_, err := decode([]byte(c.body), form{version: versions[Form094]})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.body, got, c.want)
		}
	}
}

func TestDeepBodiesDoNotRecurse(t *testing.T) {
	deep := `{"inputs":"x","y":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + "}"
	if _, err := decode([]byte(deep), form{version: versions[Form094]}); err != nil {
		t.Fatal(err)
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"inputs":"x","parameters":{"stop":["a"],"seed":3,"top_p":0.5}}`))
	f.Add([]byte(`["a",[1,2.5,null],true] x`))
	f.Add([]byte(`{"inputs":"x","parameters":{"grammar":{"type":"json_schema","value":{"schema":{}}},"top_n_tokens":2}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, f := range []form{{version: versions[Form094], compat: true}, {version: versions[Form3]},
			{version: versions[Form3], compat: true, untagged: true}} {
			body, err := decode(data, f)
			if (body == nil) == (err == nil) {
				t.Fatalf("got %v and %v", body, err)
			}
		}
	})
}

func TestEventsAllocateLittle(t *testing.T) {
	one := answer.Token{ID: 5, Text: " word", Logprob: -1.25}
	buffer := make([]byte, 0, 256)
	if got := testing.AllocsPerRun(100, func() {
		buffer = appendEvent(buffer[:0], &one, nil, 1, form{version: versions[Form094]},
			false)
	}); got > 0 {
		t.Errorf("got %v allocations, want none", got)
	}
	want := `data:{"token":{"id":5,"text":" word","logprob":-1.25,"special":false},"generated_text":null,"details":null}` + "\n\n"
	if fmt.Sprint(string(buffer)) != want {
		t.Errorf("got %s", buffer)
	}
}

// Every refusal that is answered has a status.
func TestEveryClassHasAStatus(t *testing.T) {
	for class := request.Validation; class < request.Left; class++ {
		if status := outcomes[class].status; status < 400 || status > 599 {
			t.Errorf("class %d has the status %d", class, status)
		}
	}
}

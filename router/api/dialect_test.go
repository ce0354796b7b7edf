package api

import (
	"os"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/text"
)

// The examples of the replaced servers' manuals, and what lies between them.
func TestDetectBody(t *testing.T) {
	for body, want := range map[string]Dialect{
		`{"inputs":"My name is Olivier and I","parameters":{"decoder_input_details":true,"details":true,"stop":null,"adapter_id":"None"}}`: MindIE,
		`{"inputs":"a","fullTextEnabled":true}`: MindIE,
		`{"inputs":"What is AI?","parameters":{"max_new_tokens":17,"frequency_penalty":1},"multimodal_params":{}}`: LightLLM,
		`{"inputs":"a","parameters":{"frequency_penalty":1}}`:                                                      LightLLM,
		`{"inputs":[1,2,3],"parameters":{}}`:                                                                       LightLLM,
		`{"inputs":"a","parameters":{"ignore_eos":true}}`:                                                          LightLLM,
		`{"inputs":"a","parameters":{"frequency_penalty":1,"details":true}}`:                                       TGI,
		`{"inputs":"a","parameters":{"stop":["x"],"ignore_eos":true}}`:                                             TGI,
		`{"inputs":"a","parameters":{"adapter_id":"lora","details":true}}`:                                         TGI,
		`{"inputs":"a","parameters":{"max_new_tokens":5,"temperature":0.5}}`:                                       "",
		`{"inputs":"a"}`:                          "",
		`{"inputs":["a","b"]}`:                    "",
		`{"inputs":[],"parameters":{}}`:           "",
		`{"inputs":[[1]],"parameters":{}}`:        "",
		`{"inputs":[null]}`:                       "",
		`{"inputs":{"a":1}}`:                      "",
		`{"inputs":[ 1],"parameters":{}}`:         LightLLM,
		`{"inputs":[{"type":"text","text":"a"}]}`: MindIE,
		`{"inputs":"a","parameters":{"details":`:  "",
		`[1]`:                                     "", `"a"`: "", ``: "",
		`{"inputs":"{\"parameters\":{\"details\":1}}"}`: "",
	} {
		s := &Server{config: Config{DefaultDialect: TGI}}
		if got := s.detectBody([]byte(body)); got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
	s := &Server{config: Config{DefaultDialect: TGI, TGIVersion: TGI3}}
	if got := s.detectBody([]byte(`{"inputs":"a","parameters":{"frequency_penalty":1}}`)); got != "" {
		t.Errorf("with TGI 3, which has frequency_penalty: got %q", got)
	}
	s = &Server{config: Config{DefaultDialect: MindIE}}
	if got := s.detectBody([]byte(`{"inputs":"a","parameters":{"details":true}}`)); got != MindIE {
		t.Errorf("with MindIE as default: got %q", got)
	}
}

// Behind a prompt of four tokens TGI shows nothing of a character that several tokens make up; other dialects show it.
func TestOnlyTGIStreamsAsTGI(t *testing.T) {
	data, err := os.ReadFile("../../launcher/demo/model/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	tokenizer, err := text.New(protocol.TokenizerSource{HuggingFace: data})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tokenizer.Encode("👩", false)
	if err != nil || len(ids) < 2 {
		t.Fatalf("got %v, %v: the test needs a character of several tokens", ids, err)
	}
	for asTGI, want := range map[bool]string{true: "", false: "👩"} {
		stream := (&runOptions{asTGI: asTGI}).stream(&Model{Tokenizer: tokenizer}, []int32{1036, 534, 341, 286})
		got := ""
		for _, id := range ids {
			got += stream.Next(id)
		}
		if got != want {
			t.Errorf("as TGI %v: got %q, want %q", asTGI, got, want)
		}
	}
}

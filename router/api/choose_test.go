package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lockstep/router/api/lightllm"
	"lockstep/router/api/mindie"
	"lockstep/router/api/tgi"
	"lockstep/router/api/wire"
)

// The examples of the replaced servers' manuals, and what lies between them.
func TestDetectBody(t *testing.T) {
	for body, want := range map[string]string{
		`{"inputs":"My name is Olivier and I","parameters":{"decoder_input_details":true,"details":true,"stop":null,` +
			`"adapter_id":"None"}}`: mindie.Name,
		`{"inputs":"a","fullTextEnabled":true}`: mindie.Name,
		`{"inputs":"What is AI?","parameters":{"max_new_tokens":17,"frequency_penalty":1},"multimodal_params":{}}`: lightllm.Name,
		`{"inputs":"a","parameters":{"frequency_penalty":1}}`:                                                      lightllm.Name,
		`{"inputs":"a","parameters":{},"lora_dir":"b"}`:                                                            lightllm.Name,
		`{"inputs":[1,2,3],"parameters":{}}`:                                                                       lightllm.Name,
		`{"inputs":"a","parameters":{"ignore_eos":true}}`:                                                          lightllm.Name,
		`{"inputs":"a","parameters":{"frequency_penalty":1,"details":true}}`:                                       tgi.Name,
		`{"inputs":"a","parameters":{"stop":["x"],"ignore_eos":true}}`:                                             tgi.Name,
		`{"inputs":"a","parameters":{"adapter_id":"lora","details":true}}`:                                         tgi.Name,
		`{"inputs":"a","parameters":{"max_new_tokens":5,"temperature":0.5}}`:                                       "",
		`{"inputs":"a"}`:                          "",
		`{"inputs":["a","b"]}`:                    "",
		`{"inputs":[],"parameters":{}}`:           "",
		`{"inputs":[[1]],"parameters":{}}`:        "",
		`{"inputs":[null]}`:                       "",
		`{"inputs":{"a":1}}`:                      "",
		`{"inputs":[ 1],"parameters":{}}`:         lightllm.Name,
		`{"inputs":[{"type":"text","text":"a"}]}`: mindie.Name,
		`{"inputs":"a","parameters":{"details":`:  "",
		`[1]`:                                     "", `"a"`: "", ``: "",
		`{"inputs":"{\"parameters\":{\"details\":1}}"}`: "",
	} {
		if got := newTestServer(Config{DefaultDialect: tgi.Name}).claim(body); got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
	if got := newTestServer(Config{DefaultDialect: tgi.Name,
		TGIVersion: tgi.Form3}).claim(`{"inputs":"a","parameters":{"frequency_penalty":1}}`); got != "" {
		t.Errorf("with TGI 3, which has frequency_penalty: got %q", got)
	}
	if got := newTestServer(Config{DefaultDialect: mindie.Name}).claim(`{"inputs":"a","parameters":{"details":true}}`); got != mindie.Name {
		t.Errorf("with MindIE as default: got %q", got)
	}
}

// A body that breaks off is refused in the words of the dialect that its members, as far as they go, speak for.
func TestBrokenBodyIsItsDialects(t *testing.T) {
	for body, want := range map[string]string{
		`{"inputs":"a","parameters":{"ignore_eos":true}} x`: lightllm.Name,
		`{"inputs":"a","fullTextEnabled":true,`:             mindie.Name,
		`{"inputs":"a"`:                                     tgi.Name,
	} {
		s := newTestServer(Config{Dialect: Auto, DefaultDialect: tgi.Name})
		s.answers.Bodies = wire.NewBodies(1<<10, 1)
		r := httptest.NewRequest(http.MethodPost, "/generate", strings.NewReader(body))
		if got := s.choose(Auto, &wire.Exchange{ResponseWriter: httptest.NewRecorder()}, r); got.Name != want {
			t.Errorf("%s: got %q, want %q", body, got.Name, want)
		}
	}
}

// claim is the dialect that a body speaks for, "" for none.
func (s *Server) claim(body string) string {
	top, _ := wire.Members([]byte(body))
	if claimant, claim := s.claimant(s.surfaces, top); claim != wire.NoClaim {
		return claimant.Name
	}
	return ""
}

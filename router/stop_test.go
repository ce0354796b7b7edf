package router_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/router"
	"lockstep/router/fleettest"
)

// monotone is a card of a model that always answers with the token "ab hello", the incomplete "END" and the first byte of
// a character, or the special "<stop me>".
func monotone() protocol.ModelCard {
	return protocol.ModelCard{
		ModelID: "monotone", DataType: "torch.float32", DeviceType: "cpu", NumericsID: "test", VocabularySize: 5,
		Tokenizer: protocol.TokenizerSource{HuggingFace: json.RawMessage(`{
			"model":{"vocab":{"a":0,"abĠhello":1,"ENDä":2,"END":4},"merges":[]},
			"added_tokens":[{"id":3,"content":"<stop me>","special":true}],
			"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}}`)},
	}
}

// A stop string may end anywhere in a token: the text ends there, the tokens are whole.
func TestStopStrings(t *testing.T) {
	for _, c := range []struct {
		token        int32
		maxNewTokens int
		stop         string
		text, finish string
		tokens       []string
	}{
		{1, 9, "ell", "ab hell", "stop_sequence", []string{"ab hello"}},
		{1, 9, "hello", "ab hello", "stop_sequence", []string{"ab hello"}},
		{1, 9, "oab", "ab helloab", "stop_sequence", []string{"ab hello", "ab hello"}},
		{1, 9, "", "ab hello", "stop_sequence", []string{"ab hello"}},
		{1, 2, "oab", "ab helloab hello", "length", []string{"ab hello", "ab hello"}},
		{1, 2, "x", "ab helloab hello", "length", []string{"ab hello", "ab hello"}},
		{2, 9, "ND", "END", "stop_sequence", []string{"END"}},
		{2, 9, "EN", "EN", "stop_sequence", []string{"END"}},
		{2, 3, "x", "END\ufffdEND\ufffdEND\ufffd", "length", []string{"", "", ""}},
		{3, 9, "stop", "", "stop_sequence", []string{"<stop me>"}},
	} {
		natsURL := startNATS(t)
		startGroup(t, natsURL, fleettest.Options{Card: monotone(), Tokens: []int32{c.token}})
		url, _ := startRouter(t, natsURL, router.Config{})
		request := fmt.Sprintf(`{"inputs":"aaaaaaaa","parameters":{"max_new_tokens":%d,"stop":[%q],"details":true}}`, c.maxNewTokens, c.stop)
		_, answer := post(t, url+"/generate", request)
		var got struct {
			Text    string `json:"generated_text"`
			Details struct {
				Finish string `json:"finish_reason"`
				Tokens []struct{ Text string }
			}
		}
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%v: %s", err, answer)
		}
		var tokens []string
		for _, token := range got.Details.Tokens {
			tokens = append(tokens, token.Text)
		}
		if got.Text != c.text || got.Details.Finish != c.finish || !slices.Equal(tokens, c.tokens) {
			t.Errorf("%q of token %d: got %q, %s, %q, want %q, %s, %q", c.stop, c.token, got.Text, got.Details.Finish, tokens, c.text, c.finish, c.tokens)
		}
		next, _ := stream(t, url, request)
		var last event
		for e, ok := next(); ok; e, ok = next() {
			last = e
		}
		if last.GeneratedText == nil || *last.GeneratedText != c.text {
			t.Errorf("%q of token %d: the stream's text is %+v, want %q", c.stop, c.token, last, c.text)
		}
	}
}

// Who is not done when the time to drain is over gets an error of his dialect, and the caller of Run too.
func TestDrainThatEndsTooSoon(t *testing.T) {
	natsURL := startNATS(t)
	group := startGroup(t, natsURL, fleettest.Options{})
	url, stop := startRouter(t, natsURL, router.Config{GracefulTerminationTimeout: 0.2})
	next, _ := stream(t, url, body("to be cut off", 400))
	if _, ok := next(); !ok {
		t.Fatal("the stream does not begin")
	}
	group.Stall(true)
	if err := stop(); err == nil {
		t.Error("the router says that all is well")
	}
	var last event
	for e, ok := next(); ok; e, ok = next() {
		last = e
	}
	if last.Error == "" || last.GeneratedText != nil {
		t.Errorf("the stream's last event is %+v, want an error", last)
	}
}

package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// chatAnswer is what a client of OpenAI's routes keeps of an answer: all that must be the same however it comes.
type chatAnswer struct {
	choices [4]struct{ text, finish, tokens, records, spelled, logprobs string }
	usage   string
}

// chatPart is an answer in one body, or a chunk of one.
type chatPart struct {
	Choices []struct {
		Index          int
		Message, Delta struct{ Content string }
		Text           string
		Finish         *string           `json:"finish_reason"`
		TokenIDs       []json.RawMessage `json:"token_ids"`
		Logprobs       *struct {
			Content []json.RawMessage
			Tokens  []json.RawMessage
			Values  []json.RawMessage `json:"token_logprobs"`
		}
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	}
	Error json.RawMessage
}

func (a *chatAnswer) add(data string) error {
	var part chatPart
	if err := json.Unmarshal([]byte(data), &part); err != nil || part.Error != nil {
		return fmt.Errorf("%s: %w", data, err)
	}
	for _, c := range part.Choices {
		into := &a.choices[c.Index]
		into.text += c.Message.Content + c.Delta.Content + c.Text
		for _, id := range c.TokenIDs {
			into.tokens += string(id) + " "
		}
		if c.Finish != nil {
			into.finish += *c.Finish
		}
		if l := c.Logprobs; l != nil {
			for list, values := range map[*string][]json.RawMessage{&into.records: l.Content, &into.spelled: l.Tokens,
				&into.logprobs: l.Values} {
				for _, value := range values {
					*list += string(value) + " "
				}
			}
		}
	}
	if part.Usage != nil {
		a.usage = fmt.Sprint(*part.Usage)
	}
	return nil
}

// askOpenAI sends a body, which ends with a brace, and returns the answer; received is called for every chunk of a stream.
func (s *server) askOpenAI(path, body string, stream bool, received func() error) (*chatAnswer, error) {
	if stream {
		body = strings.TrimSuffix(body, "}") + `,"stream":true,"stream_options":{"include_usage":true}}`
	}
	response, err := http.Post(s.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a := &chatAnswer{}
	if !stream {
		data, err := io.ReadAll(response.Body)
		if err != nil {
			return nil, err
		}
		return a, a.add(string(data))
	}
	return a, eachEvent(response.Body, func(data string) error {
		if err := a.add(data); err != nil {
			return err
		}
		return received()
	})
}

// eachEvent reads a stream of OpenAI's to its end.
func eachEvent(body io.Reader, event func(data string) error) error {
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case !ok:
		case data == "[DONE]":
			return nil
		default:
			if err := event(data); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("the stream broke off: %w", lines.Err())
}

// Chats and completions of all kinds are answered alone, then all at once, streamed or not, while shards are killed: the
// same texts, tokens, log-probabilities, ends and usage come back.
func TestOpenAIAnswersOutliveKills(t *testing.T) {
	s := serveDemo(t)
	random := rand.New(rand.NewPCG(6, 6))
	type ask struct {
		path, body string
		want       *chatAnswer
	}
	var asks []ask
	for i := range 18 {
		text, _ := json.Marshal(randomText(random, 3+random.IntN(20)))
		path, body := "/v1/completions", fmt.Sprintf(`{"prompt":[%s,"Once upon a time"],"logprobs":2,"echo":%t`, text, i%4 == 1)
		if i%2 == 0 {
			path, body = "/v1/chat/completions",
				fmt.Sprintf(`{"messages":[{"role":"user","content":%s}],"logprobs":true,"top_logprobs":%d`, text, i%3)
		}
		body += fmt.Sprintf(`,"n":%d,"max_tokens":%d,"seed":%d,"temperature":%.1f,"return_token_ids":true,"ignore_eos":%t,"stop":["ith","\n\n","the b"]}`,
			1+i%2, 40+random.IntN(60), i, []float64{0, 0.7, 1.3}[i%3], i%5 == 0)
		want, err := s.askOpenAI(path, body, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		asks = append(asks, ask{path, body, want})
	}
	var mutex sync.Mutex
	chunks, kills := 0, 0
	kill := func() error {
		mutex.Lock()
		defer mutex.Unlock()
		if chunks++; chunks%250 == 0 && kills < 3 {
			if ranks := s.ranks(); len(ranks) > 0 {
				kills++
				return syscall.Kill(ranks[kills%len(ranks)], syscall.SIGKILL)
			}
		}
		return nil
	}
	var clients sync.WaitGroup
	for i, a := range asks {
		clients.Go(func() {
			got, err := s.askOpenAI(a.path, a.body, i%6 != 0, kill)
			if err != nil {
				t.Errorf("%s %s: %v", a.path, a.body, err)
			} else if *got != *a.want {
				t.Errorf("%s %s:\ngot  %+v\nwant %+v", a.path, a.body, *got, *a.want)
			}
		})
	}
	clients.Wait()
	if kills == 0 {
		t.Errorf("%d chunks, and nothing was killed", chunks)
	}
}

// What the model says of tokens is the same whether it has just generated them or is asked about them as a prompt.
func TestEchoTellsWhatGenerationTold(t *testing.T) {
	s := serveDemo(t)
	ask := func(body string) (ids []int32, logprobs []float32, top []map[string]float32) {
		response, err := http.Post(s.url+"/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var answer struct {
			Choices []struct {
				Prompt   []int32 `json:"prompt_token_ids"`
				Tokens   []int32 `json:"token_ids"`
				Logprobs struct {
					Values []float32            `json:"token_logprobs"`
					Top    []map[string]float32 `json:"top_logprobs"`
				}
			}
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || len(answer.Choices) != 1 {
			t.Fatalf("%s: %s, %v", body, response.Status, err)
		}
		c := answer.Choices[0]
		return append(c.Prompt, c.Tokens...), c.Logprobs.Values, c.Logprobs.Top
	}
	ids, logprobs, top := ask(`{"prompt":"Once upon a time","max_tokens":24,"temperature":0,"logprobs":4,"return_token_ids":true}`)
	prompt, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	_, echoed, echoedTop := ask(fmt.Sprintf(`{"prompt":%s,"max_tokens":0,"temperature":0,"logprobs":4,"echo":true}`, prompt))
	if len(echoed) != len(ids) || len(logprobs) != 24 {
		t.Fatalf("%d and %d log-probabilities for %d tokens", len(logprobs), len(echoed), len(ids))
	}
	first := len(ids) - len(logprobs)
	if !slices.Equal(echoed[first:], logprobs) || !reflect.DeepEqual(echoedTop[first:], top) {
		t.Errorf("generated %v %v\nechoed    %v %v", logprobs, top, echoed[first:], echoedTop[first:])
	}
}

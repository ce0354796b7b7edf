package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"

	"lockstep/protocol/text"
	"lockstep/scripts/serving"
	"lockstep/shard/weights"
)

// ownTokens at the begin of a prompt are random, so that no two prompts begin alike.
const ownTokens = 8

// prompts makes prompts of a text's tokens.
type prompts struct {
	text  []int32
	tasks map[string][]int32 // of each of tasks
}

// tasks are what a model is asked, by how much of the answer stands in the question. %s is a part of the text.
var tasks = map[string]string{
	"copy":  "Repeat this text exactly:\n%s",
	"edit":  "Repeat this text exactly, but in capital letters where a sentence begins:\n%s",
	"code":  "Write a Python class for a stack with push, pop and peek, and a second one for a queue.",
	"prose": "Write a short story about a fisherman who finds a bottle.",
}

// copiedBytes of the text are a task's part of it.
const copiedBytes = 700

func newPrompts(model, path string) (prompts, error) {
	files, err := weights.Open(model)
	if err != nil {
		return prompts{}, fmt.Errorf("%w (scripts/get-model brings it)", err)
	}
	defer files.Close()
	content, err := os.ReadFile(path)
	if err != nil {
		return prompts{}, err
	}
	tokenizer, err := text.New(files.Tokenizer)
	if err != nil {
		return prompts{}, err
	}
	if len(content) < copiedBytes {
		return prompts{}, fmt.Errorf("%s is too short to make prompts of", path)
	}
	p := prompts{tasks: map[string][]int32{}}
	if p.text, err = tokenizer.Encode(string(content), false); err != nil {
		return prompts{}, err
	}
	for name, task := range tasks {
		chat := "<|im_start|>user\n" + task + "<|im_end|>\n<|im_start|>assistant\n"
		chat = strings.Replace(chat, "%s", strings.ToValidUTF8(string(content[:copiedBytes]), ""), 1)
		if p.tasks[name], err = tokenizer.Encode(chat, false); err != nil {
			return prompts{}, err
		}
	}
	return p, nil
}

// prompt is the one of a number: the same for every server, and unlike all others from its begin on.
func (p prompts) prompt(number uint64, tokens int) []int32 {
	random, ids := rand.New(rand.NewPCG(number, 1)), make([]int32, tokens)
	at := random.IntN(len(p.text))
	for i := range ids {
		ids[i] = p.text[(at+i)%len(p.text)]
		if i < ownTokens {
			ids[i] = p.text[random.IntN(len(p.text))]
		}
	}
	return ids
}

// answer is what a client saw of a completion.
type answer struct {
	first, whole time.Duration // until the first token and until the last
	tokens       int
}

// complete streams a greedy completion of OpenAI's interface, which all servers have.
func complete(ctx context.Context, server *serving.Server, prompt []int32, tokens int) (a answer, err error) {
	body, err := json.Marshal(map[string]any{"model": servedName, "prompt": prompt, "max_tokens": tokens, "temperature": 0,
		"ignore_eos": true, "stream": true, "stream_options": map[string]any{"include_usage": true}})
	if err != nil {
		return a, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Close = true // llama-server closes connections between requests, at times as the next one is sent
	begin := time.Now()
	response, err := server.Client.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return a, fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	if err := a.read(response.Body, begin); err != nil {
		return a, err
	}
	if a.tokens != tokens {
		return a, fmt.Errorf("%d tokens were generated, and %d asked for", a.tokens, tokens)
	}
	return a, nil
}

// read reads the events of a stream.
func (a *answer) read(stream io.Reader, begin time.Time) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if data = strings.TrimSpace(data); !ok || data == "[DONE]" {
			continue
		}
		var event struct {
			Choices []json.RawMessage `json:"choices"`
			Usage   *struct {
				Completion int `json:"completion_tokens"`
			} `json:"usage"`
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return fmt.Errorf("event %q: %w", data, err)
		}
		if event.Error != nil {
			return errors.New(data)
		}
		if len(event.Choices) > 0 {
			a.whole = time.Since(begin)
			if a.first == 0 {
				a.first = a.whole
			}
		}
		if event.Usage != nil {
			a.tokens = event.Usage.Completion
		}
	}
	return lines.Err()
}

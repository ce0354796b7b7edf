package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/text"
)

// until waits for a state of the workers.
func until(t *testing.T, ws *workers, what string, state func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		ws.mu.Lock()
		is := state()
		ws.mu.Unlock()
		if is {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("this never became true: " + what)
		}
		<-tick.C
	}
}

// No client's long work takes all workers; short work is taken in its order, and who gives up leaves no trace.
func TestWorkersAreShared(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	ws, ctx := newWorkers(2), context.Background()
	first := &turn{client: a, long: true}
	if !ws.enter(ctx, first) {
		t.Fatal("no worker for the first")
	}
	second, entered := &turn{client: a, long: true}, make(chan bool, 1)
	go func() { entered <- ws.enter(ctx, second) }()
	until(t, ws, "the second of one client waits", func() bool { return ws.waiting.Len() == 1 && ws.free == 1 })
	other := &turn{client: b, long: true}
	if !ws.enter(ctx, other) {
		t.Fatal("no worker for another client")
	}
	ws.leave(other)
	short := &turn{client: a}
	if !ws.enter(ctx, short) {
		t.Fatal("no worker for short work")
	}
	gone, leave := context.WithCancel(ctx)
	leave()
	if ws.enter(gone, &turn{client: b, long: true}) {
		t.Error("one who has left got a worker")
	}
	ws.leave(first)
	if !<-entered {
		t.Error("no worker for the second")
	}
	ws.leave(second)
	ws.leave(short)
	if ws.free != 2 || len(ws.long) != 0 || ws.waiting.Len() != 0 {
		t.Errorf("at the end: %d free, %v busy, %d wait", ws.free, ws.long, ws.waiting.Len())
	}
}

// modelBackend serves one model.
type modelBackend struct {
	startingBackend
	model *Model
}

func (b modelBackend) Model() *Model { return b.model }

// A client that leaves while its text is tokenised by a quadratic pattern frees the worker.
func TestLeavingStopsTokenising(t *testing.T) {
	data, err := os.ReadFile("../../protocol/text/testdata/tiny.json")
	if err != nil {
		t.Fatal(err)
	}
	var source map[string]json.RawMessage
	if err := json.Unmarshal(data, &source); err != nil {
		t.Fatal(err)
	}
	source["pre_tokenizer"] = json.RawMessage(`{"type":"Split","behavior":"Isolated","invert":false,"pattern":{"Regex":"\\s+x|\\s"}}`)
	if data, err = json.Marshal(source); err != nil {
		t.Fatal(err)
	}
	tokenizer, err := text.New(protocol.TokenizerSource{HuggingFace: data})
	if err != nil {
		t.Fatal(err)
	}
	model := &Model{Card: &protocol.ModelCard{VocabularySize: tokenizer.VocabularySize()}, Tokenizer: tokenizer, MaxInputLength: 100, MaxTotalTokens: 200}
	var log bytes.Buffer
	s := New(Config{Dialect: Auto, DefaultDialect: TGI, Permits: 8, MaxBestOf: 2, PayloadLimit: 4 << 20, ValidationWorkers: 1},
		modelBackend{model: model}, NewMetrics(MetricsConfig{MaxInputLength: 1024, MaxTotalTokens: 2048}), zerolog.New(&log))
	hostile := strings.Repeat(" ", 1_000_000)
	for path, body := range map[string]string{
		"/tokenize": `{"inputs":"` + hostile + `"}`, "/openai/tokenize": `{"prompt":"` + hostile + `"}`, "/generate": `{"inputs":"` + hostile + `"}`,
		"/mindie/generate": `{"inputs":"` + hostile + `"}`, "/v1/completions": `{"prompt":"` + hostile + `"}`, "/tokens": `{"text":"` + hostile + `"}`,
	} {
		ctx, leave := context.WithCancel(context.Background())
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		aborted := make(chan bool, 1)
		go func() {
			defer func() { aborted <- recover() == http.ErrAbortHandler }()
			s.ServeHTTP(httptest.NewRecorder(), r)
		}()
		until(t, s.workers, path+": the worker is busy", func() bool { return s.workers.free == 0 })
		leave()
		if !<-aborted {
			t.Errorf("%s: an answer for nobody", path)
		}
		until(t, s.workers, path+": the worker is free", func() bool { return s.workers.free == 1 })
	}
	if strings.Count(log.String(), `"status":499`) != 6 || strings.Contains(log.String(), `"status":500`) {
		t.Errorf("the log has %s", log.String())
	}
}

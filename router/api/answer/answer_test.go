package answer

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router/request"
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

// Behind a prompt of four tokens nothing is shown of a character that several tokens make up where text depends on the prompt.
func TestStreamBehindShortPrompts(t *testing.T) {
	data, err := os.ReadFile("../../../launcher/demo/model/tokenizer.json")
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
	for behind, want := range map[bool]string{true: "", false: "👩"} {
		stream := (&Options{Behind: behind}).stream(&Model{Tokenizer: tokenizer}, []int32{1036, 534, 341, 286})
		got := ""
		for _, id := range ids {
			got += stream.Next(id)
		}
		if got != want {
			t.Errorf("behind %v: got %q, want %q", behind, got, want)
		}
	}
}

// A client that leaves while its text is tokenised by a quadratic pattern frees the worker.
func TestLeavingStopsTokenising(t *testing.T) {
	data, err := os.ReadFile("../../../protocol/text/testdata/tiny.json")
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
	s := &Service{workers: newWorkers(1)}
	ctx, leave := context.WithCancel(context.Background())
	refused := make(chan *request.Refusal, 1)
	go func() {
		_, refusal := s.Encode(ctx, &Model{Tokenizer: tokenizer}, strings.Repeat(" ", 1_000_000), true)
		refused <- refusal
	}()
	until(t, s.workers, "the worker is busy", func() bool { return s.workers.free == 0 })
	leave()
	if refusal := <-refused; refusal == nil || refusal.Class != request.Left {
		t.Errorf("got %v", refusal)
	}
	until(t, s.workers, "the worker is free", func() bool { return s.workers.free == 1 })
}

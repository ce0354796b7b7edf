package router_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router"
	"lockstep/router/fleettest"
)

var nopLog = zerolog.Nop()

var groupLimits = protocol.Limits{MaxSequenceTokens: 2048, CapacityTokens: 16384, BlockTokens: 16, MaxRequests: 256}

// startNATS runs a broker for the length of a test and returns its URL.
func startNATS(t testing.TB) string {
	t.Helper()
	broker := startBroker(t, -1)
	return broker.ClientURL()
}

// startBroker runs a broker at a port, or at any with -1.
func startBroker(t testing.TB, port int) *server.Server {
	t.Helper()
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, MaxPayload: protocol.MaxPayloadBytes, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go broker.Start()
	if !broker.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	t.Cleanup(func() {
		broker.Shutdown()
		broker.WaitForShutdown()
	})
	return broker
}

// demoTokenizer returns the tokenizer of the demo model.
func demoTokenizer(t testing.TB) json.RawMessage {
	t.Helper()
	data, err := os.ReadFile("../launcher/demo/model/tokenizer.json")
	if err != nil {
		t.Fatal(err) // it is part of the tree: a skip would hide every test of the router
	}
	return data
}

const chatTemplate = `{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}` +
	`{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// demoCard is the card of a model that answers with the words of words.
func demoCard(t testing.TB) (protocol.ModelCard, *text.Tokenizer, []int32) {
	t.Helper()
	card := protocol.ModelCard{
		ModelID: "demo", DataType: "torch.float32", DeviceType: "cpu", NumericsID: "test",
		Tokenizer: protocol.TokenizerSource{HuggingFace: demoTokenizer(t)},
		Chat:      protocol.ChatSource{Template: chatTemplate},
	}
	tokenizer, err := text.New(card.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	card.VocabularySize = tokenizer.VocabularySize()
	var words []int32
	for id := range int32(card.VocabularySize) {
		if word := tokenizer.Decode([]int32{id}, true); len(word) > 2 && strings.Trim(word, " abcdefghijklmnopqrstuvwxyz") == "" {
			words = append(words, id)
		}
	}
	if len(words) < 10 {
		t.Fatalf("the demo tokenizer has %d words", len(words))
	}
	return card, tokenizer, words
}

// startGroup runs a fake group for the length of a test.
func startGroup(t testing.TB, url string, options fleettest.Options) *fleettest.Group {
	t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if options.Name == "" {
		options.Name = "group-1"
	}
	if options.Limits == (protocol.Limits{}) {
		options.Limits = groupLimits
	}
	if options.Tokens == nil {
		options.Card, _, options.Tokens = demoCard(t)
	}
	group, err := fleettest.Start(conn, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		group.Kill(false)
		conn.Close()
	})
	return group
}

// startRouter runs a router until the test ends or stop is called, and waits until it can serve.
func startRouter(t testing.TB, natsURL string, config router.Config) (url string, stop func() error) {
	t.Helper()
	config.Name, config.NATSURLs, config.Hostname = "router-1", []string{natsURL}, "127.0.0.1"
	if config.MaxTotalTokens == 0 {
		config.MaxInputLength, config.MaxTotalTokens = 1024, 2048
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	log := zerolog.Nop()
	if testing.Verbose() {
		log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	}
	go func() { done <- router.Run(ctx, config, log, router.Signs{Ready: func(url string) { ready <- url }}) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { stop() })
	select {
	case url = <-ready:
	case err := <-done:
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("the router does not become ready")
	}
	return url, stop
}

// post sends a body and returns the answer.
func post(t testing.TB, url, body string) (status int, answer string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("this never became true: " + what)
		}
		<-tick.C
	}
}

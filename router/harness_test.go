package router_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/router"
	"lockstep/router/api/answertest"
	"lockstep/router/api/tgi"
)

const (
	chats       = "/v1/chat/completions"
	completions = "/v1/completions"
)

var nopLog = zerolog.Nop()

// startNATS runs a broker for the length of a test and returns its URL.
func startNATS(t testing.TB) string {
	t.Helper()
	broker := startBroker(t, -1)
	return broker.ClientURL()
}

// startBroker runs a broker at a port, or at any with -1.
func startBroker(t testing.TB, port int) *server.Server {
	t.Helper()
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, MaxPayload: protocol.MaxPayloadBytes, NoSigs: true,
		NoLog: true})
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

var defaults = router.DefaultConfig(tgi.Form094)

// settings are the defaults, changed.
func settings(change func(*router.Config)) router.Config {
	c := defaults
	change(&c)
	return c
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

// post and fetch ask a server.
var post, fetch = answertest.Post, answertest.Get

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

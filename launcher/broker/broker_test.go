package broker_test

import (
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/launcher/broker"
)

func open(t *testing.T, name, host, key string) *broker.Broker {
	t.Helper()
	b, err := broker.Open(broker.Config{Name: name, Host: host, Mesh: true, Key: key}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// crosses reports whether a message published at one server reaches a subscriber at the other.
func crosses(t *testing.T, from, to *broker.Broker) {
	t.Helper()
	connect := func(b *broker.Broker) *nats.Conn {
		connection, err := nats.Connect(b.URL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(connection.Close)
		return connection
	}
	source, sink := connect(from), connect(to)
	subscription, err := sink.SubscribeSync("probe")
	if err != nil {
		t.Fatal(err)
	}
	sink.Flush()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		source.Publish("probe", nil)
		if _, err := subscription.NextMsg(50 * time.Millisecond); err == nil {
			return
		}
	}
	t.Fatal("no message crossed the mesh")
}

func TestMeshAndComingBack(t *testing.T) {
	for _, key := range []string{"", "secret"} {
		first, second := open(t, "first", "127.0.0.2", key), open(t, "second", "127.0.0.3", key)
		route := func(b *broker.Broker, host string) string { return fmt.Sprintf("%s:%d", host, b.RoutePort()) }
		if err := first.Mesh([]string{route(second, "127.0.0.3")}); err != nil {
			t.Fatal(err)
		}
		crosses(t, first, second)
		second.Close()
		again := open(t, "second", "127.0.0.3", key)
		if err := first.Mesh([]string{route(again, "127.0.0.3")}); err != nil {
			t.Fatal(err)
		}
		crosses(t, first, again)
		crosses(t, again, first)
	}
}

func TestPasswordIsAskedFor(t *testing.T) {
	b := open(t, "closed", "127.0.0.1", "")
	address, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	if connection, err := nats.Connect("nats://" + address.Host); !errors.Is(err, nats.ErrAuthorization) {
		if err == nil {
			connection.Close()
		}
		t.Errorf("without a password: got %v", err)
	}
}

// Nodes come and go without the clients of others noticing.
func TestClientsSurviveNewRoutes(t *testing.T) {
	b := open(t, "steady", "127.0.0.2", "secret")
	disconnected := make(chan error, 8)
	connection, err := nats.Connect(b.URL(), nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { disconnected <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	for _, routes := range [][]string{{"127.0.0.3:1"}, {"127.0.0.3:1", "127.0.0.4:1"}, {}} {
		if err := b.Mesh(routes); err != nil {
			t.Fatal(err)
		}
		if err := connection.FlushTimeout(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if len(disconnected) > 0 {
		t.Errorf("a change of routes disconnected a client: %v", <-disconnected)
	}
}

func TestPortInUse(t *testing.T) {
	first := open(t, "first", "127.0.0.1", "")
	_, err := broker.Open(broker.Config{Name: "second", Host: "127.0.0.1", Port: first.RoutePort()}, zerolog.Nop())
	if err == nil {
		t.Fatal("opened a port in use")
	}
}

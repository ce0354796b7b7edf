package broker_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/launcher/broker"
	"lockstep/protocol"
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

// connect is a client of a broker in a role.
func connect(t *testing.T, b *broker.Broker, role protocol.Role, options ...nats.Option) *nats.Conn {
	t.Helper()
	identity := b.Identity(role)
	connection, err := nats.Connect(b.URL(), append(options, nats.Nkey(identity.NKey, identity.Sign))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	return connection
}

// crosses waits until a message published at one server reaches a subscriber at the other.
func crosses(t *testing.T, from *broker.Broker, name string, to *broker.Broker) {
	t.Helper()
	source, sink := connect(t, from, protocol.RoleGroup), connect(t, to, protocol.RoleRouter)
	subscription, err := sink.SubscribeSync(protocol.AnnounceSubjects)
	if err != nil {
		t.Fatal(err)
	}
	sink.Flush()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		source.Publish(protocol.AnnounceSubject(name), nil)
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
		crosses(t, first, "first", second)
		second.Close()
		again := open(t, "second", "127.0.0.3", key)
		if err := first.Mesh([]string{route(again, "127.0.0.3")}); err != nil {
			t.Fatal(err)
		}
		crosses(t, first, "first", again)
		crosses(t, again, "second", first)
	}
}

// Nobody gets in who does not prove to be a process of the node.
func TestStrangersAreRefused(t *testing.T) {
	b := open(t, "closed", "127.0.0.1", "")
	stranger := broker.Identity("another key", protocol.RoleRouter, "closed")
	elsewhere := broker.Identity("", protocol.RoleRouter, "closed")
	for name, options := range map[string][]nats.Option{
		"nothing": nil, "a token": {nats.Token("")}, "a user": {nats.UserInfo("lockstep", "lockstep")},
		"another key": {nats.Nkey(stranger.NKey, stranger.Sign)}, "an empty key": {nats.Nkey(elsewhere.NKey, elsewhere.Sign)},
	} {
		connection, err := nats.Connect(b.URL(), options...)
		if !errors.Is(err, nats.ErrAuthorization) {
			if err == nil {
				connection.Close()
			}
			t.Errorf("with %s: got %v", name, err)
		}
	}
}

// A role can say and hear what it must, and nothing else: a router cannot pass for a group, a launcher or another router,
// a group not for another group, and none of them hears what is meant for others.
func TestRolesKeepToTheirSubjects(t *testing.T) {
	const key = "a key of the tests"
	b := open(t, "here", "127.0.0.1", key)
	t.Run("embedded", func(t *testing.T) { keepToTheirSubjects(t, key, b.URL()) })
	t.Run("configured", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "nats.conf")
		if err := os.WriteFile(file, []byte("port: -1\nhost: 127.0.0.1\n"+broker.ServerConfiguration(key, []string{"there", "here"})),
			0o600); err != nil {
			t.Fatal(err)
		}
		options, err := server.ProcessConfigFile(file)
		if err != nil {
			t.Fatal(err)
		}
		options.NoSigs, options.NoLog = true, true
		s, err := server.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		defer s.Shutdown()
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("the server does not start")
		}
		keepToTheirSubjects(t, key, s.ClientURL())
	})
}

func keepToTheirSubjects(t *testing.T, key, url string) {
	t.Helper()
	own, other := protocol.GroupRef{Group: "here", Incarnation: 3}, protocol.GroupRef{Group: "there", Incarnation: 3}
	const router, foreign = "here.s1", "there.s1"
	subjects := map[string]struct{ publish, subscribe []protocol.Role }{
		protocol.AnnounceSubject("here"):           {publish: []protocol.Role{protocol.RoleGroup}},
		protocol.AnnounceSubject("there"):          {},
		protocol.AnnounceSubjects:                  {subscribe: []protocol.Role{protocol.RoleRouter, protocol.RoleWatcher}},
		protocol.DownSubject("here"):               {publish: []protocol.Role{protocol.RoleLauncher}},
		protocol.DownSubject("there"):              {},
		protocol.DownSubjects:                      {subscribe: []protocol.Role{protocol.RoleRouter, protocol.RoleWatcher}},
		protocol.FrameSubject(router, "here"):      {publish: []protocol.Role{protocol.RoleGroup}},
		protocol.FrameSubject(router, "there"):     {},
		protocol.FrameSubjects(router):             {subscribe: []protocol.Role{protocol.RoleRouter, protocol.RoleWatcher}},
		protocol.FrameSubjects(foreign):            {subscribe: []protocol.Role{protocol.RoleWatcher}},
		protocol.AliveSubject(router):              {publish: []protocol.Role{protocol.RoleRouter}},
		protocol.AliveSubject(foreign):             {},
		protocol.AliveSubjects:                     {subscribe: []protocol.Role{protocol.RoleGroup, protocol.RoleWatcher}},
		own.Dispatch(router):                       {publish: []protocol.Role{protocol.RoleRouter}},
		other.Cancel(router):                       {publish: []protocol.Role{protocol.RoleRouter}},
		other.Cancel(foreign):                      {},
		other.Replay(foreign):                      {},
		own.Dispatch(protocol.AnyRouter):           {subscribe: []protocol.Role{protocol.RoleGroup, protocol.RoleWatcher}},
		other.Dispatch(protocol.AnyRouter):         {subscribe: []protocol.Role{protocol.RoleWatcher}},
		protocol.ReplySubjects(router):             {subscribe: []protocol.Role{protocol.RoleRouter, protocol.RoleWatcher}},
		protocol.ReplySubjects(foreign):            {subscribe: []protocol.Role{protocol.RoleWatcher}},
		protocol.ReplySubject(router, "here", 1):   {publish: []protocol.Role{protocol.RoleGroup}},
		protocol.ReplySubject(foreign, "there", 1): {},
		"_INBOX.x":             {},
		"$SYS.REQ.SERVER.PING": {},
		"anything":             {},
	}
	for _, role := range []protocol.Role{protocol.RoleGroup, protocol.RoleRouter, protocol.RoleLauncher, protocol.RoleWatcher} {
		identity := broker.Identity(key, role, "here")
		if role == protocol.RoleWatcher {
			identity = broker.Watcher(key)
		}
		quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
		connection, err := nats.Connect(url, nats.Nkey(identity.NKey, identity.Sign), quiet)
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		// The server answers in order: behind a round trip, a violation is known.
		may := func(what, subject string) bool {
			if err := connection.Flush(); err != nil {
				t.Fatal(err)
			}
			err := connection.LastError()
			return err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s to %q", what, subject))
		}
		for subject, allowed := range subjects {
			pattern := strings.ContainsAny(subject, "*>")
			if pattern || !strings.HasPrefix(subject, "lockstep.") {
				if _, err := connection.SubscribeSync(subject); err != nil {
					t.Fatal(err)
				}
				if got, want := may("Subscription", subject), slices.Contains(allowed.subscribe, role); got != want {
					t.Errorf("%s may subscribe to %s: got %v, want %v", role, subject, got, want)
				}
			}
			if !pattern {
				connection.Publish(subject, nil)
				if got, want := may("Publish", subject), slices.Contains(allowed.publish, role); got != want {
					t.Errorf("%s may publish on %s: got %v, want %v", role, subject, got, want)
				}
			}
		}
	}
}

// A server that has no key, or another, gets no route: nothing crosses to it and nothing of it comes in.
func TestForeignRoutesAreRefused(t *testing.T) {
	b := open(t, "here", "127.0.0.2", "a key of the tests")
	for name, key := range map[string]string{"no key": "", "another key": "some other key"} {
		foreign := open(t, "foreign", "127.0.0.3", key)
		if err := foreign.Mesh([]string{fmt.Sprintf("127.0.0.2:%d", b.RoutePort())}); err != nil {
			t.Fatal(err)
		}
		outside, inside := connect(t, foreign, protocol.RoleWatcher), connect(t, b, protocol.RoleWatcher)
		heard, err := outside.SubscribeSync("lockstep.>")
		if err != nil {
			t.Fatal(err)
		}
		came, err := inside.SubscribeSync("lockstep.>")
		if err != nil {
			t.Fatal(err)
		}
		outside.Flush()
		inside.Flush()
		source, forger := connect(t, b, protocol.RoleGroup), connect(t, foreign, protocol.RoleGroup)
		for range 40 { // an open route stands within some of these
			source.Publish(protocol.AnnounceSubject("here"), nil)
			forger.Publish(protocol.AnnounceSubject("foreign"), nil)
			if _, err := heard.NextMsg(25 * time.Millisecond); err == nil && b.Routes()+foreign.Routes() > 0 {
				t.Fatalf("with %s: a foreign server hears what is said", name)
			}
		}
		for message, err := came.NextMsg(time.Millisecond); err == nil; message, err = came.NextMsg(time.Millisecond) {
			if message.Subject != protocol.AnnounceSubject("here") {
				t.Errorf("with %s: %s came from a foreign server", name, message.Subject)
			}
		}
		if b.Routes() != 0 {
			t.Errorf("with %s: %d routes", name, b.Routes())
		}
		foreign.Close()
	}
}

// Nodes come and go without the clients of others noticing.
func TestClientsSurviveNewRoutes(t *testing.T) {
	b := open(t, "steady", "127.0.0.2", "secret")
	disconnected := make(chan error, 8)
	connection := connect(t, b, protocol.RoleGroup, nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { disconnected <- err }))
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

// A group that is asked for an answer where another publishes cannot be made to speak there.
func TestNobodyAnswersElsewhere(t *testing.T) {
	b := open(t, "here", "127.0.0.1", "a key of the tests")
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	group, router, watcher := connect(t, b, protocol.RoleGroup, quiet), connect(t, b, protocol.RoleRouter, quiet),
		connect(t, b, protocol.RoleWatcher)
	own := protocol.GroupRef{Group: "here", Incarnation: 1}
	asked := make(chan bool, 1)
	if _, err := group.Subscribe(own.Card(protocol.AnyRouter), func(message *nats.Msg) {
		message.Respond([]byte("forged"))
		asked <- true
	}); err != nil {
		t.Fatal(err)
	}
	heard, err := watcher.SubscribeSync("lockstep.>")
	if err != nil {
		t.Fatal(err)
	}
	for _, connection := range []*nats.Conn{group, watcher} {
		connection.Flush()
	}
	const me = "here.s1"
	for subject, allowed := range map[string]bool{
		protocol.ReplySubject(me, "here", 1): true, protocol.ReplySubject(me, "there", 1): false, protocol.DownSubject("there"): false,
		protocol.AnnounceSubject("there"): false, protocol.FrameSubject(me, "there"): false, protocol.AliveSubject("there.s1"): false,
	} {
		if err := router.PublishRequest(own.Card(me), subject, nil); err != nil {
			t.Fatal(err)
		}
		<-asked
		group.Flush()
		watcher.Flush()
		answered := false
		for message, err := heard.NextMsg(20 * time.Millisecond); err == nil; message, err = heard.NextMsg(20 * time.Millisecond) {
			answered = answered || message.Subject == subject
		}
		if answered != allowed {
			t.Errorf("an answer on %s came: %v, want %v", subject, answered, allowed)
		}
	}
}

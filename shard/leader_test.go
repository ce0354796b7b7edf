package shard

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
)

// A router is heard only where its own name stands: what it says in another's name reaches nobody.
func TestRoutersSpeakForThemselves(t *testing.T) {
	group := protocol.GroupRef{Group: "g", Incarnation: 1}
	const me, other = "here.s1", "there.s1"
	message := func(subject, reply string, body any) *nats.Msg {
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		return &nats.Msg{Subject: subject, Reply: reply, Data: data}
	}
	dispatch := func(router string) protocol.Dispatch {
		return protocol.Dispatch{Version: protocol.Version, Router: router}
	}
	answer := protocol.ReplySubject(me, "g", 7)
	for name, c := range map[string]struct {
		say   func(l *leader)
		heard bool
	}{
		"own cancel":       {func(l *leader) { l.onCancel(message(group.Cancel(me), "", protocol.Cancel{Router: me})) }, true},
		"another's cancel": {func(l *leader) { l.onCancel(message(group.Cancel(me), "", protocol.Cancel{Router: other})) }, false},
		"own replay":       {func(l *leader) { l.onReplay(message(group.Replay(me), "", protocol.Replay{Router: me})) }, true},
		"another's replay": {func(l *leader) { l.onReplay(message(group.Replay(me), "", protocol.Replay{Router: other})) }, false},
		"own dispatch":     {func(l *leader) { l.onDispatch(message(group.Dispatch(me), answer, dispatch(me))) }, true},
		"another's":        {func(l *leader) { l.onDispatch(message(group.Dispatch(me), answer, dispatch(other))) }, false},
		"answer elsewhere": {func(l *leader) {
			l.onDispatch(message(group.Dispatch(me), protocol.ReplySubject(other, "g", 7), dispatch(me)))
		}, false},
		"answer as another group": {func(l *leader) {
			l.onDispatch(message(group.Dispatch(me), protocol.ReplySubject(me, "h", 7), dispatch(me)))
		}, false},
		"answer as a Down": {func(l *leader) { l.onDispatch(message(group.Dispatch(me), protocol.DownSubject("g"), dispatch(me))) }, false},
	} {
		l := &leader{config: Config{Group: group}, events: make(chan event, 1), stop: make(chan struct{}), log: zerolog.Nop()}
		c.say(l)
		if heard := len(l.events) == 1; heard != c.heard {
			t.Errorf("%s: heard %v, want %v", name, heard, c.heard)
		}
	}
}

package shard

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
	"lockstep/shard/model"
)

// What arrives over NATS is checked here, on its connection's goroutines, and answered at once, however long the current step
// takes; what concerns the engine goes to the loop as an event.

func (l *leader) onCard(msg *nats.Msg) {
	var request protocol.CardRequest
	if !l.answerable(msg) || json.Unmarshal(msg.Data, &request) != nil || request.Offset < 0 || request.Offset > len(l.card) {
		return // the asker times out; a well-behaved one never gets here
	}
	msg.Respond(l.card[request.Offset:min(request.Offset+protocol.CardChunkBytes, len(l.card))])
}

// answerable reports whether a message asks for an answer where its sender, and he only, gets ours.
func (l *leader) answerable(msg *nats.Msg) bool {
	_, ok := protocol.ReplyNumber(msg.Reply, sender(msg), l.config.Group.Group)
	return ok
}

func (l *leader) onDispatch(msg *nats.Msg) {
	if !l.answerable(msg) {
		return
	}
	var dispatch protocol.Dispatch
	refuse := func(code protocol.Code, format string, args ...any) {
		respond(msg, protocol.DispatchReply{Error: &protocol.Error{Code: code, Message: fmt.Sprintf(format, args...)}})
	}
	if err := json.Unmarshal(msg.Data, &dispatch); err != nil {
		refuse(protocol.CodeInvalid, "dispatch: %v", err)
		return
	}
	switch {
	case dispatch.Version != protocol.Version:
		refuse(protocol.CodeVersion, "version %d, want %d", dispatch.Version, protocol.Version)
	case !protocol.ValidRouter(dispatch.Router) || dispatch.Router != sender(msg):
		refuse(protocol.CodeInvalid, "router %q on the subject of %q", dispatch.Router, sender(msg))
	case len(dispatch.Requests) > protocol.MaxDispatchRequests:
		refuse(protocol.CodeInvalid, "%d requests, at most %d", len(dispatch.Requests), protocol.MaxDispatchRequests)
	default:
		reply := l.accept(&dispatch)
		select {
		case l.events <- event{dispatch: &dispatch}:
			respond(msg, reply)
		default:
			l.held.Add(-int64(len(dispatch.Requests)))
			refuse(protocol.CodeFull, "too many messages wait")
		}
	}
}

// accept takes those requests of a dispatch for which there is room, leaves them in it, and counts them as held.
func (l *leader) accept(dispatch *protocol.Dispatch) protocol.DispatchReply {
	var reply protocol.DispatchReply
	taken := dispatch.Requests[:0]
	for i := range dispatch.Requests {
		request := &dispatch.Requests[i]
		err := l.refusal(request)
		if err == nil && l.held.Add(1) > int64(l.base.Limits.MaxRequests) {
			l.held.Add(-1)
			err = &protocol.Error{Code: protocol.CodeFull, Message: fmt.Sprintf("%d requests are here", l.base.Limits.MaxRequests)}
		}
		if err != nil {
			reply.Refused = append(reply.Refused, protocol.Refusal{ID: request.ID, Error: *err})
			continue
		}
		taken = append(taken, *request)
	}
	dispatch.Requests = taken
	return reply
}

// refusal says why a request cannot be taken, even if there is room; nil: it can.
func (l *leader) refusal(request *protocol.Request) *protocol.Error {
	known, limit := len(request.Prompt)+len(request.Generated), l.base.Limits.MaxSequenceTokens
	if err := check(request, &l.shape); err != nil {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()}
	}
	if _, here := l.engine.adapters[request.Adapter]; !here && request.Adapter != "" {
		return &protocol.Error{Code: protocol.CodeAdapter, Message: fmt.Sprintf("the group has no adapter %q", request.Adapter)}
	}
	switch {
	case l.draining.Load():
		return &protocol.Error{Code: protocol.CodeDraining, Message: "the group is draining"}
	case known >= limit:
		return &protocol.Error{Code: protocol.CodeTooLong,
			Message: fmt.Sprintf("%d tokens leave no room to generate in sequences of %d", known, limit)}
	}
	return nil
}

// check says why no group of a model of this shape can compute a request; nil: it can, if there is room.
func check(request *protocol.Request, shape *model.Config) error {
	switch {
	case request.Score && !shape.Reward:
		return errors.New("the model has no score head")
	case !request.Score && shape.Reward:
		return errors.New("the model has a score head and generates no text")
	}
	return request.Validate(shape.Vocabulary)
}

// sender is the router that a message came from.
func sender(msg *nats.Msg) string { return protocol.Sender(msg.Subject, protocol.RouterTokens) }

func (l *leader) onCancel(msg *nats.Msg) {
	var cancel protocol.Cancel
	if json.Unmarshal(msg.Data, &cancel) == nil && cancel.Router == sender(msg) {
		l.hand(event{cancel: &cancel}) // cancels must not be lost
	}
}

func (l *leader) onReplay(msg *nats.Msg) {
	var replay protocol.Replay
	if json.Unmarshal(msg.Data, &replay) == nil && replay.Router == sender(msg) {
		l.hand(event{replay: &replay})
	}
}

// hand gives the loop an event, and blocks the control connection while the queue is full.
func (l *leader) hand(e event) {
	select {
	case l.events <- e:
	case <-l.stop:
	}
}

func (l *leader) onAlive(msg *nats.Msg) {
	select {
	case l.events <- event{alive: sender(msg)}:
	default: // the next one will do
	}
}

func respond(msg *nats.Msg, reply protocol.DispatchReply) {
	if data, err := json.Marshal(reply); err == nil {
		msg.Respond(data)
	}
}

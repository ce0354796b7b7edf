package core_test

import (
	"fmt"
	"slices"
	"strings"

	"lockstep/protocol"
	"lockstep/router/fleet/core"
)

// member is a group as a process would be: it takes requests, and each step gives each of them its next token. What it sends
// is the world's to carry, or to lose.
type member struct {
	world  *world
	ref    protocol.GroupRef
	card   string
	limits protocol.Limits
	state  protocol.GroupState
	keep   int // frames that it keeps, to send them again
	chunks int // steps that pass before a request's first token

	requests []*job
	sent     []*protocol.Frame // all frames so far
	step     uint64
	cancels  uint64

	inbox     []func()      // what it has been sent and not handled
	held      bool          // it is stopped, as by SIGSTOP: it handles, says and computes nothing
	silent    bool          // it announces itself no more
	lossy     bool          // its frames get lost, also those sent again
	swallows  bool          // its answers to dispatches are kept back
	answers   []func()      // that were
	refuses   protocol.Code // what it refuses requests with; "": it takes them
	miscounts bool          // its account is wrong
	accepted  int           // requests that it took
}

type job struct {
	protocol.Request
	position int
	chunks   int // still to come
	begun    bool
	yielded  bool // here
}

// token is what any group answers to a prompt at a position.
func token(prompt []int32, position int) int32 { return prompt[0]*100 + int32(position) }

func (m *member) announcement() protocol.Announcement {
	return protocol.Announcement{Version: protocol.Version, GroupRef: m.ref, Node: "n", State: m.state, ModelID: m.card,
		CardDigest: digest(m.card), CardBytes: 1, Shards: 1, Limits: m.limits, Load: m.load()}
}

// digest is that of the card of a name.
func digest(card string) string { return strings.Repeat("0", 64-len(card)) + card }

func (m *member) load() protocol.Load {
	var load protocol.Load
	for _, r := range m.requests {
		if !r.begun {
			load.Waiting++
			continue
		}
		load.Running++
		load.HeldTokens += (len(r.Prompt) + r.position + m.limits.BlockTokens - 1) / m.limits.BlockTokens * m.limits.BlockTokens
	}
	return load
}

func (m *member) account() protocol.Account {
	account := protocol.Account{Cancels: m.cancels}
	for _, r := range m.requests {
		if r.yielded || len(r.Generated) > 0 { // which of the two, a group may choose
			account.Requests++
			account.Tokens += len(r.Prompt) + r.position
		}
	}
	if m.miscounts {
		account.Tokens++
	}
	return account
}

// take handles a dispatch and answers it.
func (m *member) take(d *core.Delivery, answer func(protocol.DispatchReply, error)) {
	var reply protocol.DispatchReply
	for _, r := range d.Requests {
		if m.refuses != "" {
			reply.Refused = append(reply.Refused, protocol.Refusal{ID: r.ID, Error: protocol.Error{Code: m.refuses, Message: "by script"}})
			continue
		}
		if r.Adapter != "" && !slices.ContainsFunc(m.world.models[digest(m.card)].Adapters,
			func(a protocol.Adapter) bool { return a.Name == r.Adapter }) {
			m.world.t.Errorf("%s is asked for the adapter %s, which it does not have", m.ref, r.Adapter)
		}
		for position, id := range r.Generated {
			if want := token(r.Prompt, position); id != want {
				m.world.t.Errorf("%s: wire %d resumes with token %d at %d, want %d", m.ref, r.ID, id, position, want)
			}
		}
		m.requests = append(m.requests, &job{Request: r, position: len(r.Generated), chunks: m.chunks})
		m.accepted++
	}
	m.answers = append(m.answers, func() { answer(reply, nil) })
	if !m.swallows {
		m.answer()
	}
}

// answer gives the answers that are due.
func (m *member) answer() {
	answers := m.answers
	m.answers = nil
	for _, answer := range answers {
		answer()
	}
}

func (m *member) cancel(number uint64, wires []uint64) {
	m.cancels = number
	for _, wire := range wires {
		for i, r := range m.requests {
			if r.ID == wire {
				m.requests = append(m.requests[:i:i], m.requests[i+1:]...)
				break
			}
		}
	}
}

// replay sends again what is kept from a frame on.
func (m *member) replay(from uint64) {
	first := max(int(from), len(m.sent)-m.keep)
	for _, frame := range m.sent[min(first, len(m.sent)):] {
		m.send(frame)
	}
}

func (m *member) send(frame *protocol.Frame) {
	if m.lossy {
		return
	}
	data := frame.AppendTo(nil)
	var decoded protocol.Frame
	if err := protocol.DecodeFrame(&decoded, data); err != nil {
		m.world.t.Fatal(err)
	}
	m.world.fleet.Frame(m.world.now, m.ref.Group, &decoded)
}

// compute is a step. With lost its frame does not arrive.
func (m *member) compute(lost bool) {
	if len(m.requests) == 0 {
		return
	}
	m.step++
	frame := &protocol.Frame{Group: m.ref, Number: uint64(len(m.sent)), Step: m.step}
	var left []*job
	for i, r := range m.requests {
		if m.limits.MaxSequences > 0 && i >= m.limits.MaxSequences {
			left = append(left, r)
			continue
		}
		if !r.begun {
			frame.Begun = append(frame.Begun, protocol.Begun{Request: r.ID, Tokens: uint32(len(r.Prompt) + r.position)})
		}
		r.begun = true
		if known := r.PromptLogprobsKnown; r.PromptLogprobs && known < len(r.Prompt)-1 {
			r.PromptLogprobsKnown += (len(r.Prompt) - 1 - known) / (r.chunks + 1)
			frame.Prompt = append(frame.Prompt, protocol.PromptPart{Request: r.ID, Start: uint32(known + 1),
				Logprob: make([]float32, r.PromptLogprobsKnown-known)})
		}
		if r.chunks > 0 {
			r.chunks--
			left = append(left, r)
			continue
		}
		finish := protocol.FinishNone
		if r.position+1 == r.MaxNewTokens {
			finish = protocol.FinishLength
		}
		frame.Add(r.ID, r.position, token(r.Prompt, r.position), -1, finish)
		r.position, r.yielded = r.position+1, true
		if finish == protocol.FinishNone {
			left = append(left, r)
		}
	}
	m.requests = left
	if len(frame.Request)+len(frame.Begun) == 0 {
		return
	}
	frame.Load, frame.Account = m.load(), m.account()
	m.sent = append(m.sent, frame)
	if !lost {
		m.send(frame)
	}
}

// row sends a frame with a row that the script makes up. Behind one that its guide forbids to go on the member has forgotten the request.
func (m *member) row(wire uint64, position int, finish protocol.Finish) {
	if m.step++; finish == protocol.FinishGuide {
		m.requests = slices.DeleteFunc(m.requests, func(j *job) bool { return j.ID == wire })
	}
	frame := &protocol.Frame{Group: m.ref, Number: uint64(len(m.sent)), Step: m.step, Load: m.load(), Account: m.account(),
		Begun: []protocol.Begun{{Request: wire, Tokens: 1 << 30, Cached: 1 << 30}}}
	frame.Add(wire, position, 7, -1, finish)
	m.sent = append(m.sent, frame)
	m.send(frame)
}

// forget drops the router, as a group does that has not heard of it for a lease.
func (m *member) forget() { m.requests, m.sent, m.cancels = nil, nil, 0 }

// hear gives the member a message.
func (m *member) hear(message func()) { m.inbox = append(m.inbox, message) }

// handle handles the next message, if there is one and the member runs.
func (m *member) handle() bool {
	if m.held || len(m.inbox) == 0 {
		return false
	}
	message := m.inbox[0]
	m.inbox = m.inbox[1:]
	message()
	return true
}

func (m *member) String() string {
	return fmt.Sprintf("%s holds %d of %d requests", m.ref, len(m.requests), m.accepted)
}

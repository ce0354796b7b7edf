package core_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/protocol"
	"lockstep/router/admission"
	"lockstep/router/fleet/core"
	"lockstep/router/request"
)

// tick and answerTimeout are those of the shell around the core.
const (
	tick          = 50 * time.Millisecond
	answerTimeout = 10 * time.Second
)

// world is a fleet, groups and clients in virtual time. It does the fleet's actions, and writes down what is seen of them.
type world struct {
	t         *testing.T
	fleet     *core.Fleet
	now       time.Time
	waiting   time.Time // when the command began that lets time pass; zero: none does
	link      core.Link
	members   map[protocol.GroupRef]*member // those that live
	clients   []*client
	cards     string // what becomes of cards: "good", "ill", "unreachable" or "held"
	fetches   []protocol.Announcement
	models    map[string]protocol.ModelCard // by digest
	unknown   map[string]bool               // digests of cards that are not known any more
	alive     int
	steps     [2]int      // with first tokens, with later ones
	questions []*question // dispatches that are not answered
	snapshot  *core.Snapshot
	seen      []string
}

// question is a dispatch that waits for its answer until a deadline.
type question struct {
	delivery *core.Delivery
	deadline time.Time
}

// client is one who has submitted.
type client struct {
	number int
	id     uint64
	r      *request.Request
	events *request.Events
	tokens []request.Token
	err    *request.Refusal
	left   bool
}

func (c *client) ended() bool {
	return c.left || c.err != nil || len(c.tokens) > 0 && c.tokens[len(c.tokens)-1].Finish != protocol.FinishNone
}

func newWorld(t *testing.T, config core.Config) *world {
	w := &world{t: t, now: time.Unix(1000, 0), link: core.Link{Up: true}, members: map[protocol.GroupRef]*member{}, cards: "good",
		unknown: map[string]bool{}, models: map[string]protocol.ModelCard{}}
	if config.Admission.QueueLimit == 0 {
		config.Admission.QueueLimit = 100
	}
	config.Knows = func(digest string) bool { return !w.unknown[digest] }
	var err error
	if w.fleet, err = core.New(config, w); err != nil {
		t.Fatal(err)
	}
	w.tick()
	w.seen = nil
	return w
}

// see writes down what is seen, with the time that has passed where time passes.
func (w *world) see(format string, arguments ...any) {
	line := fmt.Sprintf(format, arguments...)
	if !w.waiting.IsZero() {
		line = fmt.Sprintf("+%.2fs %s", w.now.Sub(w.waiting).Seconds(), line)
	}
	w.seen = append(w.seen, line)
}

// member returns the living member of a name, the newest if there are several.
func (w *world) member(name string) *member {
	var newest *member
	for _, m := range w.members {
		if m.ref.Group == name && (newest == nil || m.ref.Incarnation > newest.ref.Incarnation) {
			newest = m
		}
	}
	if newest == nil {
		w.t.Fatalf("no group %s lives", name)
	}
	return newest
}

// ordered are the members by name.
func (w *world) ordered() []*member {
	return slices.SortedFunc(maps.Values(w.members), func(a, b *member) int { return strings.Compare(a.ref.String(), b.ref.String()) })
}

// settle carries messages until none is under way, and takes what has come for the clients.
func (w *world) settle() {
	for more := true; more; {
		more = false
		for _, m := range w.ordered() {
			more = m.handle() || more
		}
		for len(w.fetches) > 0 && w.cards != "held" {
			w.fetched()
			more = true
		}
	}
	for _, c := range w.clients {
		w.drain(c)
	}
}

// fetched ends the oldest fetch of a card.
func (w *world) fetched() {
	a := w.fetches[0]
	w.fetches = w.fetches[1:]
	switch w.cards {
	case "ill":
		w.fleet.CardRefused(w.now, a, true, fmt.Errorf("it is ill"))
	case "unreachable":
		w.fleet.CardRefused(w.now, a, false, fmt.Errorf("it does not come"))
	default:
		delete(w.unknown, a.CardDigest)
		model := w.models[a.CardDigest]
		if model.NumericsID == "" {
			model.NumericsID = a.ModelID
		}
		w.fleet.CardLoaded(w.now, a, core.Card{Kinds: model.Kinds(), GuideVersion: model.GuideVersion, Reward: a.ModelID == "reward"})
	}
}

// drain takes what has come for a client, and holds it to what he must get: each token once, in order.
func (w *world) drain(c *client) {
	before, failed := len(c.tokens), c.err
	for {
		tokens, err, outcome := c.events.Poll(nil)
		c.tokens = append(c.tokens, tokens...)
		if err != nil {
			c.err = err
		}
		if outcome != request.Got || err != nil {
			break
		}
	}
	if c.left {
		return
	}
	var text []string
	for position := before; position < len(c.tokens); position++ {
		got := c.tokens[position]
		if want := token(c.r.Prompt, position); got.ID != want {
			w.t.Fatalf("client %d got token %d at %d, want %d", c.number, got.ID, position, want)
		}
		if last := position == c.r.MaxNewTokens-1; last != (got.Finish == protocol.FinishLength) {
			w.t.Fatalf("client %d: token %d finishes with %d", c.number, position, got.Finish)
		}
		text = append(text, fmt.Sprint(got.ID))
	}
	if len(text) > 0 {
		end := ""
		if c.ended() {
			end = " end"
		}
		w.see("client %d gets %s%s", c.number, strings.Join(text, " "), end)
	}
	if c.err != nil && failed == nil {
		w.see("client %d fails: %s: %s", c.number, classes[c.err.Class], c.err.Message)
	}
}

var classes = map[request.Class]string{request.Validation: "validation", request.Overloaded: "overloaded", request.Generation: "generation",
	request.Incomplete: "incomplete", request.Unavailable: "unavailable"}

func (w *world) tick() {
	w.fleet.Tick(w.now, w.link)
	w.settle()
}

// pass lets time pass: ticks, and heartbeats of who lives.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(tick)
		for len(w.questions) > 0 && !w.now.Before(w.questions[0].deadline) {
			w.answered(w.questions[0], protocol.DispatchReply{}, errors.New("no answer"))
		}
		if w.now.Sub(time.Unix(1000, 0))%protocol.AnnounceInterval == 0 && w.link.Up {
			for _, m := range w.ordered() {
				if !m.held && !m.silent {
					w.fleet.Announced(w.now, m.ref.Group, m.announcement())
				}
			}
		}
		w.tick()
	}
}

func (w *world) submit(number int, r *request.Request) {
	c := &client{number: number, r: r, events: request.NewEvents(len(r.Prompt) - 1)}
	var refusal *request.Refusal
	if c.id, refusal = w.fleet.Submit(w.now, r, nil, c.events); refusal != nil {
		c.events.Fail(refusal)
	}
	w.clients = append(w.clients, c)
}

func (w *world) client(number int) *client {
	for _, c := range w.clients {
		if c.number == number {
			return c
		}
	}
	w.t.Fatalf("no client %d", number)
	return nil
}

// What follows are the fleet's actions.

func (w *world) Alive() { w.alive++ }

func (w *world) Dispatch(d *core.Delivery) {
	var text []string
	for _, r := range d.Requests {
		text = append(text, fmt.Sprint(r.ID))
		if len(r.Generated) > 0 {
			text[len(text)-1] += fmt.Sprintf(" with %d tokens", len(r.Generated))
		}
		if r.Guide != nil {
			text[len(text)-1] += " guided"
		}
		if r.PromptLogprobs {
			text[len(text)-1] += fmt.Sprintf(" with %d of the prompt's log-probabilities", r.PromptLogprobsKnown)
		}
	}
	what := "dispatch"
	if d.Probe {
		what = "probe"
		if d.Requests[0].Score {
			what = "probe by score"
		}
	}
	w.see("%s to %s: %s", what, d.Group(), strings.Join(text, ", "))
	q := &question{d, w.now.Add(answerTimeout)}
	w.questions = append(w.questions, q)
	if m := w.members[d.Group()]; m != nil {
		m.hear(func() { m.take(d, func(reply protocol.DispatchReply, err error) { w.answered(q, reply, err) }) })
	}
}

// answered carries the answer to a question, unless it is no question any more.
func (w *world) answered(q *question, reply protocol.DispatchReply, err error) {
	if at := slices.Index(w.questions, q); at >= 0 {
		w.questions = slices.Delete(w.questions, at, at+1)
		w.fleet.Answered(w.now, q.delivery, reply, err)
	}
}

func (w *world) Cancel(group protocol.GroupRef, number uint64, wires []uint64) {
	w.see("cancel %d to %s: %s", number, group, strings.Trim(fmt.Sprint(wires), "[]"))
	if m := w.members[group]; m != nil {
		m.hear(func() { m.cancel(number, wires) })
	}
}

func (w *world) Replay(group protocol.GroupRef, from uint64) {
	w.see("replay from %s: %d on", group, from)
	if m := w.members[group]; m != nil {
		m.hear(func() { m.replay(from) })
	}
}

func (w *world) FetchCard(a protocol.Announcement) {
	w.see("fetch the card of %s", a.GroupRef)
	w.fetches = append(w.fetches, a)
}

func (w *world) Show(s *core.Snapshot) { w.snapshot = s }

func (w *world) Stepped(prefill bool, _ time.Duration) {
	if prefill {
		w.steps[0]++
	} else {
		w.steps[1]++
	}
}

func (w *world) Log(_ core.Level, message string, fields ...any) {
	for i := 0; i < len(fields); i += 2 {
		message += fmt.Sprintf(" %s=%v", fields[i], fields[i+1])
	}
	w.see("log: %s", message)
}

func (w *world) Complain(group, what string, err error) {
	if err != nil {
		what += ": " + err.Error()
	}
	w.see("complaint of %s: %s", group, what)
}

// limits of a group unless a script says otherwise.
var limits = protocol.Limits{MaxSequenceTokens: 256, CapacityTokens: 1024, BlockTokens: 16, MaxRequests: 64}

// policy makes decisions that a reader can follow: nothing is drawn.
var policy = admission.Config{Policy: admission.Conservative}

// Package fleettest holds a shard group that computes nothing: it speaks protocol over NATS, answers with tokens that
// follow from prompt, seed and position alone, and can be slow, refuse, lose frames and die. Tests of the router and
// load tests use it.
package fleettest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
)

// Options of a group.
type Options struct {
	Name        string
	Incarnation uint64
	Card        protocol.ModelCard
	Limits      protocol.Limits
	// Tokens are the ids that answers are made of.
	Tokens []int32
	// StepInterval lies between two steps; 0 means a millisecond.
	StepInterval time.Duration
	// LoseFrame, when not nil, tells which frames are not sent the first time.
	LoseFrame func(number uint64) bool
	// Refuse, when not nil, tells which requests are refused, and why.
	Refuse func(protocol.Request) *protocol.Error
	// Back is how long a group that is killed with a word says that its next incarnation will take.
	Back time.Duration
	// Miscount, when not nil, changes what the group says that it holds of a router.
	Miscount func(protocol.Account) protocol.Account
	// Report, when not nil, changes what the group says of its load.
	Report func(protocol.Load) protocol.Load
}

// Group is a running group. Its methods are safe for concurrent use.
type Group struct {
	options Options
	conn    *nats.Conn
	ref     protocol.GroupRef
	card    []byte
	stop    chan struct{}
	stopped sync.WaitGroup
	pause   sync.RWMutex // held for writing while the group does nothing at all

	mu         sync.Mutex
	dead       bool
	requests   map[key]*running
	order      []key
	sent       map[string][][]byte // by router: all frames so far
	step       uint64
	accepted   int
	cancelled  map[key]bool
	cancels    map[string]uint64          // by router: number of the last cancel
	cache      map[protocol.BlockKey]bool // blocks of prompts that were computed; nothing is ever evicted
	stalled    bool
	state      protocol.GroupState
	subscribed []*nats.Subscription
}

type key struct {
	router string
	id     uint64
}

type running struct {
	protocol.Request
	position int
	tokens   []int32 // generated so far
	begun    bool
	yielded  bool
}

func (r *running) known() int { return len(r.Prompt) + r.position }

// Token is what any group answers at a position of a generation.
func Token(tokens []int32, prompt []int32, seed uint64, position int) (id int32, logprob float32) {
	h := fnv.New64a()
	for _, value := range prompt {
		binary.Write(h, binary.LittleEndian, value)
	}
	binary.Write(h, binary.LittleEndian, seed)
	binary.Write(h, binary.LittleEndian, uint64(position))
	sum := h.Sum64()
	sum ^= sum >> 29
	return tokens[sum%uint64(len(tokens))], -float32(sum>>40%1000) / 256
}

// Start starts a group that speaks over conn, which the caller closes after Stop.
func Start(conn *nats.Conn, options Options) (*Group, error) {
	card, err := json.Marshal(options.Card)
	if err != nil {
		return nil, err
	}
	if options.StepInterval <= 0 {
		options.StepInterval = time.Millisecond
	}
	g := &Group{
		options: options, conn: conn, card: card, ref: protocol.GroupRef{Group: options.Name, Incarnation: options.Incarnation},
		stop: make(chan struct{}), requests: map[key]*running{}, sent: map[string][][]byte{},
		state: protocol.StateReady, cancelled: map[key]bool{}, cancels: map[string]uint64{}, cache: map[protocol.BlockKey]bool{},
	}
	for subject, serve := range map[string]nats.MsgHandler{
		g.ref.Card(protocol.AnyRouter): g.serveCard, g.ref.Dispatch(protocol.AnyRouter): g.serveDispatch,
		g.ref.Cancel(protocol.AnyRouter): g.serveCancel, g.ref.Replay(protocol.AnyRouter): g.serveReplay,
	} {
		subscription, err := conn.Subscribe(subject, func(m *nats.Msg) {
			g.pause.RLock()
			defer g.pause.RUnlock()
			serve(m)
		})
		if err != nil {
			return nil, err
		}
		g.subscribed = append(g.subscribed, subscription)
	}
	if err := conn.Flush(); err != nil {
		return nil, err
	}
	g.stopped.Add(1)
	go g.run()
	return g, nil
}

// Ref names the group.
func (g *Group) Ref() protocol.GroupRef { return g.ref }

// Accepted is the number of requests taken so far.
func (g *Group) Accepted() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accepted
}

// Running is the number of requests that are held.
func (g *Group) Running() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.requests)
}

// Cancelled is the number of held requests that were cancelled.
func (g *Group) Cancelled() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.cancelled)
}

// Say makes the group announce another state than that it is ready.
func (g *Group) Say(state protocol.GroupState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = state
}

// Stall stops the group's steps, or lets them go on; it goes on announcing itself.
func (g *Group) Stall(stalled bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stalled = stalled
}

// Pause stops all that the group does, as a stopped process's is, until Continue; what it is sent waits.
func (g *Group) Pause()    { g.pause.Lock() }
func (g *Group) Continue() { g.pause.Unlock() }

// Forget drops all routers with their requests, as a group does whose routers have been silent: their frames will be
// counted from 0 again.
func (g *Group) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.requests)
	clear(g.sent)
	clear(g.cancels)
}

// Kill ends the group without a word. With tell, a Down message says so, as a launcher's would.
func (g *Group) Kill(tell bool) {
	g.mu.Lock()
	already := g.dead
	g.dead = true
	g.mu.Unlock()
	if already {
		return
	}
	close(g.stop)
	g.stopped.Wait()
	for _, subscription := range g.subscribed {
		subscription.Unsubscribe()
	}
	if tell {
		data, _ := json.Marshal(protocol.Down{GroupRef: g.ref, Reason: "killed by a test", BackSeconds: g.options.Back.Seconds()})
		g.conn.Publish(protocol.DownSubject(g.ref.Group), data)
	}
	g.conn.FlushTimeout(time.Second)
}

func (g *Group) run() {
	defer g.stopped.Done()
	steps, announcements := time.NewTicker(g.options.StepInterval), time.NewTicker(protocol.AnnounceInterval/2)
	defer steps.Stop()
	defer announcements.Stop()
	g.announce()
	for {
		select {
		case <-g.stop:
			return
		case <-announcements.C:
			g.pause.RLock()
			g.announce()
			g.pause.RUnlock()
		case <-steps.C:
			g.pause.RLock()
			g.mu.Lock()
			if !g.stalled {
				g.compute()
			}
			g.mu.Unlock()
			g.pause.RUnlock()
		}
	}
}

func (g *Group) load() protocol.Load {
	var load protocol.Load
	block := max(g.options.Limits.BlockTokens, 1)
	for _, r := range g.requests {
		if !r.begun {
			load.Waiting++
			continue
		}
		load.Running++
		load.HeldTokens += (r.known() + block - 1) / block * block
	}
	if g.options.Report != nil {
		load = g.options.Report(load)
	}
	return load
}

// account is what the group holds of a router.
func (g *Group) account(router string) protocol.Account {
	account := protocol.Account{Cancels: g.cancels[router]}
	for k, r := range g.requests {
		if k.router == router && r.yielded {
			account.Requests++
			account.Tokens += r.known()
		}
	}
	if g.options.Miscount != nil {
		account = g.options.Miscount(account)
	}
	return account
}

func (g *Group) announce() {
	sum := sha256.Sum256(g.card)
	g.mu.Lock()
	a := protocol.Announcement{
		Version: protocol.Version, GroupRef: g.ref, Node: "test", State: g.state, ModelID: g.options.Card.ModelID,
		CardDigest: hex.EncodeToString(sum[:]), CardBytes: len(g.card), Shards: 1, Limits: g.options.Limits, Load: g.load(),
	}
	g.mu.Unlock()
	data, _ := json.Marshal(a)
	g.conn.Publish(protocol.AnnounceSubject(g.ref.Group), data)
}

// compute is one step: each of the first MaxSequences requests gets one token, and every router one frame.
func (g *Group) compute() {
	g.step++
	frames := map[string]*protocol.Frame{}
	var left []key
	computed := 0
	for _, k := range g.order {
		r := g.requests[k]
		if r == nil {
			continue
		}
		if limit := g.options.Limits.MaxSequences; limit > 0 && computed >= limit {
			left = append(left, k)
			continue
		}
		computed++
		f := frames[k.router]
		if f == nil {
			f = &protocol.Frame{Group: g.ref, Step: g.step}
			frames[k.router] = f
		}
		if g.advance(f, r) == protocol.FinishNone {
			left = append(left, k)
		} else {
			delete(g.requests, k)
		}
	}
	g.order = left
	names := make([]string, 0, len(frames))
	for name := range frames {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		f := frames[name]
		f.Number, f.Load, f.Account = uint64(len(g.sent[name])), g.load(), g.account(name)
		data := f.AppendTo(nil)
		g.sent[name] = append(g.sent[name], data)
		if g.options.LoseFrame == nil || !g.options.LoseFrame(f.Number) {
			g.conn.Publish(protocol.FrameSubject(name, g.ref.Group), data)
		}
	}
}

// advance gives a request its next token.
func (g *Group) advance(f *protocol.Frame, r *running) protocol.Finish {
	if !r.begun {
		r.begun = true
		f.Begun = append(f.Begun, protocol.Begun{Request: r.ID, Tokens: uint32(r.known()), Cached: uint32(g.lookUp(r))})
	}
	if r.PromptLogprobs && len(r.Prompt) > 1 {
		part := protocol.PromptPart{Request: r.ID, Start: 1}
		for _, id := range r.Prompt[1:] {
			logprob := -float32(id%100+1) / 64
			part.Logprob = append(part.Logprob, logprob)
			if r.TopLogprobs > 0 {
				part.Alternatives = append(part.Alternatives, uint8(r.TopLogprobs))
			}
			for i := range r.TopLogprobs {
				part.TopToken, part.TopLogprob = append(part.TopToken, id+int32(i)), append(part.TopLogprob, logprob-float32(i))
			}
		}
		f.Prompt = append(f.Prompt, part)
		r.PromptLogprobs = false
	}
	token, logprob := Token(g.options.Tokens, r.Prompt, r.Sampling.Seed, r.position)
	r.tokens = append(r.tokens, token)
	finish := protocol.FinishNone
	if r.position+1 == r.MaxNewTokens {
		finish = protocol.FinishLength
	}
	for _, stop := range r.StopTokens {
		if len(r.tokens) >= len(stop) && slices.Equal(r.tokens[len(r.tokens)-len(stop):], stop) {
			finish = protocol.FinishStop
		}
	}
	f.Add(r.ID, r.position, token, logprob, finish)
	for i := range r.TopLogprobs {
		f.AddAlternative(token+int32(i), logprob-float32(i))
	}
	r.position++
	r.yielded = true
	return finish
}

// lookUp returns how many tokens of a request the prefix cache has, and puts the prompt's blocks into it.
func (g *Group) lookUp(r *running) int {
	block := g.options.Limits.BlockTokens
	if r.NoPrefixCache || r.PromptLogprobs || block < 1 {
		return 0
	}
	chain := protocol.NewKeyChain(r.CacheSalt)
	cached, hit := 0, true
	for _, key := range chain.Keys(nil, r.Prompt, block) {
		if hit = hit && g.cache[key]; hit {
			cached += block
		}
		g.cache[key] = true
	}
	return min(cached, r.known()-1)
}

func (g *Group) serveCard(m *nats.Msg) {
	var ask protocol.CardRequest
	if json.Unmarshal(m.Data, &ask) != nil || ask.Offset < 0 || ask.Offset >= len(g.card) {
		return
	}
	m.Respond(g.card[ask.Offset:min(ask.Offset+protocol.CardChunkBytes, len(g.card))])
}

func (g *Group) serveDispatch(m *nats.Msg) {
	var d protocol.Dispatch
	var reply protocol.DispatchReply
	err := json.Unmarshal(m.Data, &d)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		return
	}
	if err != nil || d.Version != protocol.Version {
		reply.Error = &protocol.Error{Code: protocol.CodeInvalid, Message: fmt.Sprint(err)}
	}
	for _, r := range d.Requests {
		if refusal := g.check(r); refusal != nil {
			reply.Refused = append(reply.Refused, protocol.Refusal{ID: r.ID, Error: *refusal})
			continue
		}
		k := key{d.Router, r.ID}
		g.requests[k] = &running{Request: r, position: len(r.Generated), tokens: slices.Clone(r.Generated)}
		g.order = append(g.order, k)
		g.accepted++
	}
	data, _ := json.Marshal(reply)
	m.Respond(data)
}

// check validates a request as a real group does, and that what a resumed one brings is what it would have had.
func (g *Group) check(r protocol.Request) *protocol.Error {
	if g.options.Refuse != nil {
		if refusal := g.options.Refuse(r); refusal != nil {
			return refusal
		}
	}
	if err := r.Validate(g.options.Card.VocabularySize); err != nil {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()}
	}
	for position, id := range r.Generated {
		if want, _ := Token(g.options.Tokens, r.Prompt, r.Sampling.Seed, position); id != want {
			return &protocol.Error{Code: protocol.CodeInvalid,
				Message: fmt.Sprintf("generated token %d is %d, want %d", position, id, want)}
		}
	}
	return nil
}

func (g *Group) serveCancel(m *nats.Msg) {
	var c protocol.Cancel
	if json.Unmarshal(m.Data, &c) != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cancels[c.Router] = c.Number
	for _, id := range c.IDs {
		k := key{c.Router, id}
		if g.requests[k] != nil {
			delete(g.requests, k)
			g.cancelled[k] = true
		}
	}
}

func (g *Group) serveReplay(m *nats.Msg) {
	var r protocol.Replay
	if json.Unmarshal(m.Data, &r) != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	frames := g.sent[r.Router]
	first := max(int(r.From), len(frames)-protocol.ReplayFrames)
	for _, data := range frames[min(first, len(frames)):] {
		g.conn.Publish(protocol.FrameSubject(r.Router, g.ref.Group), data)
	}
}

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
)

// stampMicroseconds is where the stamps begin anew: single precision holds all smaller whole numbers.
const stampMicroseconds = 1 << 24

// stamp is the moment in microseconds.
func stamp() float32 { return float32(time.Now().UnixMicro() % stampMicroseconds) }

// sinceStamp is how long ago a stamp was made.
func sinceStamp(microseconds float64) time.Duration {
	passed := time.Now().UnixMicro()%stampMicroseconds - int64(microseconds)
	return time.Duration((passed+stampMicroseconds)%stampMicroseconds) * time.Microsecond
}

// group answers with one token over and over, and computes nothing.
type group struct {
	ref  protocol.GroupRef
	conn *nats.Conn
	card []byte
	step time.Duration
	done chan struct{}
	all  sync.WaitGroup

	mu       sync.Mutex
	routers  map[string]*routerFrames
	incoming chan struct{} // capacity 1: there is work
}

// routerFrames is what a group keeps of a router.
type routerFrames struct {
	number   uint64
	cancels  uint64
	requests map[uint64]*protocol.Request
	position map[uint64]int
	tokens   int // of requests that have yielded
}

func startGroup(url string, step time.Duration) (*group, error) {
	tokenizer, err := os.ReadFile("launcher/demo/model/tokenizer.json")
	if err != nil {
		return nil, err
	}
	g := &group{ref: protocol.GroupRef{Group: "nothing", Incarnation: uint64(time.Now().UnixNano())}, step: step, done: make(chan struct{}),
		routers: map[string]*routerFrames{}, incoming: make(chan struct{}, 1)}
	if g.card, err = json.Marshal(protocol.ModelCard{ModelID: "nothing", Chat: protocol.ChatSource{Template: "{% for m in messages %}{{ m.content }}{% endfor %}"}, DataType: "torch.float32", DeviceType: "cpu", VocabularySize: 2048, MaxPositions: 1 << 16,
		NumericsID: "nothing", Tokenizer: protocol.TokenizerSource{HuggingFace: tokenizer}}); err != nil {
		return nil, err
	}
	if g.conn, err = nats.Connect(url); err != nil {
		return nil, err
	}
	for subject, handle := range map[string]nats.MsgHandler{g.ref.Card(protocol.AnyRouter): g.onCard, g.ref.Dispatch(protocol.AnyRouter): g.onDispatch,
		g.ref.Cancel(protocol.AnyRouter): g.onCancel} {
		if _, err := g.conn.Subscribe(subject, handle); err != nil {
			return nil, err
		}
	}
	g.all.Go(g.announce)
	g.all.Go(g.loop)
	return g, nil
}

func (g *group) stop() {
	close(g.done)
	g.all.Wait()
	g.conn.Close()
}

func (g *group) onCard(msg *nats.Msg) {
	var request protocol.CardRequest
	if json.Unmarshal(msg.Data, &request) == nil && request.Offset <= len(g.card) {
		msg.Respond(g.card[request.Offset:min(request.Offset+protocol.CardChunkBytes, len(g.card))])
	}
}

func (g *group) onDispatch(msg *nats.Msg) {
	var dispatch protocol.Dispatch
	if json.Unmarshal(msg.Data, &dispatch) != nil {
		return
	}
	g.mu.Lock()
	r := g.routers[dispatch.Router]
	if r == nil {
		r = &routerFrames{requests: map[uint64]*protocol.Request{}, position: map[uint64]int{}}
		g.routers[dispatch.Router] = r
	}
	for i := range dispatch.Requests {
		r.requests[dispatch.Requests[i].ID] = &dispatch.Requests[i]
	}
	g.mu.Unlock()
	msg.Respond([]byte("{}"))
	select {
	case g.incoming <- struct{}{}:
	default:
	}
}

func (g *group) onCancel(msg *nats.Msg) {
	var cancel protocol.Cancel
	if json.Unmarshal(msg.Data, &cancel) != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.routers[cancel.Router]; r != nil {
		r.cancels = max(r.cancels, cancel.Number)
		for _, id := range cancel.IDs {
			r.end(id)
		}
	}
}

func (r *routerFrames) end(id uint64) {
	if request := r.requests[id]; request != nil {
		if r.position[id] > 0 {
			r.tokens -= len(request.Prompt) + r.position[id]
		}
		delete(r.requests, id)
		delete(r.position, id)
	}
}

func (g *group) announce() {
	for ticker := time.NewTicker(protocol.AnnounceInterval); ; {
		sum := sha256.Sum256(g.card)
		data, err := json.Marshal(protocol.Announcement{Version: protocol.Version, GroupRef: g.ref, Node: "nothing", State: protocol.StateReady, ModelID: "nothing",
			CardDigest: hex.EncodeToString(sum[:]), CardBytes: len(g.card), Shards: 1,
			Limits: protocol.Limits{MaxSequenceTokens: 1 << 16, CapacityTokens: 1 << 24, BlockTokens: 16, MaxRequests: 4096, MaxSequences: 4096}})
		if err == nil {
			g.conn.Publish(protocol.AnnounceSubject(g.ref.Group), data)
		}
		select {
		case <-ticker.C:
		case <-g.done:
			ticker.Stop()
			return
		}
	}
}

// loop sends a step's frames, as fast as the connection takes them or once a step.
func (g *group) loop() {
	var frame protocol.Frame
	var data []byte
	for step := uint64(1); ; step++ {
		begin := time.Now()
		busy := false
		g.mu.Lock()
		for name, r := range g.routers {
			if len(r.requests) == 0 {
				continue
			}
			busy = true
			frame.Reset()
			sent := stamp()
			for id, request := range r.requests {
				position := r.position[id]
				if position == 0 {
					r.tokens += len(request.Prompt)
				}
				r.tokens++
				finish := protocol.FinishNone
				if position+1 == request.MaxNewTokens {
					finish = protocol.FinishLength
				}
				frame.Add(id, position, 290, sent, finish)
				r.position[id] = position + 1
				if finish != protocol.FinishNone {
					r.end(id)
				}
			}
			frame.Group, frame.Number, frame.Step = g.ref, r.number, step
			frame.Load = protocol.Load{Running: len(r.requests), HeldTokens: r.tokens}
			frame.Account = protocol.Account{Requests: len(r.position), Tokens: r.tokens, Cancels: r.cancels}
			r.number++
			data = frame.AppendTo(data[:0])
			g.conn.Publish(protocol.FrameSubject(name, g.ref.Group), data)
		}
		g.mu.Unlock()
		g.conn.Flush()
		switch wait := g.step - time.Since(begin); {
		case !busy:
			select {
			case <-g.incoming:
			case <-g.done:
				return
			}
		case wait > 0:
			time.Sleep(wait)
		}
	}
}

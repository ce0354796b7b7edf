package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
)

// cardTimeout is how long a chunk of a card may take.
const cardTimeout = 5 * time.Second

// questions are those that groups have not answered yet. An answer comes on a subject that names the group which was
// asked, and which that group alone can publish on. It is safe for concurrent use.
type questions struct {
	conn   *nats.Conn
	router string

	mu      sync.Mutex // guards all below
	last    uint64
	waiting map[uint64]question
}

type question struct {
	group  string
	answer chan *nats.Msg // holds one
}

// noResponders is the status by which a NATS server says that nobody hears a question.
const noResponders = "503"

// listen subscribes to answers.
func (q *questions) listen() (*nats.Subscription, error) {
	return q.conn.Subscribe(protocol.ReplySubjects(q.router), func(message *nats.Msg) {
		group := protocol.Sender(message.Subject, protocol.GroupTokens)
		number, ok := protocol.ReplyNumber(message.Subject, q.router, group)
		q.mu.Lock()
		defer q.mu.Unlock()
		if asked := q.waiting[number]; ok && asked.group == group {
			delete(q.waiting, number)
			asked.answer <- message
		}
	})
}

// ask sends a group a question on a subject of its and returns the answer.
func (q *questions) ask(ctx context.Context, group, subject string, data []byte) ([]byte, error) {
	asked := question{group, make(chan *nats.Msg, 1)}
	q.mu.Lock()
	q.last++
	number := q.last
	q.waiting[number] = asked
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		delete(q.waiting, number)
		q.mu.Unlock()
	}()
	if err := q.conn.PublishRequest(subject, protocol.ReplySubject(q.router, group, number), data); err != nil {
		return nil, err
	}
	select {
	case message := <-asked.answer:
		if len(message.Data) == 0 && message.Header.Get("Status") == noResponders {
			return nil, nats.ErrNoResponders
		}
		return message.Data, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetchCard asks a group for its card, chunk by chunk, and checks size and digest.
func (q *questions) fetchCard(ctx context.Context, a protocol.Announcement) (*protocol.ModelCard, error) {
	var data []byte // grows with what comes: its size is only announced
	for len(data) < a.CardBytes {
		ask, err := json.Marshal(protocol.CardRequest{Offset: len(data)})
		if err != nil {
			return nil, err
		}
		chunkCtx, cancel := context.WithTimeout(ctx, cardTimeout)
		reply, err := q.ask(chunkCtx, a.Group, a.Card(q.router), ask)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("fetching the card at %d: %w", len(data), err)
		}
		if len(reply) != min(protocol.CardChunkBytes, a.CardBytes-len(data)) {
			return nil, errors.New("a chunk of the card has a wrong size")
		}
		data = append(data, reply...)
	}
	sum := sha256.Sum256(data)
	if digest := hex.EncodeToString(sum[:]); digest != a.CardDigest {
		return nil, fmt.Errorf("the card's digest is %s, announced %s", digest, a.CardDigest)
	}
	card := new(protocol.ModelCard)
	if err := json.Unmarshal(data, card); err != nil {
		return nil, fmt.Errorf("decoding the card: %w", err)
	}
	if err := card.Validate(); err != nil {
		return nil, fmt.Errorf("the card: %w", err)
	}
	return card, nil
}

package fleet

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
)

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

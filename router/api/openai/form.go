package openai

import (
	"net/http"
	"strconv"

	"lockstep/protocol/ordered"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// reply is how a route reads what is asked and writes what is answered: that of chats and completions, of responses or of messages.
type reply interface {
	// prefix begins the names of answers.
	prefix() string
	// read reads a body.
	read(top []ordered.Member) (*generateBody, *request.Refusal)
	// take notes a token of an answer in one body, which appendWhole appends.
	take(c *choice, t *answer.Token, last *answer.Generation)
	appendWhole(b []byte, job *work) []byte
	// head is what all events of a stream have in common.
	head(job *work) []byte
	// chunks returns what appends the events of an answer's tokens; appendEnd appends what follows the last.
	chunks(c *choice, head []byte) answer.AppendEvent
	appendEnd(b []byte, job *work, head []byte) []byte
	// appendRefusal appends the body of a refusal and returns its status, appendFailure the event by which a stream ends that has begun.
	appendRefusal(b []byte, refusal *request.Refusal) ([]byte, int)
	appendFailure(b []byte, job *work, refusal *request.Refusal) ([]byte, int)
}

// plain is the reply of chats and completions.
type plain struct{ chat bool }

var _ reply = plain{}

func (p plain) prefix() string {
	if p.chat {
		return "chatcmpl-"
	}
	return "cmpl-"
}

func (p plain) read(top []ordered.Member) (*generateBody, *request.Refusal) {
	return readBody(top, p.chat, nil)
}

func (p plain) appendWhole(b []byte, job *work) []byte {
	b = job.appendHead(b, job.objectName())
	if job.body.returnTokenIDs && job.body.chat {
		b = append(wire.AppendIDs(append(b, `"prompt_token_ids":`...), job.prompts[0].ids), ',')
	}
	b = append(b, `"choices":[`...)
	for i, c := range job.chosen() {
		if i > 0 {
			b = append(b, ',')
		}
		b = c.appendWhole(b, i)
	}
	b = append(b, `],"usage":`...)
	return append(appendUsage(b, job.usage()), '}')
}

func (p plain) take(c *choice, t *answer.Token, last *answer.Generation) { c.keep(t, last) }

func (p plain) head(job *work) []byte { return job.appendHead([]byte("data: "), job.objectName()) }

func (p plain) chunks(c *choice, head []byte) answer.AppendEvent { return c.chunks(head) }

func (p plain) appendEnd(b []byte, job *work, head []byte) []byte { return job.appendEnd(b, head) }

func (p plain) appendRefusal(b []byte, refusal *request.Refusal) ([]byte, int) {
	b, status := appendRefusal(b, refusal)
	return append(b, '}'), status
}

func (p plain) appendFailure(b []byte, _ *work, refusal *request.Refusal) ([]byte, int) {
	b, status := appendRefusal(append(b, "data: "...), refusal)
	b = strconv.AppendInt(append(b[:len(b)-1], `,"http_status_code":`...), int64(status), 10)
	return append(b, "}}\n\ndata: [DONE]\n\n"...), status
}

// refuseAs answers a refusal that is counted and logged.
func (d *Dialect) refuseAs(w http.ResponseWriter, form reply, refusal *request.Refusal) {
	if refusal.Class == request.Left {
		return
	}
	b, status := form.appendRefusal(nil, refusal)
	d.answers.Refused(wire.Of(w).ID, refusal, status)
	if refusal.Class == request.Overloaded {
		w.Header()["Retry-After"] = []string{"1"}
	}
	wire.Respond(w, status, wire.JSONType, b)
}

// refuse answers one in the form of chats, which is that of all other routes.
func (d *Dialect) refuse(w http.ResponseWriter, refusal *request.Refusal) {
	d.refuseAs(w, plain{}, refusal)
}

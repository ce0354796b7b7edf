package wire

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// deadlineStep is how old a write deadline may get before it is moved: moving it has a cost.
const deadlineStep = 10 * time.Second

// Pieces writes an answer of unknown length piece by piece, each at once. It belongs to one goroutine at a time.
//
// The first piece goes through net/http, which writes the head. Later ones are written as the chunks that net/http would make of
// them, straight to the connection, of which net/http holds nothing back: its layers cost as much as all else that is done for a
// token.
type Pieces struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	conn     Connection // nil: all pieces go through net/http
	begun    bool
	chunks   []byte // not written yet
	deadline time.Time
	latest   time.Time
}

// NewPieces returns what writes the answer to a request. Whoever gets it closes it.
func NewPieces(w http.ResponseWriter, r *http.Request) *Pieces {
	p := &Pieces{w: w, control: http.NewResponseController(w), latest: time.Now()}
	if h := w.Header(); r.ProtoMajor == 1 && r.ProtoMinor >= 1 && r.Method != http.MethodHead && h["Content-Length"] == nil &&
		h["Transfer-Encoding"] == nil { // then net/http makes chunks
		p.conn, _ = r.Context().Value(ConnectionKey{}).(Connection)
	}
	return p
}

// Write writes a piece, and before it what Try has left. An error means that the client is gone: nothing can be written any more.
func (p *Pieces) Write(piece []byte) error {
	p.prepare()
	if p.conn == nil || !p.begun {
		p.begun = true
		if _, err := p.w.Write(piece); err != nil {
			return err
		}
		return p.control.Flush()
	}
	p.add(piece)
	_, err := p.conn.Write(p.chunks)
	p.chunks = p.chunks[:0]
	if err != nil { // net/http must not end an answer that was cut, and learns by an error of its own that the client is gone
		p.conn.Close()
		io.WriteString(p.w, "\n")
		p.control.Flush()
	}
	return err
}

// Tries tells whether Try can be used: not before the first Write, and not where net/http or TLS lies between.
func (p *Pieces) Tries() bool { return p.begun && p.conn != nil && p.conn.Tries() }

// Try is Write without waiting for the client, and leaves what the connection does not take to the next Write; whole tells that
// nothing is left. Errors too are left to the next Write.
func (p *Pieces) Try(piece []byte) (whole bool) {
	p.prepare()
	p.add(piece)
	n := p.conn.Try(p.chunks)
	p.chunks = p.chunks[:copy(p.chunks, p.chunks[n:])]
	return len(p.chunks) == 0
}

// Left tells whether Try has left something to write.
func (p *Pieces) Left() bool { return len(p.chunks) > 0 }

// Latest is when the newest piece was written.
func (p *Pieces) Latest() time.Time { return p.latest }

// Close lets what is written later take as long as it takes.
func (p *Pieces) Close() { p.control.SetWriteDeadline(time.Time{}) }

// prepare notes the time and moves the deadline.
func (p *Pieces) prepare() {
	p.latest = time.Now()
	if p.latest.Sub(p.deadline) > deadlineStep {
		p.deadline = p.latest
		p.control.SetWriteDeadline(p.latest.Add(WriteTimeout))
	}
}

// add adds a piece to the chunks. An empty one would be the last.
func (p *Pieces) add(piece []byte) {
	if len(piece) > 0 {
		p.chunks = append(strconv.AppendInt(p.chunks, int64(len(piece)), 16), "\r\n"...)
		p.chunks = append(append(p.chunks, piece...), "\r\n"...)
	}
}

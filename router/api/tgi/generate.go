package tgi

import (
	"context"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"lockstep/router/api/answer"
	"lockstep/router/api/metrics"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// work is one generate request on its way through the handlers.
type work struct {
	answer.Clock
	form       // stream tells what the body asks for too
	body       *generateBody
	bestOf     int
	fullText   bool
	details    bool
	characters int
}

func (job *work) options() answer.Options {
	o := answer.Options{Stops: job.body.Parameters.Stop, Keep: !job.stream, Follows: job.follows, Behind: true, Prefer: answer.LengthFirst}
	if job.fullText {
		o.Prefix = job.body.Inputs
	}
	return o
}

// readBody reads a body; if that fails it answers, and returns nil.
func (d *Dialect) readBody(w http.ResponseWriter, r *http.Request, f form) *generateBody {
	data, refusal := d.answers.Bodies.ReadJSON(w, r)
	var body *generateBody
	if refusal == nil {
		refusal = d.answers.Bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			body, refusal = decode(data, f)
			return refusal
		})
	}
	if refusal != nil {
		d.refuse(w, refusal, f)
		return nil
	}
	return body
}

// route returns the handler of a generate route.
func (d *Dialect) route(f form) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		if f.untagged && d.serveUntagged(w, r) {
			return
		}
		body := d.readBody(w, r, f)
		if body == nil {
			return
		}
		p := &body.Parameters
		job := &work{
			body: body, Clock: answer.Clock{Started: started, ID: wire.Of(w).ID}, form: f, bestOf: 1,
			details: p.Details || p.DecoderInputDetails, characters: utf8.RuneCountInString(body.Inputs),
			fullText: p.ReturnFullText != nil && *p.ReturnFullText,
		}
		job.stream = f.stream || body.Stream
		if p.ReturnFullText == nil && f.compat {
			tag := ""
			if model := d.answers.Model(); model != nil {
				tag = model.Card.PipelineTag
			}
			job.fullText = tag == "text-generation" || tag == "" && f.fullTextUntagged
		}
		d.answers.Metrics.Received(1)
		if job.stream {
			d.stream(w, r, job)
		} else {
			d.whole(w, r, job)
		}
	}
}

// serveUntagged answers a body of OpenAI's on a route that takes bodies of all kinds.
func (d *Dialect) serveUntagged(w http.ResponseWriter, r *http.Request) bool {
	d.answers.Bodies.Read(w, r) // a refusal is told by who reads it next
	var serve http.HandlerFunc
	d.answers.Bodies.Decode(r.Context(), func() *request.Refusal {
		switch top, _ := wire.Of(w).Members(); {
		case wire.Has(top, "inputs"):
		case wire.Has(top, "messages"):
			serve = d.Chats
		case wire.Has(top, "prompt"):
			serve = d.Completions
		}
		return nil
	})
	if serve != nil {
		serve(w, r)
	}
	return serve != nil
}

// whole answers a generate request with one body.
func (d *Dialect) whole(w http.ResponseWriter, r *http.Request, job *work) {
	runs, refusal := d.generateWhole(r.Context(), job)
	if r.Context().Err() != nil {
		return
	}
	if refusal != nil {
		d.refuse(w, refusal, job.form)
		return
	}
	best := 0
	for i, run := range runs {
		if run.Last.MeanLogprob() > runs[best].Last.MeanLogprob() {
			best = i
		}
	}
	winner := runs[best].Last
	var others []*answer.Generation
	for i, run := range runs {
		if i != best {
			others = append(others, run.Last)
		}
	}
	times := d.answers.Finished(&job.Clock, runs[best])
	h := w.Header()
	times.SetHeaders(h, job.characters)
	h["X-Compute-Time"] = []string{metrics.Milliseconds(times.Total)}
	if job.tokenHeaders {
		h["X-Compute-Time"] = []string{metrics.Seconds(times.Total)}
		metrics.SetTokens(h, winner.PromptTokens, len(winner.Tokens))
	}
	var b []byte
	if job.compat {
		b = append(b, '[')
	}
	b = appendGeneration(b, winner, others, job.details)
	if job.compat {
		b = append(b, ']')
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, b)
}

// generateWhole runs all copies of a request to their ends.
func (d *Dialect) generateWhole(ctx context.Context, job *work) ([]*answer.Run, *request.Refusal) {
	if bestOf := job.body.Parameters.BestOf; bestOf != nil && *bestOf > 1 {
		if refusal := d.validateBestOf(*bestOf); refusal != nil {
			return nil, refusal
		}
		job.bestOf = int(*bestOf)
	}
	if !d.answers.Acquire(job.bestOf) {
		return nil, request.NoRoom
	}
	defer d.answers.Release(job.bestOf)
	r, model, refusal := d.validate(ctx, job.body, job.bestOf)
	if refusal != nil {
		return nil, refusal
	}
	job.Validated = time.Now()
	var runs []*answer.Run
	for i := range job.bestOf {
		copied := *r
		if i > 0 {
			copied.Sampling = resolveSampling(&job.body.Parameters)
		}
		run, refusal := d.answers.Begin(model, &copied, job.options())
		if refusal != nil {
			return nil, refusal
		}
		defer d.answers.Leave(run)
		runs = append(runs, run)
	}
	for _, run := range runs {
		switch refusal, gone := run.Whole(ctx, nil); {
		case gone:
			return nil, request.ClientLeft
		case refusal != nil:
			return nil, refusal
		}
		d.answers.Leave(run)
	}
	return runs, nil
}

// stream answers a generate request with server-sent events. The status is 200 whatever comes: errors are events.
func (d *Dialect) stream(w http.ResponseWriter, r *http.Request, job *work) {
	h := w.Header()
	h["Content-Type"] = []string{wire.EventsType}
	h["Cache-Control"] = []string{"no-cache"}
	h["X-Compute-Type"] = []string{metrics.ComputeType}
	h["X-Compute-Characters"] = []string{strconv.Itoa(job.characters)}
	h["X-Accel-Buffering"] = []string{"no"}
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	out.Flush()
	err := d.streamEvents(w, r, job)
	if err != nil && r.Context().Err() == nil {
		_, _, body := d.describe(job.ID, err, job.form)
		b := append([]byte(job.eventPrefix), body...)
		w.Write(append(b, "\n\n"...))
		out.Flush()
	}
}

// streamEvents writes the events of a generation.
func (d *Dialect) streamEvents(w http.ResponseWriter, r *http.Request, job *work) *request.Refusal {
	if err := validateStream(&job.body.Parameters); err != nil {
		return err
	}
	if !d.answers.Acquire(1) {
		return request.NoRoom
	}
	defer d.answers.Release(1)
	resolved, model, err := d.validate(r.Context(), job.body, 1)
	if err != nil {
		return err
	}
	job.Validated = time.Now()
	run, err := d.answers.Begin(model, resolved, job.options())
	if err != nil {
		return err
	}
	defer d.answers.Leave(run)
	details, index := job.body.Parameters.Details, 0
	return d.answers.Stream(w, r, run, &job.Clock, ":\n\n", func(b []byte, t *answer.Token, last *answer.Generation) []byte {
		index++
		return appendEvent(b, t, last, index, job.form, details)
	})
}

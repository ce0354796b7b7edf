// Package metrics counts and measures what the router does, and tells it to dashboards: under TGI's names, which those made for it
// ask for, under the names that a dialect gives for them, and under our own where they have none. It also tells the load of
// the groups, and of a finished request how long it took.
package metrics

import (
	"bytes"
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// Metrics are TGI's, under its names: dashboards made for it go on working.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	load     func() request.Load
	log      zerolog.Logger

	requests, successes        prometheus.Counter
	failures                   *prometheus.CounterVec
	steps, stepSuccesses       *prometheus.CounterVec
	queued, running, reserved  prometheus.Gauge
	duration, validation       prometheus.Histogram
	queueing, inference        prometheus.Histogram
	perToken                   prometheus.Histogram
	inputLength, maxNewTokens  prometheus.Histogram
	generatedTokens, batchSize prometheus.Histogram
	stepDuration               *prometheus.HistogramVec
	forwardDuration            *prometheus.HistogramVec // nil: not of this version
	firstToken, betweenTokens  prometheus.Histogram     // our own, in seconds
}

// Config says what metrics depend on.
type Config struct {
	MaxInputLength, MaxTotalTokens int    // which buckets fit, as TGI's do
	TGI3                           bool   // the names of TGI 3 are there too
	Build                          string // the version of this program
}

// The labels of TGI's families.
var (
	stepMethods    = []string{"prefill", "decode"}
	failureReasons = []string{"overloaded", "validation", "generation", "incomplete", "unavailable"}
	concatReasons  = []string{"backpressure", "wait_exceeded", "chunking"}
)

// New registers all families, with every label at zero.
func New(config Config) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	f := families{m.registry}
	duration := prometheus.ExponentialBuckets(0.00015000000000000001, 1.5, 35)
	input, total := linearBuckets(config.MaxInputLength, 100), linearBuckets(config.MaxTotalTokens, 100)
	m.requests, m.successes = f.counter("tgi_request_count"), f.counter("tgi_request_success")
	m.failures = f.counters("tgi_request_failure", "err", failureReasons)
	m.steps = f.counters("tgi_batch_inference_count", "method", stepMethods)
	m.stepSuccesses = f.counters("tgi_batch_inference_success", "method", stepMethods)
	m.queued, m.running, m.reserved = f.gauge("tgi_queue_size"), f.gauge("tgi_batch_current_size"), f.gauge("tgi_batch_current_max_tokens")
	m.duration, m.validation = f.histogram("tgi_request_duration", duration), f.histogram("tgi_request_validation_duration", duration)
	m.queueing, m.inference = f.histogram("tgi_request_queue_duration", duration), f.histogram("tgi_request_inference_duration", duration)
	m.perToken = f.histogram("tgi_request_mean_time_per_token_duration", duration)
	m.inputLength, m.maxNewTokens = f.histogram("tgi_request_input_length", input), f.histogram("tgi_request_max_new_tokens", total)
	m.generatedTokens = f.histogram("tgi_request_generated_tokens", total)
	m.batchSize = f.histogram("tgi_batch_next_size", linearBuckets(1024, 1024))
	m.stepDuration = f.histograms("tgi_batch_inference_duration", "method", stepMethods, duration)
	// Our groups do not fail steps, and have no batches that are joined: what TGI's boards ask for here stays at zero.
	f.counters("tgi_batch_inference_failure", "method", stepMethods)
	f.counters("tgi_batch_concat", "reason", concatReasons)
	if config.TGI3 {
		m.forwardDuration = f.histograms("tgi_batch_forward_duration", "method", stepMethods, duration)
		// Nor do they decode text, filter batches or speculate.
		f.histograms("tgi_batch_decode_duration", "method", stepMethods, duration)
		f.histograms("tgi_batch_filter_duration", "method", stepMethods, duration)
		f.histograms("tgi_batch_concat_duration", "method", stepMethods, duration)
		m.registry.MustRegister(prometheus.NewSummary(prometheus.SummaryOpts{Name: "tgi_request_skipped_tokens"}))
	}
	m.firstToken = f.histogram("lockstep_time_to_first_token_seconds", duration)
	m.betweenTokens = f.histogram("lockstep_inter_token_seconds", duration)
	f.gauges("lockstep_build_info", "version", []string{config.Build}).WithLabelValues(config.Build).Set(1)
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{DisableCompression: true})
	return m
}

// linearBuckets are so many equal steps up to a limit.
func linearBuckets(limit, count int) (buckets []float64) {
	for i := range count {
		buckets = append(buckets, float64(limit)/float64(count)*float64(i+1))
	}
	return buckets
}

// families registers what it makes; those with a label have all of its values from the beginning.
type families struct{ registry *prometheus.Registry }

func (f families) counter(name string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name})
	f.registry.MustRegister(c)
	return c
}

func (f families) counters(name, label string, values []string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, []string{label})
	for _, value := range values {
		c.WithLabelValues(value)
	}
	f.registry.MustRegister(c)
	return c
}

func (f families) gauge(name string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name})
	f.registry.MustRegister(g)
	return g
}

func (f families) gauges(name, label string, values []string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name}, []string{label})
	for _, value := range values {
		g.WithLabelValues(value)
	}
	f.registry.MustRegister(g)
	return g
}

func (f families) histogram(name string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Buckets: buckets})
	f.registry.MustRegister(h)
	return h
}

func (f families) histograms(name, label string, values []string, buckets []float64) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Buckets: buckets}, []string{label})
	for _, value := range values {
		h.WithLabelValues(value)
	}
	f.registry.MustRegister(h)
	return h
}

// classLabels are the labels of failures by class; all others are the request's fault.
var classLabels = map[request.Class]string{
	request.Overloaded: "overloaded", request.Generation: "generation", request.Incomplete: "incomplete",
	request.Unavailable: "unavailable",
}

// Watch has the metrics ask for the load whenever they are asked for theirs. It is called once, before they are served.
func (m *Metrics) Watch(load func() request.Load, log zerolog.Logger) {
	m.load, m.log = load, log
	m.registry.MustRegister(loadCollector{load})
}

// Received counts requests.
func (m *Metrics) Received(requests int) { m.requests.Add(float64(requests)) }

// Validated measures a request that will be submitted.
func (m *Metrics) Validated(promptTokens, maxNewTokens int) {
	m.inputLength.Observe(float64(promptTokens))
	m.maxNewTokens.Observe(float64(maxNewTokens))
}

// FirstToken measures the time until a first token.
func (m *Metrics) FirstToken(after time.Duration) { m.firstToken.Observe(after.Seconds()) }

// NextToken measures the time between a token and the one before it.
func (m *Metrics) NextToken(after time.Duration) { m.betweenTokens.Observe(after.Seconds()) }

// Finished counts a request that was answered with so many tokens.
func (m *Metrics) Finished(t Times, tokens int) {
	m.successes.Inc()
	m.duration.Observe(t.Total.Seconds())
	m.validation.Observe(t.Validation.Seconds())
	m.queueing.Observe(t.Queue.Seconds())
	m.inference.Observe(t.Inference.Seconds())
	m.perToken.Observe(t.PerToken.Seconds())
	m.generatedTokens.Observe(float64(tokens))
}

// Failed counts a request that failed.
func (m *Metrics) Failed(class request.Class) {
	m.failures.WithLabelValues(cmp.Or(classLabels[class], "validation")).Inc()
}

// Dispatched counts a batch that goes to a group.
func (m *Metrics) Dispatched(requests int) { m.batchSize.Observe(float64(requests)) }

// Step counts a step of a group, as its frames show it.
func (m *Metrics) Step(prefill bool, duration time.Duration) {
	method := "decode"
	if prefill {
		method = "prefill"
	}
	m.steps.WithLabelValues(method).Inc()
	m.stepSuccesses.WithLabelValues(method).Inc()
	m.stepDuration.WithLabelValues(method).Observe(duration.Seconds())
	if m.forwardDuration != nil {
		m.forwardDuration.WithLabelValues(method).Observe(duration.Seconds())
	}
}

// buffered keeps an answer, so that it can be sent with TGI's headers.
type buffered struct {
	header http.Header
	bytes.Buffer
}

func (b *buffered) Header() http.Header { return b.header }
func (b *buffered) WriteHeader(int)     {}

// gaugeLoad sets the gauges that show the moment at which they are asked for.
func (m *Metrics) gaugeLoad() {
	load := m.load()
	requests, reserved := 0, 0
	for _, g := range load.Groups {
		requests, reserved = requests+g.Requests, reserved+g.ReservedTokens
	}
	m.queued.Set(float64(load.Queued))
	m.running.Set(float64(requests))
	m.reserved.Set(float64(reserved))
}

// Serve answers GET /metrics as TGI does.
func (m *Metrics) Serve(w http.ResponseWriter, r *http.Request) {
	m.gaugeLoad()
	plain := r.Clone(r.Context())
	plain.Header = http.Header{}
	body := &buffered{header: http.Header{}}
	m.handler.ServeHTTP(body, plain)
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	wire.Respond(w, http.StatusOK, "text/plain; charset=utf-8", body.Bytes())
}

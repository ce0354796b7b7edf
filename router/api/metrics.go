package api

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are TGI's, under its names: dashboards made for it go on working.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler

	requests, successes        prometheus.Counter
	failures                   *prometheus.CounterVec
	steps, stepSuccesses       *prometheus.CounterVec
	stepFailures, concats      *prometheus.CounterVec
	queued, running, reserved  prometheus.Gauge
	duration, validation       prometheus.Histogram
	queueing, inference        prometheus.Histogram
	perToken                   prometheus.Histogram
	inputLength, maxNewTokens  prometheus.Histogram
	generatedTokens, batchSize prometheus.Histogram
	stepDuration               *prometheus.HistogramVec
	firstToken, betweenTokens  prometheus.Histogram // our own, in seconds
}

// NewMetrics returns metrics whose buckets fit the limits, as TGI's do.
func NewMetrics(maxInputLength, maxTotalTokens int) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	duration := []float64{0.00015000000000000001}
	for len(duration) < 35 {
		duration = append(duration, duration[len(duration)-1]*1.5)
	}
	steps := func(limit int) (buckets []float64) {
		for i := range 100 {
			buckets = append(buckets, float64(limit)/100*float64(i+1))
		}
		return buckets
	}
	var sizes []float64
	for i := range 1024 {
		sizes = append(sizes, float64(i+1))
	}
	counter := func(name string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name})
		m.registry.MustRegister(c)
		return c
	}
	counters := func(name, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, []string{label})
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name})
		m.registry.MustRegister(g)
		return g
	}
	histogram := func(name string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Buckets: buckets})
		m.registry.MustRegister(h)
		return h
	}
	m.requests, m.successes = counter("tgi_request_count"), counter("tgi_request_success")
	m.failures = counters("tgi_request_failure", "err")
	m.steps, m.stepSuccesses = counters("tgi_batch_inference_count", "method"), counters("tgi_batch_inference_success", "method")
	m.stepFailures, m.concats = counters("tgi_batch_inference_failure", "method"), counters("tgi_batch_concat", "reason")
	m.queued, m.running, m.reserved = gauge("tgi_queue_size"), gauge("tgi_batch_current_size"), gauge("tgi_batch_current_max_tokens")
	m.duration, m.validation = histogram("tgi_request_duration", duration), histogram("tgi_request_validation_duration", duration)
	m.queueing, m.inference = histogram("tgi_request_queue_duration", duration), histogram("tgi_request_inference_duration", duration)
	m.perToken = histogram("tgi_request_mean_time_per_token_duration", duration)
	m.inputLength, m.maxNewTokens = histogram("tgi_request_input_length", steps(maxInputLength)), histogram("tgi_request_max_new_tokens", steps(maxTotalTokens))
	m.generatedTokens, m.batchSize = histogram("tgi_request_generated_tokens", steps(maxTotalTokens)), histogram("tgi_batch_next_size", sizes)
	m.stepDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tgi_batch_inference_duration", Buckets: duration}, []string{"method"})
	m.registry.MustRegister(m.stepDuration)
	m.firstToken = histogram("lockstep_time_to_first_token_seconds", duration)
	m.betweenTokens = histogram("lockstep_inter_token_seconds", duration)
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{DisableCompression: true})
	return m
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
}

// buffered keeps an answer, so that it can be sent with TGI's headers.
type buffered struct {
	header http.Header
	bytes.Buffer
}

func (b *buffered) Header() http.Header { return b.header }
func (b *buffered) WriteHeader(int)     {}

// gaugeLoad sets the gauges that show the moment at which they are asked for.
func (s *Server) gaugeLoad() {
	load := s.backend.Load()
	requests, reserved := 0, 0
	for _, g := range load.Groups {
		requests, reserved = requests+g.Requests, reserved+g.ReservedTokens
	}
	s.metrics.queued.Set(float64(load.Queued))
	s.metrics.running.Set(float64(requests))
	s.metrics.reserved.Set(float64(reserved))
}

// serveMetrics answers GET /metrics.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	s.gaugeLoad()
	plain := r.Clone(r.Context())
	plain.Header = http.Header{}
	body := &buffered{header: http.Header{}}
	s.metrics.handler.ServeHTTP(body, plain)
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	respond(w, http.StatusOK, "text/plain; charset=utf-8", body.Bytes())
}

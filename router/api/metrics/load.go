package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// ServeTokenLoad answers GET /token_load as LightLLM does: what requests hold now, and LightLLM's estimate of the most that
// they will hold at once, as shares of the capacity. With the query "groups" each group's numbers follow.
func (m *Metrics) ServeTokenLoad(w http.ResponseWriter, r *http.Request) {
	held, peak, capacity := 0, 0, 0
	load := m.load()
	for _, g := range load.Groups {
		held, peak, capacity = held+g.HeldTokens, peak+g.PeakTokens, capacity+g.CapacityTokens
	}
	b := appendLoad([]byte{'{'}, held, peak, capacity)
	if !r.URL.Query().Has("groups") {
		wire.Respond(w, http.StatusOK, wire.JSONType, append(b, '}'))
		return
	}
	b = append(b, `,"groups":[`...)
	for i, g := range load.Groups {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"group":`...)
		b = append(wire.AppendText(b, g.Group), ',')
		b = append(appendLoad(b, g.HeldTokens, g.PeakTokens, g.CapacityTokens), '}')
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(b, "]}"...))
}

// appendLoad appends LightLLM's three numbers; the logical one is the dynamic one there too.
func appendLoad(b []byte, held, peak, capacity int) []byte {
	share := func(tokens int) float32 { return float32(tokens) / float32(max(capacity, 1)) }
	b = wire.AppendFloat(append(b, `"current_load":`...), share(held))
	b = wire.AppendFloat(append(b, `,"logical_max_load":`...), share(peak))
	return wire.AppendFloat(append(b, `,"dynamic_max_load":`...), share(peak))
}

// loadCollector shows queue and ledger as metrics of our own, at the moment at which they are asked for.
type loadCollector struct {
	load func() request.Load
}

// totalMetrics and groupMetrics are its tables.
var totalMetrics = []struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	value       func(*request.Load) float64
}{
	{describe("queue_size", "requests that wait"), prometheus.GaugeValue, func(l *request.Load) float64 { return float64(l.Queued) }},
	{describe("queue_expired_total", "requests that waited for as long as they may"), prometheus.CounterValue,
		func(l *request.Load) float64 { return float64(l.Totals.Expired) }},
	{describe("prefix_prompt_tokens_total", "known tokens of requests when they first began"), prometheus.CounterValue,
		func(l *request.Load) float64 { return float64(l.Totals.PromptTokens) }},
	{describe("prefix_hit_tokens_total", "how many of them prefix caches had"), prometheus.CounterValue,
		func(l *request.Load) float64 { return float64(l.Totals.CachedTokens) }},
	{describe("groups_lost_total", "groups that died or fell silent"), prometheus.CounterValue,
		func(l *request.Load) float64 { return float64(l.Totals.GroupsLost) }},
	{describe("requests_resumed_total", "requests that were dispatched again with the tokens that they had"), prometheus.CounterValue,
		func(l *request.Load) float64 { return float64(l.Totals.Resumed) }},
	{describe("ledger_mismatches_total", "how often the ledger began to differ from a group's account"), prometheus.CounterValue,
		func(l *request.Load) float64 { return float64(l.Totals.LedgerMismatches) }},
}

var groupMetrics = []struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	value       func(*request.GroupLoad) int
}{
	{describe("group_capacity_tokens", "size of the group's KV cache", "group"), prometheus.GaugeValue,
		func(g *request.GroupLoad) int { return g.CapacityTokens }},
	{describe("group_held_tokens", "tokens that requests of all routers hold, as the group says", "group"), prometheus.GaugeValue,
		func(g *request.GroupLoad) int { return g.HeldTokens }},
	{describe("group_cached_tokens", "tokens that only the prefix cache holds", "group"), prometheus.GaugeValue,
		func(g *request.GroupLoad) int { return g.CachedTokens }},
	{describe("group_parked_total", "how often a request was parked since the group's start", "group"), prometheus.CounterValue,
		func(g *request.GroupLoad) int { return g.Parked }},
	{describe("group_drafted_tokens_total", "tokens that the group guessed since its start", "group"), prometheus.CounterValue,
		func(g *request.GroupLoad) int { return g.Drafted }},
	{describe("group_accepted_tokens_total", "how many of them were right", "group"), prometheus.CounterValue,
		func(g *request.GroupLoad) int { return g.Accepted }},
	{describe("ledger_requests", "requests of this router at the group", "group"), prometheus.GaugeValue,
		func(g *request.GroupLoad) int { return g.Requests }},
	{describe("ledger_tokens", "tokens that they hold, as the ledger thinks", "group"), prometheus.GaugeValue,
		func(g *request.GroupLoad) int { return g.LedgerTokens }},
	{describe("ledger_reserved_tokens", "tokens that they can come to hold", "group"), prometheus.GaugeValue,
		func(g *request.GroupLoad) int { return g.ReservedTokens }},
	{describe("ledger_peak_tokens", "most tokens that they are estimated to hold at once", "group"), prometheus.GaugeValue,
		func(g *request.GroupLoad) int { return g.PeakTokens }},
	{describe("ledger_error_tokens", "tokens by which the ledger differs from the group's account", "group"), prometheus.GaugeValue,
		func(g *request.GroupLoad) int { return g.ErrorTokens }},
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lockstep_"+name, help, labels, nil)
}

func (c loadCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for i := range totalMetrics {
		descriptions <- totalMetrics[i].description
	}
	for i := range groupMetrics {
		descriptions <- groupMetrics[i].description
	}
}

func (c loadCollector) Collect(metrics chan<- prometheus.Metric) {
	load := c.load()
	for i := range totalMetrics {
		m := &totalMetrics[i]
		metrics <- prometheus.MustNewConstMetric(m.description, m.kind, m.value(&load))
	}
	for g := range load.Groups {
		for i := range groupMetrics {
			m := &groupMetrics[i]
			metrics <- prometheus.MustNewConstMetric(m.description, m.kind, float64(m.value(&load.Groups[g])), load.Groups[g].Group)
		}
	}
}

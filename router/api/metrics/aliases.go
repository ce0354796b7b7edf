package metrics

import (
	"bytes"
	"net/http"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"lockstep/router/api/wire"
)

// Alias gives a measurement the name that another server's dashboards know. The sums of its labels' values count.
type Alias struct {
	// Name is theirs, Of ours.
	Name, Of string
	// Sum takes of a histogram its sum, as a counter.
	Sum bool
	// Unlabelled leaves no labels but the model's; else those of the original are kept.
	Unlabelled bool
}

// ServeAliases returns the handler of a metrics route under other names, with our own metrics behind them.
func (m *Metrics) ServeAliases(aliases []Alias, modelID func() string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m.gaugeLoad()
		families, err := m.registry.Gather()
		if err != nil { // what was gathered is told all the same
			m.log.Error().Err(err).Msg("gathering metrics")
		}
		model := modelID()
		var out bytes.Buffer
		byName := map[string]*dto.MetricFamily{}
		for _, family := range families {
			byName[family.GetName()] = family
		}
		for _, a := range aliases {
			if family := byName[a.Of]; family != nil {
				expfmt.MetricFamilyToText(&out, a.family(family, model))
			}
		}
		for _, family := range families {
			if strings.HasPrefix(family.GetName(), "lockstep_") {
				expfmt.MetricFamilyToText(&out, family)
			}
		}
		wire.Respond(w, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", out.Bytes())
	}
}

// family is the original's under the alias's name.
func (a *Alias) family(original *dto.MetricFamily, model string) *dto.MetricFamily {
	out := &dto.MetricFamily{Name: &a.Name, Type: original.Type}
	key := "model_name"
	label := &dto.LabelPair{Name: &key, Value: &model}
	if a.Sum || a.Unlabelled {
		sum := 0.0
		for _, m := range original.Metric {
			sum += m.GetHistogram().GetSampleSum() + m.GetCounter().GetValue()
		}
		kind := dto.MetricType_COUNTER
		out.Type = &kind
		out.Metric = []*dto.Metric{{Label: []*dto.LabelPair{label}, Counter: &dto.Counter{Value: &sum}}}
		return out
	}
	for _, m := range original.Metric {
		out.Metric = append(out.Metric, &dto.Metric{Label: append([]*dto.LabelPair{label}, m.Label...), Gauge: m.Gauge,
			Counter: m.Counter, Histogram: m.Histogram})
	}
	return out
}

package api

import (
	"bytes"
	"net/http"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"lockstep/router/api/wire"
)

// alias gives a measurement the name that another server's dashboards know. The sums of its labels' values count.
type alias struct {
	name, of string
	// of the histogram: its sum as a counter ("sum"), or itself ("")
	part string
	// without labels but the model's; else the labels of the original are kept
	summed bool
}

// lightLLMNames are LightLLM's metrics as far as there is something to measure; buckets are those of TGI's.
var lightLLMNames = []alias{
	{name: "lightllm_request_count_total", of: "tgi_request_count"},
	{name: "lightllm_request_success_total", of: "tgi_request_success"},
	{name: "lightllm_request_failure_total", of: "tgi_request_failure", summed: true},
	{name: "lightllm_batch_inference_count_total", of: "tgi_batch_inference_count"},
	{name: "lightllm_queue_size", of: "tgi_queue_size"},
	{name: "lightllm_batch_current_size", of: "tgi_batch_current_size"},
	{name: "lightllm_num_running_reqs", of: "tgi_batch_current_size"},
	{name: "lightllm_batch_current_max_tokens", of: "tgi_batch_current_max_tokens"},
	{name: "lightllm_request_duration", of: "tgi_request_duration"},
	{name: "lightllm_request_validation_duration", of: "tgi_request_validation_duration"},
	{name: "lightllm_request_inference_duration", of: "tgi_request_inference_duration"},
	{name: "lightllm_request_mean_time_per_token_duration", of: "tgi_request_mean_time_per_token_duration"},
	{name: "lightllm_request_first_token_duration", of: "lockstep_time_to_first_token_seconds"},
	{name: "lightllm_request_queue_duration_bucket", of: "tgi_request_queue_duration"},
	{name: "lightllm_batch_inference_duration_bucket", of: "tgi_batch_inference_duration"},
	{name: "lightllm_request_input_length", of: "tgi_request_input_length"},
	{name: "lightllm_request_max_new_tokens", of: "tgi_request_max_new_tokens"},
	{name: "lightllm_request_generated_tokens", of: "tgi_request_generated_tokens"},
	{name: "lightllm_batch_next_size", of: "tgi_batch_next_size"},
	{name: "lightllm_prompt_tokens_total", of: "tgi_request_input_length", part: "sum"},
	{name: "lightllm_generation_tokens_total", of: "tgi_request_generated_tokens", part: "sum"},
	{name: "lightllm_batch_pause_size", of: "lockstep_group_parked_total", summed: true},
}

// mindieNames are MindIE's, which are vLLM's without their prefix.
var mindieNames = []alias{
	{name: "request_received_total", of: "tgi_request_count"},
	{name: "request_success_total", of: "tgi_request_success"},
	{name: "request_failed_total", of: "tgi_request_failure", summed: true},
	{name: "num_requests_running", of: "tgi_batch_current_size"},
	{name: "num_requests_waiting", of: "tgi_queue_size"},
	{name: "num_preemptions_total", of: "lockstep_group_parked_total", summed: true},
	{name: "time_to_first_token_seconds", of: "lockstep_time_to_first_token_seconds"},
	{name: "time_per_output_token_seconds", of: "lockstep_inter_token_seconds"},
	{name: "e2e_request_latency_seconds", of: "tgi_request_duration"},
	{name: "request_prompt_tokens", of: "tgi_request_input_length"},
	{name: "request_generation_tokens", of: "tgi_request_generated_tokens"},
	{name: "prompt_tokens_total", of: "tgi_request_input_length", part: "sum"},
	{name: "generation_tokens_total", of: "tgi_request_generated_tokens", part: "sum"},
}

// serveAliases returns the handler of a metrics route under other names, with our own metrics behind them.
func (s *Server) serveAliases(aliases []alias) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.gaugeLoad()
		families, err := s.metrics.registry.Gather()
		if err != nil {
			s.log.Error().Err(err).Msg("gathering metrics")
		}
		model := ""
		if m := s.backend.Model(); m != nil {
			model = m.Card.ModelID
		}
		var out bytes.Buffer
		byName := map[string]*dto.MetricFamily{}
		for _, family := range families {
			byName[family.GetName()] = family
		}
		for _, a := range aliases {
			if family := byName[a.of]; family != nil {
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
func (a *alias) family(original *dto.MetricFamily, model string) *dto.MetricFamily {
	out := &dto.MetricFamily{Name: &a.name, Type: original.Type}
	key := "model_name"
	label := &dto.LabelPair{Name: &key, Value: &model}
	if a.part == "sum" || a.summed {
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
		out.Metric = append(out.Metric, &dto.Metric{Label: append([]*dto.LabelPair{label}, m.Label...), Gauge: m.Gauge, Counter: m.Counter, Histogram: m.Histogram})
	}
	return out
}

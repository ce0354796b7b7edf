package simulate

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"lockstep/shard"
	"lockstep/shard/schedule"
)

// A measured result has the numbers of what was observed, and stands beside a simulated one.
func TestMeasured(t *testing.T) {
	r := NewMeasured("peak", 2)
	r.Observe(100, []float64{0.5, 0.6, 0.9})
	r.Observe(50, []float64{0.25})
	r.Duration = 2
	if r.Completed != 2 || r.InputTokens != 150 || r.OutputTokens != 4 || r.gaps.count != 2 || len(r.tpot.values) != 1 ||
		math.Abs(r.tpot.mean()-0.2) > 1e-6 || math.Abs(r.ttft.mean()-0.375) > 1e-6 || math.Abs(r.e2el.percentile(100)-0.9) > 1e-6 ||
		r.Goodput(Objective{MaxITL: 200}) != 0.5 {
		t.Errorf("got %+v", r)
	}
	simulated := run1(t, options("uniform:20-40:5-9", t))
	var text bytes.Buffer
	WriteComparison(&text, r, simulated)
	for _, want := range []string{"| output tokens/s | 2.0 |", "| TTFT p50, ms | 375.00 |", "| evictions | 0 | 0 | - |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in\n%s", want, text.String())
		}
	}
}

// The gap before a step is part of what it takes.
func TestFitTakesGaps(t *testing.T) {
	records := make([]shard.StepRecord, 40)
	for i := range records {
		records[i] = shard.StepRecord{Cost: schedule.Cost{Decodes: 1 + i%8}, Seconds: 0.004 + 0.001*float64(1+i%8), GapSeconds: 0.0005}
	}
	got, _, _, err := Fit("gaps", records)
	if err != nil || math.Abs(got.Base-0.0045) > 1e-5 || math.Abs(got.Decode-0.001) > 1e-5 {
		t.Errorf("got %+v, %v", got, err)
	}
	records[3].GapSeconds = -1
	if _, _, _, err := Fit("gaps", records); err == nil {
		t.Error("a negative gap was taken")
	}
}

// Pauses do not shape a model, but it says the sum of all durations.
func TestFitKeepsTheSum(t *testing.T) {
	records, sum, modelled := make([]shard.StepRecord, 1000), 0.0, 0.0
	for i := range records {
		records[i] = shard.StepRecord{Cost: schedule.Cost{Decodes: 1 + i%8}, Seconds: 0.004 + 0.001*float64(1+i%8)}
		if i%125 == 0 {
			records[i].Seconds += 0.1
		}
		sum += records[i].Seconds
	}
	got, _, _, err := Fit("pauses", records)
	for i := range records {
		modelled += got.Seconds(&records[i].Cost)
	}
	if err != nil || math.Abs(modelled-sum) > 1e-9 || math.Abs(got.Base-4*got.Decode) > 1e-6 {
		t.Errorf("got %+v, a sum of %v, want %v; %v", got, modelled, sum, err)
	}
}

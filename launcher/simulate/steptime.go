package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"lockstep/shard"
	"lockstep/shard/sim"
)

// ReadStepLog reads what a shard's step log holds.
func ReadStepLog(path string) ([]shard.StepRecord, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var records []shard.StepRecord
	decoder := json.NewDecoder(file)
	for {
		var record shard.StepRecord
		if err := decoder.Decode(&record); errors.Is(err, io.EOF) {
			return records, nil
		} else if err != nil {
			return nil, fmt.Errorf("step log %s, step %d: %w", path, len(records)+1, err)
		}
		records = append(records, record)
	}
}

// terms of a step, in the order of the model's durations.
func terms(r *shard.StepRecord) [5]float64 {
	return [5]float64{1, float64(r.PrefillTokens), float64(r.PrefillPairs), float64(r.Decodes), float64(r.DecodePairs)}
}

// seconds is what a step takes from the loop: its own time, and the gap before it.
func seconds(r *shard.StepRecord) float64 { return r.Seconds + r.GapSeconds }

// fitRounds is how often the fit weighs the records anew; it settles within a few.
const fitRounds = 10

// Fit finds the durations that fit the records best, none below zero. A step's duration includes the gap before it, so that
// simulated steps follow each other as real ones do. A squared error counts by the step's modelled duration, not by the
// measured one: then the sum of all durations is kept, whereas steps that were quick by chance would pull the model below
// the mean. It returns the model and the median and 90th percentile of the relative errors that are left.
func Fit(name string, records []shard.StepRecord) (model sim.StepModel, median, p90 float64, err error) {
	if len(records) < 20 {
		return model, 0, 0, fmt.Errorf("%d steps are too few to fit a model to", len(records))
	}
	// The slowest hundredth are pauses of the machine, which say nothing of the work.
	slowest := newSample()
	work := func(r *shard.StepRecord) float64 { return float64(1 + r.PrefillTokens + r.Decodes) }
	for i := range records {
		if records[i].Seconds <= 0 || records[i].GapSeconds < 0 {
			return model, 0, 0, errors.New("a step took no time, or began before the last one ended")
		}
		slowest.add(seconds(&records[i]) / work(&records[i]))
	}
	limit := slowest.percentile(99)
	expected := make([]float64, len(records))
	for i := range records {
		expected[i] = seconds(&records[i])
	}
	for range fitRounds {
		var normal [5][6]float64
		for i := range records {
			t, duration := terms(&records[i]), seconds(&records[i])
			if duration/work(&records[i]) > limit {
				continue
			}
			for a := range 5 {
				for b := range 5 {
					normal[a][b] += t[a] * t[b] / expected[i]
				}
				normal[a][5] += t[a] * duration / expected[i]
			}
		}
		x := solveNonNegative(normal)
		model = sim.StepModel{Name: name, Base: x[0], PrefillToken: x[1], PrefillPair: x[2], Decode: x[3], DecodePair: x[4]}
		for i := range records {
			expected[i] = max(model.Seconds(&records[i].Cost), shortestStep)
		}
	}
	stretch(&model, records)
	errorsLeft := newSample()
	for i := range records {
		errorsLeft.add(math.Abs(model.Seconds(&records[i].Cost)/seconds(&records[i]) - 1))
	}
	return model, errorsLeft.percentile(50), errorsLeft.percentile(90), nil
}

// stretch lets the model say the sum of what the records took. Pauses of the machine do not shape it, but their time is
// lost all the same: on a busy machine the slowest hundredth can be a tenth of it.
func stretch(m *sim.StepModel, records []shard.StepRecord) {
	measured, modelled := 0.0, 0.0
	for i := range records {
		measured += seconds(&records[i])
		modelled += m.Seconds(&records[i].Cost)
	}
	factor := measured / max(modelled, shortestStep)
	for _, duration := range []*float64{&m.Base, &m.PrefillToken, &m.PrefillPair, &m.Decode, &m.DecodePair} {
		*duration *= factor
	}
}

// shortestStep bounds a record's weight, in seconds: a first round may model a step at 0.
const shortestStep = 1e-6

// solveNonNegative solves the normal equations without those unknowns that would come out below zero: the most negative
// goes first.
func solveNonNegative(normal [5][6]float64) [5]float64 {
	active := [5]bool{true, true, true, true, true}
	for {
		x := solve(normal, active)
		worst := -1
		for a := range x {
			if x[a] < 0 && (worst < 0 || x[a] < x[worst]) {
				worst = a
			}
		}
		if worst < 0 {
			return x
		}
		active[worst] = false
	}
}

// solve solves the normal equations of the active unknowns by elimination; the others, and those that the records say
// nothing about, are 0.
func solve(m [5][6]float64, active [5]bool) (x [5]float64) {
	var order []int
	for column := range 5 {
		if !active[column] || m[column][column] == 0 {
			continue
		}
		pivot := m[column][column]
		for _, earlier := range order {
			factor := m[column][earlier] / m[earlier][earlier]
			for k := range 6 {
				m[column][k] -= factor * m[earlier][k]
			}
		}
		if m[column][column] < 1e-9*pivot {
			continue // no more than a sum of the others
		}
		order = append(order, column)
	}
	for i := len(order) - 1; i >= 0; i-- {
		row := order[i]
		value := m[row][5]
		for _, later := range order[i+1:] {
			value -= m[row][later] * x[later]
		}
		x[row] = value / m[row][row]
	}
	return x
}

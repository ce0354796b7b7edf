package host_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// reference computes the logits of a sequence of one token in float64, straight from the stages: the attention of one
// position is its value, and a rotation by 0 does nothing.
func reference(part *model.Part, token int) []float64 {
	c := part.Config
	row := func(m *model.Matrix, row int) []float64 {
		narrow := make([]float32, m.Columns)
		m.Encoding.Decode(narrow, m.Row(row))
		return wide(narrow)
	}
	multiply := func(l *model.Linear, x []float64) []float64 {
		out := make([]float64, l.Rows.Size())
		for i := range out {
			for j, w := range row(&l.Matrix, l.Rows.From+i) {
				out[i] += w * x[j]
			}
			if l.Bias != nil {
				out[i] += float64(l.Bias[i])
			}
		}
		return out
	}
	norm := func(n *model.Norm, x []float64) []float64 {
		squares, out := 0.0, make([]float64, len(x))
		for _, v := range x {
			squares += v * v
		}
		for i, v := range x {
			out[i] = v / math.Sqrt(squares/float64(len(x))+float64(n.Epsilon)) * float64(n.Weight[i])
		}
		return out
	}
	var stream, normed, left []float64
	for _, stage := range part.Stages {
		switch s := stage.(type) {
		case *model.Embed:
			stream = row(&s.Table, token)
			for i := range stream {
				if s.Scale != 0 {
					stream[i] *= float64(s.Scale)
				}
			}
			normed = norm(&s.Norm, stream)
		case *model.Project:
			values := multiply(&s.Value, normed)
			left = nil
			for head := range c.Heads {
				at := head / (c.Heads / c.KVHeads) * c.HeadDim
				left = append(left, values[at:at+c.HeadDim]...)
			}
		case *model.Gate:
			gate, up := multiply(&s.Gate, normed), multiply(&s.Up, normed)
			for i, v := range gate {
				gate[i] = v / (1 + math.Exp(-v)) * up[i]
			}
			left = gate
		case *model.Join:
			sum := multiply(&s.Weight, left)
			if s.PartNorm.Weight != nil {
				sum = norm(&s.PartNorm, sum)
			}
			for i, v := range sum {
				stream[i] += v
			}
			normed = norm(&s.Norm, stream)
		case *model.Head:
			return multiply(&s.Weight, normed)
		}
	}
	return nil
}

func wide(narrow []float32) (wide []float64) {
	for _, v := range narrow {
		wide = append(wide, float64(v))
	}
	return wide
}

// What stages may say beyond today's families is computed as it says: scaled embeddings, and norms of what a sublayer gives.
func TestScaledEmbeddingsAndPartNorms(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for name, change := range map[string]func(part *model.Part){
		"as it is": func(*model.Part) {},
		"scaled":   func(part *model.Part) { part.Stages[0].(*model.Embed).Scale = 7 },
		"sandwiched": func(part *model.Part) {
			for _, stage := range part.Stages {
				if join, ok := stage.(*model.Join); ok {
					join.PartNorm = model.Norm{Epsilon: 1e-3, Weight: make([]float32, part.Config.Hidden)}
					for i := range join.PartNorm.Weight {
						join.PartNorm.Weight[i] = random.Float32() + 0.5
					}
				}
			}
		},
	} {
		source, _ := modeltest.Open(t, "llama_gqa_9q3kv")
		part, err := source.Part(0, 1)
		if err != nil {
			t.Fatal(err)
		}
		change(part)
		for _, kernels := range cpu.Available() {
			got, want := alone(t, part, kernels, 42), reference(part, 42)
			spread := 0.0
			for _, v := range want {
				spread += v * v / float64(len(want))
			}
			for i, w := range want {
				if d := math.Abs(float64(got[i]) - w); !(d <= 1e-3*math.Sqrt(spread)) {
					t.Fatalf("%s, %s: logit %d is %v, want %v", name, kernels.Name(), i, got[i], w)
				}
			}
		}
	}
}

// alone computes the logits of one token on one rank.
func alone(t *testing.T, part *model.Part, kernels *cpu.Kernels, token int32) (logits []float32) {
	t.Helper()
	team := workers.New(1, nil)
	defer team.Close()
	b, err := host.Load(part, team, kernels, func(float64) {})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	reduce, gather := b.ExchangeFloats(1)
	group, err := collective.Open(nil, 0, collective.Sizes{Ranks: 1, ReduceFloats: reduce, GatherFloats: gather, PlanBytes: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	if err := b.Attach(group, 1, 1); err != nil {
		t.Fatal(err)
	}
	chunk := model.Chunk{Tokens: []int32{token}, PromptTokens: 1, Blocks: []int32{0}, Fresh: 1, Logits: model.LogitsLast}
	if err := b.Forward([]model.Chunk{chunk}, func(s model.Scores) { logits = append(logits, s.Row(0)...) }); err != nil {
		t.Fatal(err)
	}
	return logits
}

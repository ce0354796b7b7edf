package masks_test

import (
	"testing"

	"lockstep/protocol/guide"
	"lockstep/protocol/guide/cases"
	"lockstep/protocol/outside"
	"lockstep/shard/masks"
)

// BenchmarkFirstMask compiles the reference schemas up to their first mask with Llama-3's vocabulary; scripts/guides compares it.
func BenchmarkFirstMask(b *testing.B) {
	v := vocabularyOf(b, "llama3", 128256, nil)
	var sources []guide.Source
	for _, c := range outside.Lines[cases.Case](b, outside.Shared(b, "golden", "guided", "schema_cases.jsonl")) {
		source := c.Source()
		source.WhiteSpace = guide.Any
		if _, err := guide.Compile(source); err == nil {
			sources = append(sources, source)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, source := range sources {
			program, _ := guide.Compile(source)
			if _, err := masks.New(v, program).Mask(&masks.Place{}, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(sources)), "us/schema")
}

// BenchmarkMasks finds the masks along the reference schemas' texts, each text on a guide that has found out nothing yet.
func BenchmarkMasks(b *testing.B) {
	v := vocabularyOf(b, "llama3", 128256, nil)
	var programs []*guide.Program
	var texts [][][]int32
	tokenizer := tokenizerOf(b, "llama3")
	for _, c := range outside.Lines[cases.Case](b, outside.Shared(b, "golden", "guided", "schema_cases.jsonl")) {
		program, err := guide.Compile(c.Source())
		if err != nil {
			continue
		}
		var accepted [][]int32
		for _, instance := range c.Instances {
			if ids, err := tokenizer.Encode(instance.Text, false); err == nil && instance.Accept {
				accepted = append(accepted, ids)
			}
		}
		programs, texts = append(programs, program), append(texts, accepted)
	}
	b.ReportAllocs()
	found := 0
	for b.Loop() {
		for i, program := range programs {
			for _, ids := range texts[i] {
				g := masks.New(v, program)
				var place masks.Place
				for n := range ids {
					_, _ = g.Mask(&place, ids[:n]) // a text may hold a special token
					found++
				}
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(found), "us/mask")
}

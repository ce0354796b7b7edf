package text_test

import (
	"os"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/outside"
	"lockstep/protocol/text"
)

// benchText is prose with numbers, code and other scripts, cut to count bytes at a character.
func benchText(count int) string {
	const unit = "The router keeps a table of 128 groups, and each group's leader answers within 250 ms.\n" +
		"for i := range items {\n\tif items[i].weight > best { best = items[i].weight }\n}\n" +
		"Il n'y a pas de mémoire partagée; größere Antworten dauern länger. 模型在每个节点上运行。 Привет, мир!\n" +
		"Don't worry: it's only a test, they're retried at most three times (see section 4.2).\n\n"
	return strings.ToValidUTF8(strings.Repeat(unit, count/len(unit)+1)[:count], "")
}

func BenchmarkEncode(b *testing.B) {
	for _, name := range goldenNames() {
		b.Run(name, func(b *testing.B) {
			tokenizer := newTokenizer(b, goldenJSON(b, name))
			input := benchText(1000)
			b.SetBytes(int64(len(input)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tokenizer.Encode(input, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, name := range goldenNames() {
		b.Run(name, func(b *testing.B) {
			data := goldenJSON(b, name)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := text.New(protocol.TokenizerSource{HuggingFace: data}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStream(b *testing.B) {
	data, err := os.ReadFile(outside.Shared(b, "demo_model", "model", "tokenizer.json"))
	if err != nil {
		b.Fatal(err)
	}
	tokenizer := newTokenizer(b, data)
	ids, err := tokenizer.Encode(benchText(4000), false)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		stream := tokenizer.NewStream(ids[:8])
		for _, id := range ids[8:] {
			stream.Next(id)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ids)-8), "ns/token")
}

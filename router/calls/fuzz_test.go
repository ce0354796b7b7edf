package calls_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"lockstep/router/calls"
)

var formatNames = []string{"hermes", "qwen3_coder", "llama3_json", "pythonic", "mistral", "mistral_v11", "deepseek_v3", "deepseek_v31",
	"internlm2", "phi4_mini", "generic"}

// FuzzParser wants of any text that it comes out the same however it is cut, and that nothing of it is lost: but for white space,
// reasoning and content with the marks of reasoning are the text, or its beginning if calls follow.
func FuzzParser(f *testing.F) {
	for _, c := range readGolden(f) {
		for i, name := range formatNames {
			if name == c.Family {
				f.Add(byte(i), c.Think != nil, c.Think != nil && c.Think.StartsInside, c.FinishReasonIn == "length", c.Text, uint64(1))
			}
		}
	}
	f.Fuzz(func(t *testing.T, format byte, thinks, inside, cut bool, text string, seed uint64) {
		options := options(t, formatNames[int(format)%len(formatNames)])
		if thinks {
			options.Reasoning = calls.Reasoning{Start: think.Start, End: think.End, Inside: inside}
		}
		want, err := listen(options, cut, text)
		if err != nil {
			t.Fatal(err)
		}
		pieces := pieces(rand.New(rand.NewPCG(seed, 0)), text)
		if got, err := listen(options, cut, pieces...); !reflect.DeepEqual(got, want) || err != nil {
			t.Fatalf("cut into %q:\n got %+v and error %v\nwant %+v", pieces, got, err, want)
		}
		if !accounted(&want, narrow(text)) {
			t.Fatalf("%q\ngot %+v, which is not all of it", text, want)
		}
		for _, call := range want.calls {
			if options.Format.Name() == "qwen3_coder" && !cut && !json.Valid([]byte(call.arguments)) {
				t.Fatalf("%q\ngot arguments that are no JSON: %s", text, call.arguments)
			}
		}
	})
}

// narrow takes white space out.
func narrow(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

func accounted(s *spoken, text string) bool {
	reasoning, content := narrow(s.reasoning), narrow(s.content)
	for _, start := range []string{"", think.Start} {
		for _, end := range []string{"", think.End} {
			said := start + reasoning + end + content
			if said == text || len(s.calls) > 0 && strings.HasPrefix(text, said) {
				return true
			}
		}
	}
	return false
}

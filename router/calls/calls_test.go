package calls_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"lockstep/router/calls"
)

var tools = []calls.Tool{
	{Name: "now"},
	{Name: "search", Parameters: json.RawMessage(`{"type":"object","properties":{"query":{"type":"string"},"top_k":{"type":"integer"},` +
		`"tags":{"type":"array"},"deep":{"$ref":"#/$defs/deep"},"note":{"type":["string","null"]},"size":{"anyOf":[{"type":"number"},` +
		`{"enum":["big"]}]},"sure":{"type":"boolean"}},"$defs":{"deep":{"type":"object"}}}`)},
	{Name: "send-mail"},
}

func options(t testing.TB, format string) calls.Options {
	t.Helper()
	f, err := calls.Named(format)
	if err != nil {
		t.Fatal(err)
	}
	return calls.Options{Format: f, Tools: tools}
}

var think = calls.Reasoning{Start: "<think>", End: "</think>"}

// String writes an answer as the tables below have it: reasoning in parentheses, content, and calls by their names.
func (s spoken) String() string {
	var b strings.Builder
	if s.reasoning != "" {
		fmt.Fprintf(&b, "(%s)", s.reasoning)
	}
	b.WriteString(s.content)
	for _, call := range s.calls {
		fmt.Fprintf(&b, "|%s:%s", call.name, call.arguments)
	}
	return b.String()
}

type row struct{ text, want string }

func checkRows(t *testing.T, options calls.Options, cut bool, rows []row) {
	t.Helper()
	for _, r := range rows {
		got, err := listen(options, cut, r.text)
		if got.String() != r.want || err != nil {
			t.Errorf("%s, %q:\n got %q and error %v\nwant %q", options.Format.Name(), r.text, got, err, r.want)
		}
	}
}

func TestHermes(t *testing.T) {
	checkRows(t, options(t, "hermes"), false, []row{
		{"Hm.\n\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>", "Hm.|now:{}"},
		{`<tool_call>{"name":"a","arguments":{"x": "}]\"{"}}</tool_call>` + "\n" + `<tool_call>{"name":"b","arguments":{}}</tool_call> Bye.`,
			`|a:{"x": "}]\"{"}|b:{}`},
		{`<tool_call>{"arguments": {"x": [1]}, "name": "unknown"}`, `|unknown:{"x": [1]}`},
		{`<tool_call>{"id": 7, "more": {"name": [1]}, "name": "a", "arguments": {"x":1}, "z": "…"}`, `|a:{"x":1}`},
		{`<tool_call>{"name": "a", "arguments": "{\"x\": \"\\n\"}"}</tool_call>`, `|a:{"x": "\n"}`},
		{`<tool_call>{"name": "a", "arguments": null}</tool_call><tool_call>{"name": "b"}</tool_call>`, `|a:{}|b:{}`},
		{`<tool_call>{"name": "a\u0062", "arguments": {"x": }}</tool_call>`, `|ab:{"x": }`},
		{`<tool_call>[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]</tool_call>`, `|a:{}|b:{}`},
		{`<tool_call>{"name": "a", "arguments": {}}</tool_call><tool_call>no</tool_call>`, `|a:{}`},
		{`<tool_call>{"name": "a", "arguments": {"x": "<"</tool_call><tool_call>{"name": "b"}</tool_call>`, `|a:{"x": "<"|b:{}`},
		{"Say <tool_call> and <tool_call>{\"name\": \"a\", \"arguments\": {}}", "Say <tool_call> and|a:{}"},
		{"<tool_call>\n{\"name\": \"\", \"arguments\": {}}", "<tool_call>\n{\"name\": \"\", \"arguments\": {}}"},
		{`<tool_call>{"name": "a", "arguments": [1]}`, `<tool_call>{"name": "a", "arguments": [1]}`},
		{`<tool_call>{"name": "a", "argu`, `<tool_call>{"name": "a", "argu`},
		{"a <tool_cal\n\n", "a <tool_cal\n\n"},
		{" \n ", " \n "},
		{`{"name": "now", "arguments": {}}`, "|now:{}"},
		{"```json\n{\"name\": \"now\", \"arguments\": {}}\n```", "|now:{}"},
		{"```\n{\"name\": \"now\", \"arguments\": {}}\n```", "|now:{}"},
		{"```json\n{\"name\": \"other\", \"arguments\": {}}\n```", "```json\n{\"name\": \"other\", \"arguments\": {}}\n```"},
		{"```python\nnow()\n```", "```python\nnow()\n```"},
	})
	checkRows(t, options(t, "hermes"), true, []row{
		{`<tool_call>{"name": "a", "argu`, `|a:`},
		{`<tool_call>{"name": "a", "arguments": {"x": "y`, `|a:{"x": "y`},
		{`<tool_call>{"na`, `<tool_call>{"na`},
		{`<tool_call>{"arguments": {"x": 1}`, `<tool_call>{"arguments": {"x": 1}`},
	})
}

func TestBareObjects(t *testing.T) {
	for _, format := range []string{"llama3_json", "generic"} {
		checkRows(t, options(t, format), false, []row{
			{"\n {\"name\": \"now\", \"parameters\": {}}", "|now:{}"},
			{`{"type": "function", "name": "search", "parameters": {"query": "a"}}; {"name": "now", "arguments": null} and`,
				`|search:{"query": "a"}|now:{}`},
			{`{"parameters": {"query": 1}, "name": "search"}`, `|search:{"query": 1}`},
			{`{"name": "unknown", "parameters": {}}`, `{"name": "unknown", "parameters": {}}`},
			{`{"name": "now"}`, `{"name": "now"}`},
			{`{"name": "now", "age": {}}`, `{"name": "now", "age": {}}`},
			{`{"answer": "x", "name": "now", "parameters": {}}`, `{"answer": "x", "name": "now", "parameters": {}}`},
			{`So: {"name": "now", "parameters": {}}`, `So: {"name": "now", "parameters": {}}`},
			{`{"name": "now", "parameters": {}}; {"name": "unknown", "parameters": {}}`, `|now:{}`},
		})
		checkRows(t, options(t, format), true, []row{
			{`{"name": "now", "param`, `{"name": "now", "param`},
			{`{"name": "search", "parameters": {"q`, `|search:{"q`},
		})
	}
	checkRows(t, options(t, "llama3_json"), false, []row{
		{`Well.<|python_tag|>{"name": "unknown", "parameters": {}}`, `Well.|unknown:{}`},
		{`<|python_tag|>print(1)`, `<|python_tag|>print(1)`},
		{`[{"name": "now", "parameters": {}}]`, `[{"name": "now", "parameters": {}}]`},
	})
	checkRows(t, options(t, "generic"), false, []row{
		{`[{"name": "now", "arguments": {}}, {"name": "search", "arguments": {}}]`, `|now:{}|search:{}`},
		{`[1, 2]`, `[1, 2]`},
	})
}

func TestMistral(t *testing.T) {
	for _, format := range []string{"mistral", "mistral_v11"} {
		checkRows(t, options(t, format), false, []row{
			{`Hm. [TOOL_CALLS] [{"name": "a", "arguments": {"x": "]"}, "id": "123456789"}, {"name": "b", "arguments": {}}]`,
				`Hm.|a:{"x": "]"}|b:{}`},
			{`[TOOL_CALLS]a[ARGS]{"x": 1}[TOOL_CALLS]b-2[CALL_ID]123456789[ARGS]{}`, `|a:{"x": 1}|b-2:{}`},
			{`[TOOL_CALLS]a{"x": 1}`, `|a:{"x": 1}`},
			{`[TOOL_CALLS]{}`, `[TOOL_CALLS]{}`},
			{`[TOOL_CALLS][]`, `[TOOL_CALLS][]`},
			{`[TOOL_CALLS]that is a mark[ARGS]{}`, `[TOOL_CALLS]that is a mark[ARGS]{}`},
			{`[TOOL_CALLS]a[ARGS]1`, `[TOOL_CALLS]a[ARGS]1`},
		})
		checkRows(t, options(t, format), true, []row{{`[TOOL_CALLS]a[AR`, `|a:`}, {`[TOOL_CALLS]a`, `[TOOL_CALLS]a`}})
	}
}

func TestDeepseek(t *testing.T) {
	const begin, call, sep, end = "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
	for _, format := range []string{"deepseek_v3", "deepseek_v31"} {
		checkRows(t, options(t, format), false, []row{
			{"Hm." + begin + call + "function" + sep + "a\n```json\n{\"x\": 1}\n```" + end + "\n" + call + "function" + sep +
				"b\n```json\n{}\n```" + end + "<｜tool▁calls▁end｜>", `Hm.|a:{"x": 1}|b:{}`},
			{begin + call + "a" + sep + "{\"x\": 1}" + end + call + "b" + sep + "{}" + end + "<｜tool▁calls▁end｜>", `|a:{"x": 1}|b:{}`},
			{begin + "no", begin + "no"},
			{begin + call + "a" + sep + "{\"x\": 1" + end + call + "b" + sep + "{}", `|a:{"x": 1|b:{}`},
			{begin + begin + call + "a" + sep + "{}", begin + "|a:{}"},
			{begin + call + "function" + sep + "a\nno", begin + call + "function" + sep + "a\nno"},
		})
		checkRows(t, options(t, format), true, []row{{begin + call + "function" + sep + "a\n```js", `|a:`}})
	}
}

func TestInternLM2AndPhi4(t *testing.T) {
	checkRows(t, options(t, "internlm2"), false, []row{
		{"Hm.\n<|action_start|><|plugin|>\n{\"name\": \"a\", \"parameters\": {\"x\": 1}}<|action_end|>\n", `Hm.|a:{"x": 1}`},
		{"<|action_start|><|interpreter|>\nprint(1)<|action_end|>", "<|action_start|><|interpreter|>\nprint(1)<|action_end|>"},
	})
	checkRows(t, options(t, "phi4_mini"), false, []row{
		{`functools[{"name": "a", "arguments": {"x": ["]"]}}, {"name": "b", "arguments": {}}]`, `|a:{"x": ["]"]}|b:{}`},
		{`functools[0] of Python's functools[`, `functools[0] of Python's functools[`},
	})
}

func TestXML(t *testing.T) {
	value := func(key, value string) string { return "<parameter=" + key + ">\n" + value + "\n</parameter>\n" }
	call := func(values ...string) string {
		return "<tool_call>\n<function=search>\n" + strings.Join(values, "") + "</function>\n</tool_call>"
	}
	checkRows(t, options(t, "qwen3_coder"), false, []row{
		{"Hm.\n" + call() + "\n" + call(value("query", "a\n \"b\" </p>\n\n")), `Hm.|search:{}|search:{"query": "a\n \"b\" </p>\n\n"}`},
		{call(value("query", "5"), value("top_k", "5"), value("sure", "True"), value("other", "6")),
			`|search:{"query": "5", "top_k": 5, "sure": true, "other": "6"}`},
		{call(value("note", "null"), value("top_k", "null"), value("query", "null")), `|search:{"note": null, "top_k": null, "query": "null"}`},
		{call(value("note", `"a"`), value("top_k", "many"), value("size", "big"), value("size", "1.5")),
			`|search:{"note": "\"a\"", "top_k": "many", "size": "big", "size": 1.5}`},
		{call(value("deep", "{\"a\":\n[1]}"), value("deep", "{'a': None}"), value("deep", "{a}"), value("tags", "[]")),
			"|search:{\"deep\": {\"a\":\n[1]}, \"deep\": {\"a\": null}, \"deep\": \"{a}\", \"tags\": []}"},
		{"<function=unknown><parameter=x>1</parameter></function>", `|unknown:{"x": "1"}`},
		{"<tool_call><function=now><parameter=x>1</parameter></tool_call>", `|now:{"x": "1"}`},
		{"<tool_call><function=now><parameter=x>1</parameter> so", `|now:{"x": "1"}`},
		{"<tool_call><function=now><parameter=x>1", `|now:{"x": "1"}`},
		{"<tool_call>\n<function=now>\n</tool_call>", "<tool_call>\n<function=now>\n</tool_call>"},
		{"<tool_call>{}", "<tool_call>{}"},
		{"<tool_call><tool_call>" + call(), "<tool_call><tool_call>|search:{}"},
		{"<function=now><parameter=x>1</parameter>" + call(), `|now:{"x": "1"}|search:{}`},
		{"<function=a b></function>", "<function=a b></function>"},
	})
	checkRows(t, options(t, "qwen3_coder"), true, []row{
		{"<function=search><parameter=query>\nab\n</par", `|search:{"query": "ab`},
		{"<function=search><parameter=deep>\n{\"a\":", `|search:{"deep": {"a":`},
		{"<function=search>", `|search:`},
	})
}

func TestPythonic(t *testing.T) {
	checkRows(t, options(t, "pythonic"), false, []row{
		{` [search(query='it\'s "x"\n\x41\u00e9\U0001F600\q', top_k=-1_0, tags=["a", ('b', 1.5,), {}], deep={"a": {1: None}},)]`,
			`|search:{"query": "it's \"x\"\n\u0041\u00e9😀\\q", "top_k": -10, "tags": ["a", ["b", 1.5], {}], "deep": {"a": {"1": null}}}`},
		{`[now(), send_mail(sure=True), now( ) , send-mail (x = "" , y='''a'
b''')]`, `|now:{}|send_mail:{"sure": true}|now:{}|send-mail:{"x": "", "y": "a'\nb"}`},
		{`[now(), now()]`, `|now:{}|now:{}`},
		{`<|python_start|>[unknown()]<|python_end|>`, `|unknown:{}`},
		{`[search(query="a"), unknown(x=1)]`, `|search:{"query": "a"}`},
		{`[search(query="a", top_k=x)]`, `|search:{"query": "a", "top_k": `},
		{`[unknown()]`, `[unknown()]`},
		{`[now()](x)`, `[now()](x)`},
		{`[now(), 5]`, `[now(), 5]`},
		{`[now("a")]`, `[now("a")]`},
		{`[search(query=a)]`, `[search(query=a)]`},
		{`[search(query="a" + "b")]`, `[search(query="a" + "b")]`},
		{`[search(tags={1, 2})]`, `[search(tags={1, 2})]`},
		{`[search(tags=[1)]`, `[search(tags=[1)]`},
		{`[search(`, `[search(`},
		{`[]`, `[]`},
		{`So [now()]`, `So [now()]`},
	})
	checkRows(t, options(t, "pythonic"), true, []row{
		{`[search(query="a`, `|search:{"query": "a`},
		{`[search(query="a", top_k=1`, `|search:{"query": "a", "top_k": `},
		{`[now(`, `[now(`},
	})
	long := strings.Repeat("x", 1<<17)
	checkRows(t, options(t, "pythonic"), false, []row{{`[search(query="` + long + `")]`, `|search:{"query": "` + long + `"}`}})
}

func TestReasoning(t *testing.T) {
	outside := options(t, "hermes")
	outside.Reasoning = think
	inside := outside
	inside.Reasoning.Inside = true
	const call = `<tool_call>{"name": "now", "arguments": {}}</tool_call>`
	checkRows(t, outside, false, []row{
		{"\n<think>\na < b </thin\n</think>\n\nHi " + call, "(a < b </thin)Hi|now:{}"},
		{"<think>" + call + "</think>" + call, "(" + call + ")|now:{}"},
		{"<think></think>\n\nHi <think>x</think>", "Hi <think>x</think>"},
		{"<think>\nand so on", "(and so on)"},
		{"Hi <think>x</think>", "Hi <think>x</think>"},
		{"<thin", "<thin"},
		{strings.Repeat(" ", 2000) + "<think>", strings.Repeat(" ", 2000) + "<think>"},
	})
	checkRows(t, inside, false, []row{
		{"\na\n</think>\n\nHi", "(a)Hi"},
		{"<think>a</think>Hi", "(a)Hi"},
		{"</think>Hi", "Hi"},
		{"a", "(a)"},
	})
	bare := options(t, "llama3_json")
	bare.Reasoning = think
	checkRows(t, bare, false, []row{{"<think>a</think>\n{\"name\": \"now\", \"parameters\": {}}", "(a)|now:{}"}})
	got, err := listen(calls.Options{Reasoning: think}, false, "<think>a</think>"+call)
	if want := "(a)" + call; got.String() != want || err != nil {
		t.Errorf("without a format: got %q and error %v, want %q", got, err, want)
	}
}

// Only what may become a marker is held back, and what is certain comes at once.
func TestHeldBack(t *testing.T) {
	parser := calls.NewParser(options(t, "hermes"))
	var got []string
	for _, piece := range []string{"a <", "b ", "\n", "c<tool", "_call>", `{"name": "se`, `arch", "arguments": `, `{"x`, `": 1}`, `}`} {
		var s spoken
		for _, d := range parser.Add(piece) {
			if d.Call != nil {
				s.calls = append(s.calls, said{d.Call.Name, d.Call.Arguments})
			}
			s.content += d.Content
		}
		got = append(got, s.String())
	}
	want := []string{"a", " <b", "", " \nc", "", "", "", `|search:{"x`, `|:": 1}`, ""}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// What a rule of the format holds back has an end.
func TestBounds(t *testing.T) {
	long := strings.Repeat("x", 1<<18)
	for _, text := range []string{
		`<tool_call>{"` + long, `<tool_call>{"name": "` + long, `<tool_call>{"more": "` + long, `<tool_call>{"arguments": {"` + long,
		"Hi" + strings.Repeat(" ", 1<<18),
	} {
		parser := calls.NewParser(options(t, "hermes"))
		var s spoken
		if err := s.add(parser.Add(text)); err != nil || len(text)-len(s.content) > 1<<10 {
			t.Errorf("%.30q: got %d of %d bytes and error %v", text, len(s.content), len(text), err)
		}
	}
}

// However the text is cut, the same comes out of it.
func TestCuts(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 0))
	for _, c := range readGolden(t) {
		options, cut := c.options(t), c.FinishReasonIn == "length"
		want, err := listen(options, cut, c.Text)
		if err != nil {
			t.Errorf("%s: %v", c.ID, err)
		}
		for range 20 {
			pieces := pieces(random, c.Text)
			if got, err := listen(options, cut, pieces...); !reflect.DeepEqual(got, want) || err != nil {
				t.Errorf("%s, seed %d, cut into %q:\n got %+v and error %v\nwant %+v", c.ID, seed, pieces, got, err, want)
			}
		}
		checkCertain(t, &c)
	}
}

// pieces cuts a text at any places between characters.
func pieces(random *rand.Rand, text string) []string {
	var pieces []string
	for mean := 1 + random.IntN(20); text != ""; {
		n := min(1+random.IntN(2*mean), len(text))
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n++
		}
		pieces, text = append(pieces, text[:n]), text[n:]
	}
	return pieces
}

// checkCertain wants of content, after every character, all that can no longer begin a marker, without white space at its end.
func checkCertain(t *testing.T, c *goldenCase) {
	t.Helper()
	if c.Content == nil || c.Think != nil || len(c.Alternatives) > 0 || strings.ContainsAny(c.Text[:1], "[{") {
		return
	}
	parser := calls.NewParser(c.options(t))
	content, given := "", ""
	for _, character := range c.Text {
		given += string(character)
		for _, d := range parser.Add(string(character)) {
			content += d.Content
		}
		certain := given
		for _, marker := range c.Markers {
			if i := strings.Index(certain, marker); i >= 0 {
				certain = certain[:i]
			}
			for n := range len(marker) {
				if strings.HasSuffix(given, marker[:n]) {
					certain = certain[:min(len(certain), len(given)-n)]
				}
			}
		}
		if certain = strings.TrimRight(certain, " \n\t"); len(content) < len(certain) {
			t.Fatalf("%s: after %q got only %q", c.ID, given, content)
		}
	}
}

// Markers that begin over and over cost no more than other text: were any of it read again, this would not end in time.
func TestLinear(t *testing.T) {
	for _, format := range formatNames {
		for _, unit := range []string{"<", "<tool_call>", "<｜tool▁calls▁begin｜>", `<tool_call>{"name": "a", `, "[", "[TOOL_CALLS][{",
			"functools[", "<function=a><parameter=b>", "[now(),", "<think>", "</think", `{"parameters": {`, " "} {
			options := options(t, format)
			options.Reasoning = think
			parser := calls.NewParser(options)
			for range (1 << 16) / len(unit) {
				parser.Add(unit)
			}
			parser.End(false)
		}
	}
}

func TestNames(t *testing.T) {
	for alias, want := range map[string]string{"qwen25": "hermes", "qwen": "hermes", "hermes": "hermes", "qwen3_xml": "qwen3_coder",
		"llama3": "llama3_json", "llama4_pythonic": "pythonic", "deepseekv3": "deepseek_v3", "deepseekv31": "deepseek_v31",
		"internlm": "internlm2", "internlm2-protocol": "internlm2", "phi4_mini_json": "phi4_mini", "generic": "generic"} {
		if format, err := calls.Named(alias); err != nil || format.Name() != want {
			t.Errorf("%s: got %v and error %v, want %s", alias, format, err, want)
		}
	}
	if _, err := calls.Named("gpt"); err == nil || !strings.Contains(err.Error(), "deepseek_v31") {
		t.Errorf("got error %v, want one with the names that are known", err)
	}
	for alias, want := range map[string]string{"deepseek_r1": "</think>", "qwen3": "</think>", "mistral": "[/THINK]", "none": ""} {
		if r, err := calls.NamedReasoning(alias); err != nil || r.End != want {
			t.Errorf("%s: got %+v and error %v, want the end %q", alias, r, err, want)
		}
	}
	if _, err := calls.NamedReasoning("gpt"); err == nil || !strings.Contains(err.Error(), "granite") {
		t.Errorf("got error %v, want one with the names that are known", err)
	}
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		template  string
		tokens    []string
		want, end string
	}{
		{"", nil, "generic", ""},
		{"{% if functools %}", nil, "phi4_mini", ""},
		{"", []string{"functools", "<function="}, "generic", ""},
		{"<tool_call>", []string{"<tool_call>", "<think>", "</think>"}, "hermes", "</think>"},
		{"<tool_call>\n<function=", []string{"<tool_call>"}, "qwen3_coder", ""},
		{"", []string{"[TOOL_CALLS]", "[THINK]", "[/THINK]", "[ARGS]"}, "mistral_v11", "[/THINK]"},
		{"[TOOL_CALLS] [", []string{"<tool_call>"}, "mistral", ""},
		{"<｜tool▁calls▁begin｜>…```json", []string{"</think>"}, "deepseek_v3", "</think>"},
		{"<｜tool▁calls▁begin｜>", nil, "deepseek_v31", ""},
		{"", []string{"<|action_start|>"}, "internlm2", ""},
		{"", []string{"<|python_tag|>"}, "llama3_json", ""},
		{"", []string{"<|python_start|>"}, "pythonic", ""},
	} {
		hasToken := func(token string) bool { return slices.Contains(c.tokens, token) }
		if got := calls.Detect(c.template, hasToken).Name(); got != c.want {
			t.Errorf("template %q, tokens %q: got %s, want %s", c.template, c.tokens, got, c.want)
		}
		if got := calls.DetectReasoning(c.template, hasToken); got.End != c.end {
			t.Errorf("template %q, tokens %q: got reasoning %+v, want the end %q", c.template, c.tokens, got, c.end)
		}
	}
	for prompt, want := range map[string]bool{"<|assistant|><think>\n": true, "<think></think>\n": false, "": false} {
		if got := think.Opened(prompt).Inside; got != want {
			t.Errorf("Opened(%q): got %t, want %t", prompt, got, want)
		}
	}
}

// What a frame makes a model write is read as the calls that it stands for, and begins where the model's own calls do.
func TestFrames(t *testing.T) {
	for _, name := range formatNames {
		format, err := calls.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		frame, ok := format.Frame()
		if !ok {
			continue
		}
		one := func(name, arguments string) string {
			return frame.BeforeName + name + frame.BeforeArguments + arguments + frame.AfterArguments
		}
		text, want := frame.Open+one("search", `{"query": "}"}`)+frame.Close, `|search:{"query": "}"}`
		if !frame.Single {
			text = frame.Open + one("search", `{"query": "}"}`) + frame.Between + one("now", "{}") + frame.Close
			want += "|now:{}"
		}
		checkRows(t, options(t, name), false, []row{{text, want}})
		if !frame.Bare && !strings.HasPrefix(text, frame.Marker) {
			t.Errorf("%s: %q does not begin with the marker %q", name, text, frame.Marker)
		}
		if frame.Bare && frame.Marker != "" {
			checkRows(t, options(t, name), false, []row{{"Hm. " + frame.Marker + text, "Hm." + want}})
		}
	}
}

// BenchmarkParser reads 2,000 bytes of content and a call of as many, in pieces of 4 bytes as tokens have.
func BenchmarkParser(b *testing.B) {
	text := strings.Repeat("What <b>is</b> it? ", 105) + `<tool_call>{"name": "search", "arguments": {"query": "` +
		strings.Repeat("some words ", 180) + `"}}</tool_call>`
	options := options(b, "hermes")
	options.Reasoning = think
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		parser := calls.NewParser(options)
		for at := 0; at < len(text); at += 4 {
			parser.Add(text[at:min(at+4, len(text))])
		}
		if parser.End(false); parser.Calls() != 1 {
			b.Fatal("no call")
		}
	}
}

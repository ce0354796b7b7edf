package calls

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Format is a family's way to write calls. It is immutable.
type Format struct {
	name    string
	markers []string // open calls wherever they stand
	prelude string   // opens calls at the start only
	bare    string   // bytes that may begin calls at the start; the reader takes them
	tokens  []string // all that may be special tokens
	frame   *Frame
	open    func(marker string) reader
}

// Frame is the fixed text around the names and arguments of calls that a guide makes the model write:
//
//	Open BeforeName N BeforeArguments {…} AfterArguments [Between BeforeName …] Close
//
// The name N stands there as it is, the arguments are an object in JSON.
type Frame struct {
	// Marker is the text at which calls begin that a model makes of its own accord. Open and BeforeName follow it, less what of
	// it they begin with.
	Marker          string
	Bare            bool // such calls may also begin an answer, without the marker; always if that is empty
	Open            string
	BeforeName      string
	BeforeArguments string
	AfterArguments  string
	Between         string
	Close           string
	Single          bool // the model is used to one call an answer
}

// Name is what the format is called here; other servers' names lead to it too.
func (f *Format) Name() string { return f.name }

// Frame returns the format's frame. False: its arguments are no JSON, and calls that a guide forces are Generic ones.
func (f *Format) Frame() (Frame, bool) {
	if f.frame == nil {
		return Frame{}, false
	}
	return *f.frame, true
}

// Tokens are the texts that may be special tokens of a model with this format. They must reach the parser.
func (f *Format) Tokens() []string { return slices.Clone(f.tokens) }

const (
	hermesMarker   = "<tool_call>"
	llamaMarker    = "<|python_tag|>"
	mistralMarker  = "[TOOL_CALLS]"
	internMarker   = "<|action_start|>"
	internPlugin   = "<|plugin|>"
	phiMarker      = "functools["
	llama4Prelude  = "<|python_start|>"
	jsonBeforeName = `{"name": "`
	jsonArguments  = `", "arguments": `
	jsonParameters = `", "parameters": `
)

func newObjects(string) reader { return &objects{} }

func newMistral(string) reader { return &mistral{} }

func newDeepseek(marker string) reader {
	if marker == deepseekCall {
		return &deepseek{place: deepseekFirst}
	}
	return &deepseek{}
}

var (
	deepseekTokens = []string{deepseekCalls, deepseekCall, deepseekSep, "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"}
	mistralTokens  = []string{mistralMarker, "[CALL_ID]", "[ARGS]"}
)

var formats = []*Format{
	{
		// smaller models of the family are known to leave the tags out
		name: "hermes", markers: []string{hermesMarker}, bare: "{`", tokens: []string{hermesMarker, xmlCallEnd},
		open: func(marker string) reader { return &objects{bare: marker == ""} },
		frame: &Frame{Marker: hermesMarker, BeforeName: hermesMarker + "\n" + jsonBeforeName, BeforeArguments: jsonArguments,
			AfterArguments: "}\n" + xmlCallEnd, Between: "\n"},
	},
	{
		// the model is known to leave the outer tag out
		name: "qwen3_coder", markers: []string{hermesMarker, xmlFunction}, tokens: []string{hermesMarker, xmlCallEnd},
		open: func(marker string) reader {
			if marker == xmlFunction {
				return &xmlCall{place: xmlName}
			}
			return &xmlCall{}
		},
	},
	{
		name: "llama3_json", markers: []string{llamaMarker}, bare: "{", tokens: []string{llamaMarker},
		open: func(marker string) reader { return &objects{bare: marker == ""} },
		frame: &Frame{Marker: llamaMarker, Bare: true, BeforeName: jsonBeforeName, BeforeArguments: jsonParameters, AfterArguments: "}",
			Between: "; "},
	},
	{
		name: "pythonic", prelude: llama4Prelude, bare: "[", tokens: []string{llama4Prelude, "<|python_end|>"},
		open: func(marker string) reader { return &pythonic{marked: marker != ""} },
	},
	{
		name: "mistral", markers: []string{mistralMarker}, tokens: mistralTokens, open: newMistral,
		frame: &Frame{Marker: mistralMarker, Open: mistralMarker + "[", BeforeName: jsonBeforeName, BeforeArguments: jsonArguments,
			AfterArguments: "}", Between: ", ", Close: "]"},
	},
	{
		name: "mistral_v11", markers: []string{mistralMarker}, tokens: mistralTokens, open: newMistral,
		frame: &Frame{Marker: mistralMarker, BeforeName: mistralMarker, BeforeArguments: "[ARGS]"},
	},
	{
		name: "deepseek_v3", markers: []string{deepseekCalls, deepseekCall}, tokens: deepseekTokens, open: newDeepseek,
		frame: &Frame{Marker: deepseekCalls, Open: deepseekCalls, BeforeName: deepseekCall + "function" + deepseekSep,
			BeforeArguments: "\n```json\n", AfterArguments: "\n```<｜tool▁call▁end｜>", Between: "\n", Close: "<｜tool▁calls▁end｜>"},
	},
	{
		name: "deepseek_v31", markers: []string{deepseekCalls, deepseekCall}, tokens: deepseekTokens, open: newDeepseek,
		frame: &Frame{Marker: deepseekCalls, Open: deepseekCalls, BeforeName: deepseekCall, BeforeArguments: deepseekSep,
			AfterArguments: "<｜tool▁call▁end｜>", Close: "<｜tool▁calls▁end｜>"},
	},
	{
		name: "internlm2", markers: []string{internMarker}, tokens: []string{internMarker, internPlugin, "<|action_end|>"},
		open: func(string) reader { return &objects{prefix: internPlugin} },
		frame: &Frame{Marker: internMarker + internPlugin, BeforeName: internMarker + internPlugin + "\n" + jsonBeforeName,
			BeforeArguments: jsonParameters, AfterArguments: "}<|action_end|>\n", Single: true},
	},
	{
		name: "phi4_mini", markers: []string{phiMarker}, open: newObjects,
		frame: &Frame{Marker: phiMarker, Open: phiMarker, BeforeName: jsonBeforeName, BeforeArguments: jsonArguments,
			AfterArguments: "}", Between: ", ", Close: "]"},
	},
	Generic,
}

// Generic is for models without a format: the answer is one object with name and arguments, several, or a list of them.
var Generic = &Format{
	name: "generic", bare: "{[`",
	open:  func(string) reader { return &objects{bare: true} },
	frame: &Frame{Bare: true, BeforeName: jsonBeforeName, BeforeArguments: jsonArguments, AfterArguments: "}", Between: "\n"},
}

// aliases are the names of parsers in vLLM, SGLang and LightLLM, and of families.
var aliases = map[string]string{
	"qwen": "hermes", "qwen25": "hermes", "qwen2.5": "hermes", "qwen3": "hermes",
	"qwen3_xml": "qwen3_coder", "qwen3coder": "qwen3_coder",
	"llama3": "llama3_json", "llama4_json": "llama3_json",
	"llama4_pythonic": "pythonic", "llama4": "pythonic",
	"deepseekv3": "deepseek_v3", "deepseekv31": "deepseek_v31",
	"internlm": "internlm2", "internlm2-protocol": "internlm2",
	"phi4_mini_json": "phi4_mini", "phi4": "phi4_mini",
}

// Named finds a format by its name or another server's name for it.
func Named(name string) (*Format, error) {
	if format, ok := aliases[name]; ok {
		name = format
	}
	for _, format := range formats {
		if format.name == name {
			return format, nil
		}
	}
	var names []string
	for _, format := range formats {
		names = append(names, format.name)
	}
	names = append(names, slices.Sorted(maps.Keys(aliases))...)
	return nil, fmt.Errorf("no format of tool calls is called %q; known are %s", name, strings.Join(names, ", "))
}

// Detect finds a model's format by its chat template and its vocabulary. Texts that code has too count in the template only.
func Detect(template string, hasToken func(token string) bool) *Format {
	has := func(marker string) bool { return strings.Contains(template, marker) || hasToken(marker) }
	name := Generic.name
	switch {
	case has(mistralMarker) && has("[ARGS]"):
		name = "mistral_v11"
	case has(mistralMarker):
		name = "mistral"
	case has(deepseekCalls) && template != "" && !strings.Contains(template, "```json"):
		name = "deepseek_v31"
	case has(deepseekCalls):
		name = "deepseek_v3"
	case strings.Contains(template, xmlFunction):
		name = "qwen3_coder"
	case has(hermesMarker):
		name = "hermes"
	case has(internMarker):
		name = "internlm2"
	case strings.Contains(template, "functools"):
		name = "phi4_mini"
	case has(llamaMarker):
		name = "llama3_json"
	case has(llama4Prelude):
		name = "pythonic"
	}
	for _, format := range formats {
		if format.name == name {
			return format
		}
	}
	return Generic
}

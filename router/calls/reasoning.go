package calls

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reasoning is what stands around a model's reasoning. The zero value is none.
type Reasoning struct {
	Start  string
	End    string
	Inside bool // the prompt ends with the start, so that the answer begins within
}

// noReasoning is the name of the zero value.
const noReasoning = "none"

// reasonings are the kinds that differ, in the order in which DetectReasoning looks for them.
var reasonings = []struct {
	name string
	Reasoning
}{
	{"think", Reasoning{Start: "<think>", End: "</think>"}},
	{"mistral", Reasoning{Start: "[THINK]", End: "[/THINK]"}},
	{"kimi", Reasoning{Start: "◁think▷", End: "◁/think▷"}},
	{"seed_oss", Reasoning{Start: "<seed:think>", End: "</seed:think>"}},
	{"granite", Reasoning{Start: "Here is my thought process:", End: "Here is my response:"}},
}

// reasoningAliases are the names of parsers in vLLM and SGLang whose markers are the same.
var reasoningAliases = map[string]string{
	"deepseek_r1": "think", "deepseek-r1": "think", "deepseek_v3": "think", "deepseek-v3": "think", "qwen3": "think",
	"qwen3-thinking": "think", "glm45": "think", "nemotron_v3": "think", "hunyuan_a13b": "think", "ernie45": "think",
	"minimax_m2": "think", "minimax": "think", "olmo3": "think", "holo2": "think", "kimi_k2": "think", "step3": "think",
	"seed-oss": "seed_oss",
}

// NamedReasoning finds reasoning by another server's name for it; none is the zero value.
func NamedReasoning(name string) (Reasoning, error) {
	if name == noReasoning {
		return Reasoning{}, nil
	}
	kind, ok := reasoningAliases[name]
	if !ok {
		kind = name
	}
	names := []string{noReasoning}
	for _, r := range reasonings {
		if r.name == kind {
			return r.Reasoning, nil
		}
		names = append(names, r.name)
	}
	names = append(names, slices.Sorted(maps.Keys(reasoningAliases))...)
	return Reasoning{}, fmt.Errorf("no form of reasoning is called %q; known are %s", name, strings.Join(names, ", "))
}

// DetectReasoning finds a model's reasoning by its chat template and its vocabulary: its end must be there.
func DetectReasoning(template string, hasToken func(token string) bool) Reasoning {
	for _, r := range reasonings {
		if strings.Contains(template, r.End) || hasToken(r.End) {
			return r.Reasoning
		}
	}
	return Reasoning{}
}

// Opened says for a prompt whether the answer to it begins within reasoning.
func (r Reasoning) Opened(prompt string) Reasoning {
	r.Inside = r.End != "" && r.Start != "" && strings.HasSuffix(strings.TrimRight(prompt, " \t\r\n"), r.Start)
	return r
}

// Tokens are the texts that may be special tokens. They must reach the parser.
func (r Reasoning) Tokens() []string {
	if r.End == "" {
		return nil
	}
	return []string{r.Start, r.End}
}

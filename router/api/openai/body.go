package openai

import (
	"encoding/json"
	"fmt"
	"math"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/protocol/ordered"
	"lockstep/router/request"
)

// Limits of OpenAI's parameters.
const (
	maxChoices     = 128
	maxTopLogprobs = 20
	maxPenalty     = 2
	maxTemperature = 2
	maxBias        = 100
	// greedyBelow is the temperature below which the likeliest token is taken.
	greedyBelow = 1e-5
	// completionTokens is max_tokens of completions where none is given.
	completionTokens = 16
)

func wrongType(param, want string, value any) *request.Refusal {
	return &request.Refusal{Param: param, Code: "invalid_type",
		Message: fmt.Sprintf("Invalid type for '%s': expected %s, but got %s instead.", param, want, jsonKind(value))}
}

func wrongValue(param, format string, arguments ...any) *request.Refusal {
	return &request.Refusal{Param: param, Code: "invalid_value",
		Message: fmt.Sprintf("Invalid value for '%s': ", param) + fmt.Sprintf(format, arguments...)}
}

func missingField(param string) *request.Refusal {
	return &request.Refusal{Param: param, Code: "missing_required_parameter",
		Message: fmt.Sprintf("Missing required parameter: '%s'.", param)}
}

func unsupportedField(param, why string) *request.Refusal {
	return &request.Refusal{Param: param, Code: "unsupported_parameter", Message: fmt.Sprintf("Unsupported parameter: '%s': %s", param,
		why)}
}

// jsonKind names the kind of a decoded value.
func jsonKind(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	}
	return "an object"
}

// generateBody is a checked body of a chat or completion request.
type generateBody struct {
	chat  bool
	model string // as the client calls it

	messages          [][]ordered.Member // as templates take them
	documents         json.RawMessage
	tools             toolWishes
	templateArguments json.RawMessage
	generationPrompt  *bool
	continueFinal     *bool
	assistantLast     bool // the last message is the assistant's

	prompts []promptText

	addSpecialTokens *bool
	truncateTokens   int // 0: the prompt is not shortened

	maxTokens *int
	// maxCompletionTokens is max_tokens by its newer name, which goes before it; 0: not given.
	maxCompletionTokens int
	n, bestOf           int // bestOf 0: n
	seed                *uint64
	// chosen are the parameters for which models have defaults, but for MaxTokens; sampling has the others, without what
	// temperature and seed decide.
	chosen     protocol.SamplingDefaults
	sampling   protocol.Sampling
	told       []ordered.Member // what responses repeat
	constraint *constraint      // nil: none
	whiteSpace guide.WhiteSpace
	// thinkingBudget is how many tokens a model may think; 0: any number.
	thinkingBudget int
	stops          []string
	stopTokens     [][]int32
	showStop       bool
	showSpecial    bool
	cacheSalt      string

	echo           bool
	logprobs       bool
	topLogprobs    int
	tokensAsIDs    bool
	returnTokenIDs bool
	tokenTexts     bool // of /tokenize

	stream          bool
	streamOptions   bool // were given
	includeUsage    bool
	continuousUsage bool
}

// promptText is one prompt of a completion: a text, or else ids.
type promptText struct {
	text string
	ids  []int32
	// offsets are the places of the ids in a text that is repeated with log-probabilities, in characters; else nil.
	offsets [][2]int32
}

// copies is how many answers are computed for each prompt.
func (b *generateBody) copies() int { return max(b.n, b.bestOf) }

// fieldReader reads one field, which is not null. Fields that are not known are ignored, as other servers do.
type fieldReader func(b *generateBody, name string, value json.RawMessage) *request.Refusal

// commonFields are those of both routes.
var commonFields = map[string]fieldReader{
	"model":       stringField(func(b *generateBody, v string) { b.model = v }),
	"max_tokens":  wholeField(0, math.MaxInt32, func(b *generateBody, v int64) { b.maxTokens = new(int(v)) }),
	"n":           wholeField(1, maxChoices, func(b *generateBody, v int64) { b.n = int(v) }),
	"temperature": realField(0, maxTemperature, func(b *generateBody, v float32) { b.chosen.Temperature = &v }),
	"top_p":       realField(0, 1, func(b *generateBody, v float32) { b.chosen.TopP = &v }),
	"frequency_penalty": realField(-maxPenalty, maxPenalty,
		func(b *generateBody, v float32) { b.sampling.FrequencyPenalty = v }),
	"presence_penalty": realField(-maxPenalty, maxPenalty,
		func(b *generateBody, v float32) { b.sampling.PresencePenalty = v }),
	"seed":                          (*generateBody).readSeed,
	"stop":                          (*generateBody).readStop,
	"logit_bias":                    (*generateBody).readLogitBias,
	"stream":                        flagField(func(b *generateBody, v bool) { b.stream = v }),
	"stream_options":                (*generateBody).readStreamOptions,
	"user":                          stringField(func(*generateBody, string) {}),
	"top_k":                         wholeField(-1, math.MaxInt32, func(b *generateBody, v int64) { b.chosen.TopK = new(max(int(v), 0)) }),
	"min_p":                         realField(0, 1, func(b *generateBody, v float32) { b.chosen.MinP = &v }),
	"typical_p":                     realField(0, 1, func(b *generateBody, v float32) { b.sampling.TypicalP = v }),
	"repetition_penalty":            positiveField(func(b *generateBody, v float32) { b.chosen.RepetitionPenalty = &v }),
	"ignore_eos":                    flagField(func(b *generateBody, v bool) { b.sampling.IgnoreEOS = v }),
	"min_tokens":                    wholeField(0, math.MaxInt32, func(b *generateBody, v int64) { b.sampling.MinNewTokens = int(v) }),
	"stop_token_ids":                (*generateBody).readStopTokens,
	"allowed_token_ids":             idsField(protocol.MaxTokenList, func(b *generateBody, v []int32) { b.sampling.AllowedTokenIDs = v }),
	"include_stop_str_in_output":    flagField(func(b *generateBody, v bool) { b.showStop = v }),
	"skip_special_tokens":           flagField(func(b *generateBody, v bool) { b.showSpecial = !v }),
	"add_special_tokens":            flagField(func(b *generateBody, v bool) { b.addSpecialTokens = &v }),
	"truncate_prompt_tokens":        wholeField(1, math.MaxInt32, func(b *generateBody, v int64) { b.truncateTokens = int(v) }),
	"return_token_ids":              flagField(func(b *generateBody, v bool) { b.returnTokenIDs = v }),
	"return_tokens_as_token_ids":    flagField(func(b *generateBody, v bool) { b.tokensAsIDs = v }),
	"cache_salt":                    (*generateBody).readCacheSalt,
	"response_format":               (*generateBody).readFormat,
	"use_beam_search":               refuseUnless("false", "there is no beam search"),
	"prompt_logprobs":               refuseUnless("-1", "use echo and logprobs of /v1/completions"),
	"thinking_token_budget":         thinkingBudget,
	"guided_json":                   (*generateBody).readSchema,
	"guided_regex":                  (*generateBody).readRegex,
	"guided_choice":                 (*generateBody).readChoice,
	"guided_grammar":                (*generateBody).readGrammar,
	"guided_whitespace_pattern":     (*generateBody).readWhiteSpace,
	"structured_outputs":            (*generateBody).readStructured,
	"regex":                         (*generateBody).readRegex,   // SGLang's
	"ebnf":                          (*generateBody).readGrammar, // SGLang's
	"bad_words":                     refuseUnless("[]", "use logit_bias"),
	"logits_processors":             refuseUnless("[]", "no code is taken from requests"),
	"chat_template":                 refuseUnless("", "templates are the operator's: --chat-template"),
	"spaces_between_special_tokens": flagField(func(*generateBody, bool) {}),
}

// completionFields are the others of completions, chatFields those of chats.
var completionFields = map[string]fieldReader{
	"prompt":   (*generateBody).readPrompt,
	"echo":     flagField(func(b *generateBody, v bool) { b.echo = v }),
	"best_of":  wholeField(1, maxChoices, func(b *generateBody, v int64) { b.bestOf = int(v) }),
	"suffix":   refuseUnless(`""`, "put what stands behind the gap into the prompt, in the form that the model was trained with"),
	"logprobs": wholeField(0, maxTopLogprobs, func(b *generateBody, v int64) { b.logprobs, b.topLogprobs = true, int(v) }),
}

var chatFields = map[string]fieldReader{
	"messages":               (*generateBody).readMessages,
	"max_tokens":             wholeField(1, math.MaxInt32, func(b *generateBody, v int64) { b.maxTokens = new(int(v)) }),
	"max_completion_tokens":  wholeField(1, math.MaxInt32, func(b *generateBody, v int64) { b.maxCompletionTokens = int(v) }),
	"logprobs":               flagField(func(b *generateBody, v bool) { b.logprobs = v }),
	"top_logprobs":           wholeField(0, maxTopLogprobs, func(b *generateBody, v int64) { b.topLogprobs = int(v) }),
	"add_generation_prompt":  flagField(func(b *generateBody, v bool) { b.generationPrompt = &v }),
	"continue_final_message": flagField(func(b *generateBody, v bool) { b.continueFinal = &v }),
	"documents":              objectsField(func(b *generateBody, v json.RawMessage) { b.documents = v }),
	"chat_template_kwargs":   (*generateBody).readTemplateArguments,
	"tools":                  (*generateBody).readTools,
	"tool_choice":            (*generateBody).readToolChoice,
	"parallel_tool_calls":    flagField(func(b *generateBody, v bool) { b.tools.parallel = v }),
	"functions":              (*generateBody).readFunctions,
	"function_call":          (*generateBody).readToolChoice,
	"tool_prompt":            stringField(func(b *generateBody, v string) { b.tools.prompt = &v }),
	"modalities":             refuseUnless(`["text"] []`, "answers are text."),
	"audio":                  refuseUnless("", "answers are text."),
	"web_search_options":     refuseUnless("", "nothing is searched."),
	"echo":                   refuseUnless("false", "the prompt of a chat is not repeated."),
}

// readBody reads and checks a body's members; more are fields that the route has beside those of its kind.
func readBody(top []ordered.Member, chat bool, more map[string]fieldReader) (*generateBody, *request.Refusal) {
	b := &generateBody{chat: chat, n: 1, tools: toolWishes{parallel: true}}
	own, need := completionFields, "prompt"
	if chat {
		own, need = chatFields, "messages"
	}
	for _, m := range top {
		var read fieldReader
		for _, fields := range []map[string]fieldReader{more, own, commonFields} {
			if read = fields[m.Name]; read != nil {
				break
			}
		}
		if read == nil || string(m.Value) == "null" {
			continue
		}
		if err := read(b, m.Name, m.Value); err != nil {
			return nil, err
		}
	}
	if b.messages == nil && b.prompts == nil {
		return nil, missingField(need)
	}
	if b.maxCompletionTokens > 0 {
		b.maxTokens = &b.maxCompletionTokens
	}
	return b, b.verify()
}

// verify checks fields against each other.
func (b *generateBody) verify() *request.Refusal {
	if err := b.tools.verifyTools(); err != nil {
		return err
	}
	switch {
	case len(b.sampling.AllowedTokenIDs) > 0 && (b.constraint != nil || b.tools.choice == choiceRequired || b.tools.choice == choiceNamed):
		return wrongValue("allowed_token_ids", "they cannot be given beside what constrains the answer.")
	case b.topLogprobs > 0 && !b.logprobs:
		return wrongValue("top_logprobs", "'logprobs' must be true where it is given.")
	case b.streamOptions && !b.stream:
		return wrongValue("stream_options", "it is allowed only where 'stream' is true.")
	case b.bestOf != 0 && b.bestOf < b.n:
		return wrongValue("best_of", "it must be at least 'n', which is %d, but got %d.", b.n, b.bestOf)
	case b.stream && b.bestOf > b.n:
		return wrongValue("best_of", "answers cannot be chosen from while they are streamed.")
	case b.continueFinal != nil && *b.continueFinal && b.generationPrompt != nil && *b.generationPrompt:
		return wrongValue("continue_final_message", "it and 'add_generation_prompt' cannot both be true.")
	case b.sampling.MinNewTokens > 0 && b.maxTokens != nil && b.sampling.MinNewTokens > *b.maxTokens:
		return wrongValue("min_tokens", "it must be at most 'max_tokens', which is %d, but got %d.", *b.maxTokens, b.sampling.MinNewTokens)
	}
	return nil
}

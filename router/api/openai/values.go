package openai

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"lockstep/protocol"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

var notAnObject = &request.Refusal{Class: request.Malformed, Message: "The body of the request is not a valid JSON object."}

// decoded returns a value as Go has it; numbers keep their spelling.
func decoded(raw json.RawMessage) (value any) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	decoder.Decode(&value) // it was read once already, as part of the body
	return value
}

// integer reads a whole number, also one that is spelled like 5.0.
func integer(value any) (int64, bool) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	if v, err := strconv.ParseInt(string(number), 10, 64); err == nil {
		return v, true
	}
	v, err := number.Float64()
	return int64(v), err == nil && v == math.Trunc(v) && math.Abs(v) <= 1<<53
}

func wholeField(low, high int64, set func(*generateBody, int64)) fieldReader {
	return func(b *generateBody, name string, raw json.RawMessage) *request.Refusal {
		value := decoded(raw)
		v, ok := integer(value)
		if number, is := value.(json.Number); !ok && is && !strings.ContainsAny(string(number), ".eE") {
			return wrongValue(name, "expected a number between %d and %d, but got %s.", low, high, wire.Quoted(number))
		}
		switch {
		case !ok:
			return wrongType(name, "an integer", value)
		case v < low || v > high:
			return wrongValue(name, "expected a number between %d and %d, but got %d.", low, high, v)
		}
		set(b, v)
		return nil
	}
}

func realField(low, high float64, set func(*generateBody, float32)) fieldReader {
	return func(b *generateBody, name string, raw json.RawMessage) *request.Refusal {
		value := decoded(raw)
		number, ok := value.(json.Number)
		if !ok {
			return wrongType(name, "a number", value)
		}
		v, err := number.Float64()
		if err != nil || v < low || v > high {
			return wrongValue(name, "expected a number between %v and %v, but got %s.", low, high, wire.Quoted(number))
		}
		set(b, float32(v))
		return nil
	}
}

// positiveField takes a number above 0.
func positiveField(set func(*generateBody, float32)) fieldReader {
	return func(b *generateBody, name string, raw json.RawMessage) *request.Refusal {
		value := decoded(raw)
		number, ok := value.(json.Number)
		if !ok {
			return wrongType(name, "a number", value)
		}
		v, err := number.Float64()
		if err != nil || !(float32(v) > 0) || v > math.MaxFloat32 {
			return wrongValue(name, "expected a number greater than 0, but got %s.", wire.Quoted(number))
		}
		set(b, float32(v))
		return nil
	}
}

func flagField(set func(*generateBody, bool)) fieldReader { return scalarField("a boolean", set) }

func stringField(set func(*generateBody, string)) fieldReader { return scalarField("a string", set) }

// scalarField takes a value of the type that decoding gives it, which expected calls by its name.
func scalarField[T bool | string](expected string, set func(*generateBody, T)) fieldReader {
	return func(b *generateBody, name string, raw json.RawMessage) *request.Refusal {
		value := decoded(raw)
		v, ok := value.(T)
		if !ok {
			return wrongType(name, expected, value)
		}
		set(b, v)
		return nil
	}
}

// objectsField takes an array of objects as it is.
func objectsField(set func(*generateBody, json.RawMessage)) fieldReader {
	return func(b *generateBody, name string, raw json.RawMessage) *request.Refusal {
		value := decoded(raw)
		list, ok := value.([]any)
		if !ok {
			return wrongType(name, "an array of objects", value)
		}
		for i, item := range list {
			if _, ok := item.(map[string]any); !ok {
				return wrongType(name+"["+strconv.Itoa(i)+"]", "an object", item)
			}
		}
		set(b, raw)
		return nil
	}
}

// refuseUnless refuses a field unless its value is one of those allowed, which are separated by spaces.
func refuseUnless(allowed, why string) fieldReader {
	return func(_ *generateBody, name string, raw json.RawMessage) *request.Refusal {
		var compact bytes.Buffer
		json.Compact(&compact, raw)
		for _, value := range strings.Fields(allowed) {
			if compact.String() == value {
				return nil
			}
		}
		return unsupportedField(name, why)
	}
}

// idsField reads a list of at most so many token ids.
func idsField(most int, set func(*generateBody, []int32)) fieldReader {
	return func(b *generateBody, name string, raw json.RawMessage) *request.Refusal {
		value := decoded(raw)
		list, ok := value.([]any)
		if !ok {
			return wrongType(name, "an array of token ids", value)
		}
		if len(list) > most {
			return wrongValue(name, "expected at most %d token ids, but got %d.", most, len(list))
		}
		ids, err := tokenList(name, list)
		if err == nil {
			set(b, ids)
		}
		return err
	}
}

// tokenList reads token ids. Those outside the vocabulary are found later: here no model is known.
func tokenList(name string, list []any) ([]int32, *request.Refusal) {
	ids := make([]int32, len(list))
	for i, item := range list {
		id, ok := integer(item)
		if !ok {
			return nil, wrongType(name+"["+strconv.Itoa(i)+"]", "a token id", item)
		}
		if id < 0 || id > math.MaxInt32 {
			return nil, wrongValue(name+"["+strconv.Itoa(i)+"]", "%d is no token id.", id)
		}
		ids[i] = int32(id)
	}
	return ids, nil
}

// readSeed takes any integer of 64 bits, signed or not.
func (b *generateBody) readSeed(name string, raw json.RawMessage) *request.Refusal {
	value := decoded(raw)
	number, ok := value.(json.Number)
	if !ok {
		return wrongType(name, "an integer", value)
	}
	if v, err := strconv.ParseUint(string(number), 10, 64); err == nil {
		b.seed = &v
		return nil
	}
	v, ok := integer(value)
	if !ok {
		return wrongType(name, "an integer of 64 bits", value)
	}
	b.seed = new(uint64(v))
	return nil
}

// maxStopBytes bounds a stop string.
const maxStopBytes = 1024

// readStop takes a string or a list of them.
func (b *generateBody) readStop(name string, raw json.RawMessage) *request.Refusal {
	value := decoded(raw)
	list, ok := value.([]any)
	if one, is := value.(string); is {
		list, ok = []any{one}, true
	}
	if !ok {
		return wrongType(name, "a string or an array of strings", value)
	}
	for _, item := range list {
		stop, ok := item.(string)
		switch {
		case !ok:
			return wrongType(name, "a string or an array of strings", item)
		case stop == "" || len(stop) > maxStopBytes:
			return wrongValue(name, "a stop string must have 1 to %d bytes, but one has %d.", maxStopBytes, len(stop))
		}
		b.stops = append(b.stops, stop)
	}
	return nil
}

func (b *generateBody) readStopTokens(name string, raw json.RawMessage) *request.Refusal {
	return idsField(protocol.MaxStopTokenSequences, func(b *generateBody, ids []int32) {
		for _, id := range ids {
			b.stopTokens = append(b.stopTokens, []int32{id})
		}
	})(b, name, raw)
}

// readCacheSalt takes a text that shards take too.
func (b *generateBody) readCacheSalt(name string, raw json.RawMessage) *request.Refusal {
	err := stringField(func(b *generateBody, v string) { b.cacheSalt = v })(b, name, raw)
	if err == nil && len(b.cacheSalt) > protocol.MaxCacheSaltBytes {
		err = wrongValue(name, "expected at most %d bytes, but got %d.", protocol.MaxCacheSaltBytes, len(b.cacheSalt))
	}
	return err
}

// readLogitBias takes an object whose keys are token ids.
func (b *generateBody) readLogitBias(name string, raw json.RawMessage) *request.Refusal {
	entries, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "an object", decoded(raw))
	}
	if len(entries) > protocol.MaxTokenList {
		return wrongValue(name, "expected at most %d token ids, but got %d.", protocol.MaxTokenList, len(entries))
	}
	for _, entry := range entries {
		id, err := strconv.ParseInt(entry.Name, 10, 32)
		if err != nil || id < 0 {
			return wrongValue(name, "%q is no token id.", wire.Quoted(entry.Name))
		}
		bias := protocol.TokenBias{ID: int32(id)}
		read := realField(-maxBias, maxBias, func(_ *generateBody, v float32) { bias.Bias = v })
		if err := read(b, name+"."+entry.Name, entry.Value); err != nil {
			return err
		}
		b.sampling.LogitBias = append(b.sampling.LogitBias, bias)
	}
	return nil
}

func (b *generateBody) readStreamOptions(name string, raw json.RawMessage) *request.Refusal {
	options, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "an object", decoded(raw))
	}
	b.streamOptions = true
	flags := map[string]fieldReader{
		"include_usage":          flagField(func(b *generateBody, v bool) { b.includeUsage = v }),
		"continuous_usage_stats": flagField(func(b *generateBody, v bool) { b.continuousUsage = v }),
	}
	for _, option := range options {
		if read := flags[option.Name]; read != nil && string(option.Value) != "null" {
			if err := read(b, name+"."+option.Name, option.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// readPrompt takes a text, a list of texts, token ids, or a list of lists of them.
func (b *generateBody) readPrompt(name string, raw json.RawMessage) *request.Refusal {
	const want = "a string, an array of strings, an array of token ids or an array of arrays of them"
	value := decoded(raw)
	if one, ok := value.(string); ok {
		b.prompts = []promptText{{text: one}}
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		return wrongType(name, want, value)
	}
	if len(list) == 0 {
		return wrongValue(name, "expected at least one prompt, but got an empty array.")
	}
	if _, ok := list[0].(json.Number); ok {
		ids, err := tokenList(name, list)
		b.prompts = []promptText{{ids: ids}}
		return err
	}
	for i, item := range list {
		at := name + "[" + strconv.Itoa(i) + "]"
		_, first := list[0].(string)
		switch v := item.(type) {
		case string:
			if !first {
				return wrongType(at, "an array of token ids, as before", item)
			}
			b.prompts = append(b.prompts, promptText{text: v})
		case []any:
			if first {
				return wrongType(at, "a string, as before", item)
			}
			ids, err := tokenList(at, v)
			if err != nil {
				return err
			}
			b.prompts = append(b.prompts, promptText{ids: ids})
		default:
			return wrongType(at, "a string or an array of token ids", item)
		}
	}
	return nil
}

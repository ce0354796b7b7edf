package guide

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Special stands in front of a special token's text where a token is told by its bytes: no text in UTF-8 has it, so special tokens are said
// only where a guide names them.
const Special = "\xff"

// Thought is what a model says before its answer, between two marks: a guide begins behind it. The zero value is none.
type Thought struct {
	Start string `json:"start,omitempty"`
	End   string `json:"end,omitempty"`
	// Inside says that the prompt has begun it. Else the model may think, or answer at once.
	Inside bool `json:"inside,omitempty"`
	// Budget is how many tokens may be said until it is ended; 0: any number.
	Budget int `json:"budget,omitempty"`
}

// Calls are what a guide of the kind Tools is compiled from: calls of functions within a model's fixed texts,
//
//	Open BeforeName N BeforeArguments {…} AfterArguments [Between BeforeName …] Close
type Calls struct {
	Open            string `json:"open,omitempty"`
	BeforeName      string `json:"before_name,omitempty"`
	BeforeArguments string `json:"before_arguments,omitempty"`
	AfterArguments  string `json:"after_arguments,omitempty"`
	Between         string `json:"between,omitempty"`
	Close           string `json:"close,omitempty"`
	// Tokens are the texts among these that may be special tokens.
	Tokens []string `json:"tokens,omitempty"`
	// Single allows one call.
	Single bool       `json:"single,omitempty"`
	Tools  []Function `json:"tools"`
	// Marker, if it is not empty, lets the model say anything up to it, and nothing more if it does not say it. Open and BeforeName follow
	// it, less what they begin with of it.
	Marker string `json:"marker,omitempty"`
	// Otherwise is what the model may say in place of calls; nil: nothing.
	Otherwise *Source `json:"otherwise,omitempty"`
}

// Function is one that can be called.
type Function struct {
	Name string `json:"name"`
	// Parameters is the JSON schema of its arguments; absent or null: there are none.
	Parameters json.RawMessage `json:"parameters"`
}

// Source is what the calls are compiled from; white space and openness are those of the arguments.
func (c *Calls) Source(space WhiteSpace, open bool) (Source, error) {
	text, err := json.Marshal(c)
	return Source{Kind: Tools, Text: string(text), WhiteSpace: space, Open: open}, err
}

// behindThought builds a thought in front of a node.
func (c *compiler) behindThought(t Thought, next int32) int32 {
	if t.End == "" || c.source.Kind == Anything {
		return next
	}
	const spaces = 4 // models leave lines between a thought and an answer
	behind := next
	for range spaces {
		behind = c.split(next, c.bytes(edge{' ', ' ', behind}, edge{'\n', '\n', behind}))
	}
	marks := []string{t.Start, t.End}
	thought := c.until(c.spoken(t.End, marks), behind, false)
	if t.Inside {
		return thought
	}
	return c.split(next, c.words(c.spoken(t.Start, marks), thought))
}

// spoken are the ways to say a text in which tokens may be special ones: their spellings as bytes.
func (c *compiler) spoken(text string, tokens []string) []string {
	ways := []string{""}
	for text != "" && len(ways) < 64 {
		at, token := len(text), ""
		for _, t := range tokens {
			if i := strings.Index(text, t); t != "" && i >= 0 && (i < at || i == at && len(t) > len(token)) {
				at, token = i, t
			}
		}
		var longer []string
		for _, way := range ways {
			longer = append(longer, way+text[:at]+token)
			if token != "" {
				longer = append(longer, way+text[:at]+Special+token)
			}
		}
		ways, text = longer, text[at+len(token):]
	}
	return ways
}

// until is any bytes up to the first of some marks, and what follows it. Where it may end, it may end without one too. It is the automaton
// of Aho and Corasick (Efficient String Matching, 1975): a state for each beginning of a mark.
func (c *compiler) until(marks []string, next int32, ends bool) int32 {
	states := map[string]int32{}
	for _, mark := range marks {
		if mark == "" {
			return next
		}
		for i := range mark {
			if _, ok := states[mark[:i]]; !ok {
				states[mark[:i]] = c.add(node{kind: kindBytes})
			}
		}
	}
	behind := func(said string) int32 {
		for from := range said {
			if slices.Contains(marks, said[from:]) {
				return next
			}
		}
		for from := 0; ; from++ {
			if n, ok := states[said[from:]]; ok {
				return n
			}
		}
	}
	entries := maps.Clone(states)
	if ends {
		for said, n := range states {
			waits := c.add(node{kind: kindBytes})
			entries[said] = waits
			c.setSplit(n, endNode, waits)
		}
	}
	for _, said := range slices.Sorted(maps.Keys(entries)) {
		var edges []edge
		for b := range 256 {
			edges = join(edges, edge{byte(b), byte(b), behind(said + string([]byte{byte(b)}))})
		}
		c.spend(256)
		c.setBytes(entries[said], edges)
	}
	return states[""]
}

// tools builds calls.
func (c *compiler) tools(text string) int32 {
	var calls Calls
	if err := json.Unmarshal([]byte(text), &calls); err != nil {
		return c.fail(Invalid, "the calls are malformed: %v", err)
	}
	if len(calls.Tools) == 0 {
		return c.fail(Invalid, "there is no function to call")
	}
	say := func(text string, next int32) int32 { return c.words(c.spoken(text, calls.Tokens), next) }
	behind := say(calls.Close, endNode)
	more := c.add(node{kind: kindSplit}) // behind a call
	names := make([]int32, 0, len(calls.Tools))
	for _, f := range calls.Tools {
		names = append(names, c.literal(f.Name, say(calls.BeforeArguments, c.arguments(&f, say(calls.AfterArguments, more)))))
	}
	name := c.split(names...)
	if calls.Single {
		c.setSplit(more, behind)
	} else {
		c.setSplit(more, behind, say(calls.Between+calls.BeforeName, name))
	}
	first := calls.Open + calls.BeforeName
	if calls.Marker == "" {
		return c.withOtherwise(&calls, say(first, name))
	}
	rest, ok := strings.CutPrefix(first, calls.Marker)
	if !ok {
		rest = first
	}
	return c.withOtherwise(&calls, c.until(c.spoken(calls.Marker, calls.Tokens), say(rest, name), true))
}

// withOtherwise lets what stands for calls be said.
func (c *compiler) withOtherwise(calls *Calls, next int32) int32 {
	if calls.Otherwise == nil {
		return next
	}
	if calls.Otherwise.Kind == Tools {
		return c.fail(Invalid, "calls cannot stand for calls")
	}
	return c.split(next, c.body(calls.Otherwise))
}

// arguments builds those of a function: an object.
func (c *compiler) arguments(f *Function, next int32) int32 {
	schema := string(f.Parameters)
	if schema == "" || schema == "null" {
		schema = `{"type":"object","maxProperties":0}`
	}
	failed := c.err != nil
	n := c.documentsOf(next, schema, `{"type":"object"}`)
	if !failed && c.err != nil {
		c.err.Message = "the parameters of " + f.Name + ": " + c.err.Message
	}
	return n
}

package weights_test

import (
	"slices"
	"strings"
	"testing"

	"lockstep/shard/model"
	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// tokenizerOf writes a tokenizer.json whose special tokens have the ids from 4 on; ids 0 to 3 are plain tokens a to d.
func tokenizerOf(special ...string) []byte {
	var added []string
	for i, content := range special {
		added = append(added, `{"id":`+string(rune('4'+i))+`,"content":"`+content+`","special":true}`)
	}
	return []byte(`{"added_tokens":[` + strings.Join(added, ",") + `],"model":{"vocab":{"a":0,"b":1,"c":2,"d":3}}}`)
}

func ids(ends []weights.End) (ids []int32) {
	for _, end := range ends {
		ids = append(ids, end.ID)
	}
	return ids
}

// endDoubts are what is told of cases of TestEndsOfDirectory.
var endDoubts = map[string]string{
	"not special": "token 4 <|im_end|> is not marked as special; it is taken as the end of a turn for its spelling",
	"not special there either": "tokenizer_config.json: added_tokens_decoder is no object of tokens by their ids, and is not read\n" +
		"token 4 <|im_end|> is not marked as special; it is taken as the end of a turn for its spelling",
	"ids that cannot be": "config.json: eos_token_id is or contains 1.5, which names no token\n" +
		"config.json: eos_token_id is or contains true, which names no token\n" +
		"config.json: eos_token_id is or contains {}, which names no token\n" +
		"config.json: eos_token_id is or contains \"nonsense\", which names no token\n" +
		"config.json: token -1 is to end a sequence, and the model has the tokens 0 to 8 only\n" +
		"config.json: token 99 is to end a sequence, and the model has the tokens 0 to 8 only\n" +
		"generation_config.json: token -1 is to end a sequence, and the model has the tokens 0 to 8 only\n" +
		"eos_token of the tokenizer is \"nonsense\", which is no token of its vocabulary",
}

// Which tokens end a sequence is the union of all that the files say.
func TestEndsOfDirectory(t *testing.T) {
	good := weightstest.OneTensor("a")
	chatML := tokenizerOf("<|endoftext|>", "<|im_start|>", "<|im_end|>")
	unspecial := []byte(`{"added_tokens":[{"id":4,"content":"<|im_end|>","special":false}],"model":{"vocab":{"<|eot_id|>":3}}}`)
	for name, c := range map[string]struct {
		eos                 string // of config.json
		generation, decoder string // generation_config.json, tokenizer_config.json; "": none
		tokenizer           []byte
		want                []int32
	}{
		"tokenizer knows better":      {`0`, `{"eos_token_id":0}`, `{"eos_token":"<|im_end|>"}`, chatML, []int32{0, 6}},
		"only the spelling tells":     {`4`, `{"eos_token_id":4}`, `{"eos_token":"<|endoftext|>"}`, chatML, []int32{4, 6}},
		"token as an object":          {`null`, ``, `{"eos_token":{"content":"d","lstrip":false}}`, tokenizerOf(), []int32{3}},
		"both lists":                  {`[0,1]`, `{"eos_token_id":[1,2]}`, ``, tokenizerOf(), []int32{0, 1, 2}},
		"numbers as text":             {`"1"`, `{"eos_token_id":["2", 3.0]}`, ``, tokenizerOf(), []int32{1, 2, 3}},
		"text of the token":           {`"c"`, `{"eos_token_id":["<|endoftext|>"]}`, ``, tokenizerOf("<|endoftext|>"), []int32{2, 4}},
		"the end of a text is no end": {`0`, ``, ``, tokenizerOf("<|endoftext|>", "<|fim_pad|>", "</s>"), []int32{0}},
		"other chat models":           {`0`, ``, ``, tokenizerOf("<|eot_id|>", "<|eom_id|>", "<end_of_turn>"), []int32{0, 4, 5, 6}},
		"end of a turn":               {`0`, ``, ``, tokenizerOf("<|end|>"), []int32{0, 4}},
		"end of a message":            {`0`, ``, ``, tokenizerOf("<|end|>", "<|return|>", "<|call|>"), []int32{0, 5, 6}},
		"not special":                 {`0`, ``, ``, unspecial, []int32{0, 4}},
		"not added":                   {`0`, ``, ``, []byte(`{"model":{"vocab":{"<|eot_id|>":3}}}`), []int32{0}},
		"added by the configuration": {`0`, ``, `{"added_tokens_decoder":{"5":{"content":"<|im_end|>","special":true}}}`, []byte(`{}`),
			[]int32{0, 5}},
		"not special there either": {`0`, ``, `{"added_tokens_decoder":{"4":{"content":"<|im_end|>"},"x":{}}}`, unspecial,
			[]int32{0, 4}},
		"special there": {`0`, ``, `{"added_tokens_decoder":{"4":{"content":"<|im_end|>","special":true}}}`, unspecial,
			[]int32{0, 4}},
		"another id there": {`0`, ``, `{"added_tokens_decoder":{"6":{"content":"<|im_end|>","special":true}}}`, chatML,
			[]int32{0, 6}},
		"ids that cannot be": {`[-1, 99, 1.5, true, {}, "nonsense"]`, `{"eos_token_id":-1}`, `{"eos_token":"nonsense"}`,
			tokenizerOf(), nil},
		"a token spelled as a number": {`"2"`, `{"eos_token_id":["1"]}`, ``, []byte(`{"model":{"vocab":{"2":0,"1":3}}}`), []int32{2, 1}},
		"a list in a list":            {`[[2,0]]`, `{"eos_token_id":[["c",[1]]]}`, ``, tokenizerOf(), []int32{2, 0, 1}},
		"objects": {`{"content":"c"}`, `{"eos_token_id":[{"content":"<|endoftext|>","__type":"AddedToken"}]}`, ``,
			tokenizerOf("<|endoftext|>"), []int32{2, 4}},
		"nothing": {`null`, `{}`, `{"eos_token":null}`, tokenizerOf(), nil},
	} {
		files := map[string][]byte{"model.safetensors": good, "tokenizer.json": c.tokenizer}
		for file, content := range map[string]string{"generation_config.json": c.generation, "tokenizer_config.json": c.decoder} {
			if content != "" {
				files[file] = []byte(content)
			}
		}
		m, err := weights.OpenFS(weightstest.Directory(strings.Replace(weightstest.Config, `"vocab_size":3`,
			`"vocab_size":9,"eos_token_id":`+c.eos, 1), files))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ends := m.Ends(9)
		if got := ids(ends); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, ends, c.want)
		}
		if got, want := strings.Join(m.Doubts, "\n"), endDoubts[name]; got != want {
			t.Errorf("%s: got doubts\n%s\nwant\n%s", name, got, want)
		}
		if name == "tokenizer knows better" {
			if got, want := ends[1].String(), "6 <|im_end|> (eos_token of the tokenizer, its spelling)"; got != want ||
				ends[0].String() != "0 a (config.json, generation_config.json)" {
				t.Errorf("got %v, want the second to be %q", ends, want)
			}
		}
	}
}

func TestEndsOfGGUF(t *testing.T) {
	tokens := []string{"a", "</s>", "<|im_end|>", "<|eom_id|>", "<|endoftext|>", "<|eot_id|>", "<|end|>"}
	meta := weightstest.Metadata{"tokenizer.ggml.tokens": tokens, "llama.vocab_size": uint32(7), "tokenizer.ggml.eos_token_id": uint32(1),
		"tokenizer.ggml.eot_token_id": uint32(5), "tokenizer.ggml.eom_token_id": uint32(1 << 31)}
	for _, c := range []struct {
		types, want []int32 // types nil: none
		doubts      int
	}{
		{[]int32{1, 3, 3, 1, 3, 1, 4}, []int32{1, 5, 2, 3, 6}, 3},
		// <|eot_id|> has no type of a special token, <|eom_id|> and <|end|> neither
		{[]int32{1, 3, 3, 3, 3, 3, 3}, []int32{1, 5, 2, 3, 6}, 0},
		{nil, []int32{1, 5, 2, 3, 6}, 4},
	} {
		if delete(meta, "tokenizer.ggml.token_type"); c.types != nil {
			meta["tokenizer.ggml.token_type"] = c.types
		}
		m, err := openGGUF(t, weightstest.TinyGGUF(meta, "token_embd.weight"))
		if err != nil {
			t.Fatal(err)
		}
		ends := m.Ends(7)
		if got := ids(ends); !slices.Equal(got, c.want) || len(m.Doubts) != c.doubts {
			t.Errorf("%v: got %v, want %v; doubts %q", c.types, ends, c.want, m.Doubts)
		}
		types := m.Tokenizer.GGUF.TokenTypes
		for _, id := range []int{2, 3, 5, 6} { // llama.cpp cuts them out of texts whatever their type
			if types[id] != 3 {
				t.Errorf("%v: got types %v", c.types, types)
			}
		}
		if types[0] != 1 {
			t.Errorf("%v: got types %v", c.types, types)
		}
	}
}

// What Python's json module writes is read, and what is not read may be anything.
func TestConfigAsPythonWritesIt(t *testing.T) {
	good := weightstest.OneTensor("a")
	text := "\ufeff" + strings.NewReplacer(`"max_position_embeddings":16`, `"max_position_embeddings":512.0`, `"vocab_size":3`,
		`"vocab_size":3.000,"router_loss":NaN,"bounds":[-Infinity,Infinity],"note":"NaN 1.0 \" Infinity","initializer_range":1.05`).Replace(weightstest.Config)
	m, err := weights.OpenFS(weightstest.Directory(text,
		map[string][]byte{"model.safetensors": good, "generation_config.json": []byte(`{"temperature":NaN,"eos_token_id":2.0}`)}))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		MaxPositions int `json:"max_position_embeddings"`
		Vocabulary   int `json:"vocab_size"`
	}
	if err := m.Config(&got); err != nil || got.MaxPositions != 512 || got.Vocabulary != 3 || !slices.Equal(ids(m.Ends(3)), []int32{2}) {
		t.Errorf("got %+v, %v, %v", got, m.Ends(3), err)
	}
	for change, want := range map[string]string{`"max_position_embeddings":512.5`: "config.json: max_position_embeddings is a JSON " +
		"number 512.5, and a whole number",
		`"max_position_embeddings":NaN`:  "config.json: maximum position is 0",
		`"max_position_embeddings":"16"`: "config.json: max_position_embeddings is a JSON string",
		`"max_position_embeddings":16,,`: "config.json: invalid character"} {
		_, err := model.OpenFS(weightstest.Directory(strings.Replace(weightstest.Config, `"max_position_embeddings":16`, change, 1),
			map[string][]byte{"model.safetensors": good}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", change, err, want)
		}
	}
}

// Whatever JSON file is none, or of another kind, is refused in JSON's words; a byte order mark says nothing.
func TestJSONThatIsNone(t *testing.T) {
	good := weightstest.OneTensor("a")
	utf16 := func(text string) string {
		encoded := "\xff\xfe"
		for _, c := range []byte(text) {
			encoded += string([]byte{c, 0})
		}
		return encoded
	}
	for _, name := range []string{"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
		"special_tokens_map.json", "chat_template.json"} {
		for content, want := range map[string]string{`[]`: " is a JSON array, and an object is wanted",
			`3`: " is a JSON number, and an object is wanted", `"x"`: " is a JSON string, and an object is wanted",
			utf16("{}"): " is written in UTF-16 or UTF-32, or is no text", "\x00\x00\xfe\xff": " is written in UTF-16",
			"{": ": unexpected end of JSON input"} {
			_, err := weights.OpenFS(weightstest.Directory(weightstest.Config,
				map[string][]byte{"model.safetensors": good, name: []byte(content)}))
			if err == nil || !strings.Contains(err.Error(), name+want) || strings.Contains(err.Error(), "struct") {
				t.Errorf("%s is %q: got error %v, want %q", name, content, err, want)
			}
		}
		content := map[bool]string{true: weightstest.Config, false: "{}"}[name == "config.json"]
		m, err := weights.OpenFS(weightstest.Directory(weightstest.Config,
			map[string][]byte{"model.safetensors": good, name: []byte("\ufeff" + content)}))
		if err != nil {
			t.Errorf("%s with a byte order mark: got error %v", name, err)
		} else if source := string(m.Tokenizer.HuggingFace); source != "{}" { // as routers get it
			t.Errorf("%s: got tokenizer %q", name, source)
		}
	}
	for header, want := range map[string]string{`[]`: "its header is a JSON array, and an object",
		`{"a":[]}`: "tensor a is a JSON array, and an object", `{"a":{"shape":"x"}}`: "tensor a: shape is a JSON string, and an array"} {
		_, err := weights.OpenFS(weightstest.Directory(weightstest.Config,
			map[string][]byte{"model.safetensors": weightstest.Safetensors(header, 0)}))
		if err == nil || !strings.Contains(err.Error(), "model.safetensors: "+want) {
			t.Errorf("%s: got error %v, want %q", header, err, want)
		}
	}
}

// Tokens that the model has no rows for are told of.
func TestTokensBeyondTheModel(t *testing.T) {
	good := weightstest.OneTensor("a")
	m, err := weights.OpenFS(weightstest.Directory(weightstest.Config,
		map[string][]byte{"model.safetensors": good, "tokenizer.json": tokenizerOf("<|x|>", "<|y|>")}))
	if err != nil {
		t.Fatal(err)
	}
	m.Ends(3)
	const want = "3 tokens of the tokenizer are beyond the model's vocabulary of 3, the first is 3 d: prompts"
	if len(m.Doubts) != 1 || !strings.HasPrefix(m.Doubts[0], want) {
		t.Errorf("got %q, want %q", m.Doubts, want)
	}
	m, err = openGGUF(t, weightstest.TinyGGUF(weightstest.Metadata{"tokenizer.ggml.tokens": []string{"a", "b", "c", "d", "e"}},
		"token_embd.weight"))
	if err == nil {
		m.Ends(4)
	}
	if err != nil || len(m.Doubts) != 1 || !strings.HasPrefix(m.Doubts[0],
		"1 tokens of the tokenizer are beyond the model's vocabulary of 4, the first is 4 e") {
		t.Errorf("got %v, %v", m, err)
	}
}

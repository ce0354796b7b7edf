package masks_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lockstep/protocol/guide"
	"lockstep/protocol/guide/cases"
	"lockstep/protocol/outside"
	"lockstep/shard/masks"
	"lockstep/shard/sample"
)

// smallVocabulary has all bytes, and words of many kinds: whole and cut characters, signs of JSON together, long ones. Its last two tokens
// are ends.
func smallVocabulary(seed uint64) (words []string, ends []int32) {
	r := rand.New(rand.NewPCG(seed, 1))
	seen := map[string]bool{}
	add := func(word string) {
		if !seen[word] {
			seen[word] = true
			words = append(words, word)
		}
	}
	for b := range 256 {
		add(string([]byte{byte(b)}))
	}
	pieces := []string{`"`, `",`, `":`, `{"`, `"}`, `\`, `\u`, `\n`, "\n", "\t", " ",
		"  ", "é", "日", "😀", "a", "b", "ab", "abc", "x-", "e", "0", "1", "7",
		"10", "99", ".5", "-", "e+", "true", "null", "[", "]", "],", "}", ",", ":", "the", "Z", "_", "-a", "\x7f",
		"\xe6\x97", "\xa5", "\xf0\x9f", "foo", "f", "<", "c>", "</c>", "t>"}
	for _, special := range []string{"<c>", "<t>", "</t>", "<d>"} {
		add(guide.Special + special)
		add(special)
	}
	for len(words) < 9000 {
		word := ""
		for range 1 + r.IntN(4) {
			word += pieces[r.IntN(len(pieces))]
		}
		add(word)
	}
	for _, length := range []int{20, 60, 130} {
		add(strings.Repeat("a", length))
		add(strings.Repeat("日", length/3) + `"`)
	}
	r.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	first := int32(len(words))
	return append(words, "", ""), []int32{first, first + 1}
}

func newVocabulary(words []string, ends []int32) *masks.Vocabulary {
	return masks.NewVocabulary(len(words), func(id int32) string { return words[id] }, ends)
}

// sources are of many shapes: those that plain characters, loops and leaving rules matter to above all.
func sources(t testing.TB) (all []guide.Source) {
	for _, schema := range []string{
		`{}`, `{"type":"string"}`, `{"type":"string","maxLength":3}`, `{"type":"string","minLength":5,"maxLength":90}`,
		`{"type":"string","minLength":200}`, `{"type":"array","items":{"type":"string","maxLength":30},"maxItems":40}`,
		`{"properties":{"abc":{"type":"string"},"ab":{}},"additionalProperties":{"type":"string","minLength":2}}`,
		`{"patternProperties":{"f.*o":{"type":"integer"}},"additionalProperties":{"type":"string","maxLength":4}}`, `{"type":"string","pattern":"^[^0-9]+$"}`,
		`{"type":"string","pattern":"foo"}`, `{"type":"string","pattern":"^.{2,40}$"}`, `{"type":"string","pattern":"^\\w+-[a-z]*$","maxLength":25}`,
		`{"type":"array","items":{"type":"number","minimum":-1.5},"minItems":20,"maxItems":30}`, `{"$ref":"#/$defs/t",
		"$defs":{"t":{"properties":{"t":{"$ref":"#/$defs/t"},"l":{"type":"array","items":{"$ref":"#/$defs/t"}}}}}}`,
		`{"anyOf":[{"type":"string","maxLength":5},{"type":"string","pattern":"a$"},{"type":"object"}]}`,
	} {
		for _, space := range []guide.WhiteSpace{guide.Tidy, guide.None, guide.Any} {
			all = append(all, guide.Source{Kind: guide.Schema, Text: schema, WhiteSpace: space, Open: space == guide.Any})
		}
	}
	for _, regex := range []string{`.*`, `[a-z ]+@[a-z]+`, `(?s).*`, `.{0,30}.{0,30}z`, `"[^"]*"(,"[^"]*")*`, `(\w|日)+\n?`, `[\x{80}-\x{ffff}]{1,500}x`} {
		all = append(all, guide.Source{Kind: guide.Regex, Text: regex})
	}
	for _, grammar := range []string{
		`root ::= line*` + "\n" + `line ::= [^"\\]* "\n"`, `root ::= "\"" char* "\""` + "\n" + `char ::= [^"\\\x00-\x1f] | "\\" ["\\bfnrt]`,
		`root ::= (("a"{1,100}){1,100}){1,100}`, `root ::= word{3,200} end` + "\n" + `word ::= [a-z]+ " "` + "\n" + `end ::= "." | ",\n" root`,
		`root ::= .{70,400} "z"`, `root ::= ([a-z] | "é"){0,100} [a-z]{2} | "x" [^a]{0,90}`,
	} {
		all = append(all, guide.Source{Kind: guide.Grammar, Text: grammar})
	}
	calls := guide.Calls{BeforeName: "<c>", BeforeArguments: ":", AfterArguments: "</c>", Between: ",", Tokens: []string{"<c>"},
		Tools: []guide.Function{{Name: "foo", Parameters: []byte(`{"properties":{"a":{"type":"string"}}}`)}, {Name: "f"}}}
	for _, marker := range []string{"", "<c>"} {
		calls.Marker = marker
		source, err := calls.Source(guide.Tidy, false)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, source)
		source.Thought = guide.Thought{Start: "<t>", End: "</t>", Inside: marker != ""}
		all = append(all, source)
	}
	return append(all, guide.Source{Kind: guide.Choice, Text: `["ab","abc","a\"b",""]`})
}

// allowed tells of every token whether its bytes keep the text viable, by a machine of its own and byte by byte.
func allowed(t testing.TB, program *guide.Program, words []string, ends []int32, text string) (ids []int32) {
	t.Helper()
	m := guide.NewMachine(program)
	follow := func(s guide.State, text string) guide.State {
		for i := 0; i < len(text) && s != guide.Dead; i++ {
			var err error
			if s, err = m.Next(s, text[i]); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	state := follow(m.Start(), text)
	for id, word := range words {
		if word != "" && follow(state, word) != guide.Dead || m.Complete(state) && slices.Contains(ends, int32(id)) {
			ids = append(ids, int32(id))
		}
	}
	return ids
}

func idsOf(mask *sample.Mask, size int) (ids []int32) {
	for id := range int32(size) {
		if mask.Has(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestMasks compares masks along random walks with what each token alone does.
func TestMasks(t *testing.T) {
	for seed, source := range sources(t) {
		words, ends := smallVocabulary(uint64(seed % 3))
		vocabulary := newVocabulary(words, ends)
		program, err := guide.Compile(source)
		if err != nil {
			t.Fatalf("%s: %v", source.Text, err)
		}
		g := masks.New(vocabulary, program)
		r := rand.New(rand.NewPCG(uint64(seed), 2))
		for range 2 {
			var place masks.Place
			var tokens []int32
			text := ""
			for range 9 {
				mask, err := g.Mask(&place, tokens)
				if err != nil {
					t.Fatalf("%s: %q: %v", source.Text, text, err)
				}
				got, want := idsOf(mask, len(words)), allowed(t, program, words, ends, text)
				if !slices.Equal(got, want) {
					t.Fatalf("%s: %q: %d tokens allowed, want %d", source.Text, text, len(got), len(want))
				}
				if len(got) == 0 {
					t.Fatalf("%s: %q: nothing is allowed", source.Text, text)
				}
				next := got[r.IntN(len(got))]
				if slices.Contains(ends, next) {
					break
				}
				tokens, text = append(tokens, next), text+words[next]
			}
		}
	}
}

// TestWalksEnd walks by masks until the end is allowed: what comes of schemas is JSON.
func TestWalksEnd(t *testing.T) {
	words, ends := smallVocabulary(1)
	vocabulary := newVocabulary(words, ends)
	ended := 0
	for seed, source := range sources(t) {
		program, err := guide.Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		g := masks.New(vocabulary, program)
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		for range 3 {
			var place masks.Place
			var tokens []int32
			text := ""
			for len(tokens) < 300 {
				mask, err := g.Mask(&place, tokens)
				if err != nil {
					t.Fatalf("%s: %q: %v", source.Text, text, err)
				}
				if mask.Has(ends[0]) {
					if ended++; source.Kind == guide.Schema && !json.Valid([]byte(text)) {
						t.Errorf("%s: %q may end, and is no JSON", source.Text, text)
					}
					break
				}
				ids := idsOf(mask, len(words))
				next := ids[r.IntN(len(ids))]
				tokens, text = append(tokens, next), text+words[next]
			}
		}
	}
	if ended < 60 {
		t.Errorf("%d walks came to an end", ended)
	}
}

// TestBeginsAnew has a guide forget again and again what it found out: those who go on from there, those who come from long ago and those
// who begin see the same masks.
func TestBeginsAnew(t *testing.T) {
	words, ends := smallVocabulary(2)
	vocabulary := newVocabulary(words, ends)
	program, err := guide.Compile(guide.Source{Kind: guide.Schema, Text: `{"type":"array","items":{"type":"string","maxLength":50}}`})
	if err != nil {
		t.Fatal(err)
	}
	calm, hasty := masks.New(vocabulary, program), masks.New(vocabulary, program)
	hasty.SetLimit(300 << 10)
	r := rand.New(rand.NewPCG(4, 4))
	var at, going, late masks.Place
	var tokens []int32
	for len(tokens) < 400 {
		want, err := calm.Mask(&at, tokens)
		if err != nil {
			t.Fatal(err)
		}
		var fresh masks.Place
		places := map[string]*masks.Place{"going on": &going, "beginning": &fresh}
		if len(tokens)%50 == 0 {
			places["late"] = &late
		}
		for name, place := range places {
			got, err := hasty.Mask(place, tokens)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(idsOf(got, len(words)), idsOf(want, len(words))) {
				t.Fatalf("%s behind %d tokens: the mask is another", name, len(tokens))
			}
		}
		ids := slices.DeleteFunc(idsOf(want, len(words)), func(id int32) bool { return slices.Contains(ends, id) || words[id] == "]" })
		if len(ids) == 0 {
			break
		}
		tokens = append(tokens, ids[r.IntN(len(ids))])
	}
	if hasty.Age() < 3 {
		t.Errorf("behind %d tokens the guide began anew %d times", len(tokens), hasty.Age()-1)
	}
	if hasty.Bytes() > 3<<20 {
		t.Errorf("it keeps %d bytes", hasty.Bytes())
	}
}

// TestDrafts follows guesses from a copy of a place: that they are wrong, or lost, does not move the place.
func TestDrafts(t *testing.T) {
	words, ends := smallVocabulary(0)
	vocabulary := newVocabulary(words, ends)
	program, err := guide.Compile(guide.Source{Kind: guide.Schema, WhiteSpace: guide.None, Text: `{"properties":{"a":{"type":"integer"}},"required":["a"]}`})
	if err != nil {
		t.Fatal(err)
	}
	g := masks.New(vocabulary, program)
	spell := func(text string) (ids []int32) {
		for _, b := range []byte(text) {
			ids = append(ids, int32(slices.Index(words, string([]byte{b}))))
		}
		return ids
	}
	var place masks.Place
	said := spell(`{"a":1`)
	if _, err := g.Mask(&place, said); err != nil {
		t.Fatal(err)
	}
	for _, guess := range []string{"23", "}", "0}"} {
		draft := place
		if _, err := g.Mask(&draft, append(slices.Clone(said), spell(guess)...)); err != nil {
			t.Errorf("%q: %v", guess, err)
		}
	}
	back := place // it stands further on than the text
	if mask, err := g.Mask(&back, said[:1]); err != nil || !mask.Has(spell(`"`)[0]) || mask.Has(spell("1")[0]) {
		t.Errorf("a shorter text: got %v, %v", mask, err)
	}
	draft := place
	if _, err := g.Mask(&draft, append(slices.Clone(said), spell(`2"`)...)); !errors.Is(err, masks.ErrLost) {
		t.Errorf("a wrong guess: got %v, want %v", err, masks.ErrLost)
	}
	draft = place
	if _, err := g.Mask(&draft, append(slices.Clone(said), ends[0])); !errors.Is(err, masks.ErrLost) {
		t.Errorf("an end within the text: got %v, want %v", err, masks.ErrLost)
	}
	if ended, err := g.Ended(&place, append(said, spell("}")...)); !ended || err != nil {
		t.Errorf("the text has ended: got %v, %v", ended, err)
	}
	if ended, err := g.Ended(&masks.Place{}, said); ended || err != nil {
		t.Errorf("the text goes on: got %v, %v", ended, err)
	}
}

// TestHostile walks what was made to hurt: whatever happens, it is no lost text, and a mask that is found allows something.
func TestHostile(t *testing.T) {
	words, ends := smallVocabulary(0)
	vocabulary := newVocabulary(words, ends)
	for _, c := range outside.Lines[cases.Case](t, outside.Shared(t, "golden", "guided", "hostile_cases.jsonl")) {
		program, err := guide.Compile(c.Source())
		if err != nil {
			continue
		}
		g := masks.New(vocabulary, program)
		r := rand.New(rand.NewPCG(5, 5))
		var place masks.Place
		var tokens []int32
		for len(tokens) < 60 {
			mask, err := g.Mask(&place, tokens)
			if err != nil {
				t.Errorf("%s behind %d tokens: %v", c.ID, len(tokens), err)
				break
			}
			ids := idsOf(mask, len(words))
			if len(ids) == 0 {
				t.Errorf("%s behind %d tokens: nothing is allowed", c.ID, len(tokens))
				break
			}
			next := ids[r.IntN(len(ids))]
			if slices.Contains(ends, next) {
				break
			}
			tokens = append(tokens, next)
		}
		if g.Bytes() > 96<<20 {
			t.Errorf("%s keeps %d bytes", c.ID, g.Bytes())
		}
	}
}

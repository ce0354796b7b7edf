package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lockstep/protocol"
	"lockstep/protocol/guide/cases"
	"lockstep/protocol/text"
)

// work is what everybody does; peers read it as JSON.
type work struct {
	Tokenizer  string   `json:"tokenizer"`  // path of a tokenizer.json
	Vocabulary [][]byte `json:"vocabulary"` // what each token adds to a text; nothing: it must not be said
	Ends       []int32  `json:"ends"`
	Schemas    []schema `json:"schemas"`
}

type schema struct {
	ID     string    `json:"id"`
	Text   string    `json:"text"`
	Closed bool      `json:"closed"`
	Texts  [][]int32 `json:"texts"`
}

// endNames are Llama-3's tokens at which a generation ends.
var endNames = []string{"<|end_of_text|>", "<|eot_id|>"}

func readWork(shared, path string) (w work, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return w, fmt.Errorf("%w (scripts/get-tokenizers brings it)", err)
	}
	tokenizer, err := text.New(protocol.TokenizerSource{HuggingFace: data})
	if err != nil {
		return w, err
	}
	w.Tokenizer = path
	w.Vocabulary = make([][]byte, tokenizer.VocabularySize())
	for id := range w.Vocabulary {
		if w.Vocabulary[id] = []byte{}; !tokenizer.IsSpecial(int32(id)) {
			w.Vocabulary[id] = []byte(tokenizer.Bytes(int32(id)))
		}
	}
	for _, name := range endNames {
		if id, ok := tokenizer.TokenID(name); ok {
			w.Ends = append(w.Ends, id)
		}
	}
	w.Schemas, err = readSchemas(filepath.Join(shared, "golden", "guided", "schema_cases.jsonl"), tokenizer)
	return w, err
}

// readSchemas reads the schemas that have texts, each once, with the texts that they accept with any white space.
func readSchemas(path string, tokenizer *text.Tokenizer) (schemas []schema, err error) {
	read, err := cases.Read(path)
	if err != nil {
		return nil, err
	}
	places := map[[2]string]int{}
	said := map[[2]string][]string{}
	for _, c := range read {
		if c.Refuse != "" || len(c.Instances) == 0 {
			continue
		}
		key := [2]string{string(c.Schema), c.Additional}
		at, ok := places[key]
		if !ok {
			at = len(schemas)
			places[key] = at
			schemas = append(schemas, schema{ID: c.ID, Text: string(c.Schema), Closed: c.Additional != "open", Texts: [][]int32{}})
		}
		for _, instance := range c.Instances {
			if !instance.Accept || slices.Contains(said[key], instance.Text) {
				continue
			}
			said[key] = append(said[key], instance.Text)
			ids, err := tokenizer.Encode(instance.Text, false)
			if err != nil {
				return nil, err
			}
			if tokenizer.Decode(ids, false) == instance.Text && !strings.Contains(instance.Text, "<|") { // no special tokens in texts
				schemas[at].Texts = append(schemas[at].Texts, ids)
			}
		}
	}
	return schemas, nil
}

package openapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lockstep/router/openapi"
)

// documents are all that a server can have, by name.
func documents() map[string][]byte {
	made := map[string][]byte{"TGI's form": openapi.TGIForm}
	known := openapi.Options{MaxBestOf: 2, MaxStopSequences: 4, MaxClientBatchSize: 4, MaxAnswers: 128, ModelID: "m", MaxInputTokens: 99, MaxTotalTokens: 100, VocabularySize: 50}
	for _, o := range []openapi.Options{{}, known} {
		for _, three := range []bool{false, true} {
			o.TGI3, o.OldLightLLMErrors = three, three
			name := fmt.Sprintf("TGI 3 %t, %d tokens", three, o.MaxTotalTokens)
			made[name] = o.All()
			for _, dialect := range openapi.Dialects {
				made[name+", "+dialect] = o.Of(dialect, dialect != "openai", "")
				made[name+", "+dialect+" prefixed"] = o.Of(dialect, false, "/"+dialect)
			}
		}
	}
	return made
}

// walk visits every value below a value, with its path.
func walk(path string, value any, visit func(path string, value any)) {
	visit(path, value)
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			walk(path+"/"+name, member, visit)
		}
	case []any:
		for i, item := range v {
			walk(fmt.Sprintf("%s/%d", path, i), item, visit)
		}
	}
}

// References lead somewhere, what is required exists, operations have names of their own, and no placeholder is left.
func TestDocumentsAreSound(t *testing.T) {
	for name, data := range documents() {
		var document map[string]any
		if err := json.Unmarshal(data, &document); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		operations := map[string]bool{}
		walk("", document, func(path string, value any) {
			switch v := value.(type) {
			case string:
				if strings.Contains(v, "$m") {
					t.Errorf("%s: %s has %q", name, path, v)
				}
			case map[string]any:
				checkObject(t, name+path, v, document)
				if id, ok := v["operationId"].(string); ok && operations[id] {
					t.Errorf("%s: %s: the operation %s is there twice", name, path, id)
				} else if ok {
					operations[id] = true
				}
			}
		})
	}
}

func checkObject(t *testing.T, path string, v, document map[string]any) {
	if reference, ok := v["$ref"].(string); ok {
		var at any = document
		for _, part := range strings.Split(strings.TrimPrefix(reference, "#/"), "/") {
			object, _ := at.(map[string]any)
			at = object[part]
		}
		if at == nil {
			t.Errorf("%s: %s leads nowhere", path, reference)
		}
	}
	properties, _ := v["properties"].(map[string]any)
	required, _ := v["required"].([]any)
	for _, name := range required {
		if v["type"] == "object" && properties[name.(string)] == nil {
			t.Errorf("%s: %s is required, but there is no such property", path, name)
		}
	}
}

// The same options make the same bytes, and their limits stand in them.
func TestDocumentsTellLimits(t *testing.T) {
	o := openapi.Options{MaxBestOf: 7, MaxStopSequences: 4, MaxTotalTokens: 12345, VocabularySize: 50}
	if first := o.All(); !bytes.Equal(first, o.All()) || !bytes.Contains(first, []byte(`"maximum":7`)) || !bytes.Contains(first, []byte(`"maximum":12344`)) {
		t.Errorf("got %.300s", first)
	}
	if unknown := (openapi.Options{}).All(); bytes.Contains(unknown, []byte(`"maximum":12344`)) {
		t.Error("limits are kept")
	}
	if len(openapi.Dialects) != 4 || !slices.Contains(openapi.Dialects, "openai") {
		t.Errorf("dialects %v", openapi.Dialects)
	}
}

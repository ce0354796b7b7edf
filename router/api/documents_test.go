package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"lockstep/router/api/tgi"
	"lockstep/router/openapi"
	"lockstep/router/request"
)

// described are the dialects of a server that answers as TGI 3 and with LightLLM's old errors, or as neither.
func described(other bool) []openapi.Part {
	config := Config{Limits: request.DefaultLimits(), TGIVersion: tgi.Form094, DefaultDialect: tgi.Name, OldLightLLMErrors: other,
		Permits: 128}
	if other {
		config.TGIVersion = tgi.Form3
	}
	return newTestServer(config).documented()
}

// allDocuments are all that a server can have, by name.
func allDocuments() map[string][]byte {
	form, err := os.ReadFile("tgi/api_doc.json")
	if err != nil {
		panic(err)
	}
	made := map[string][]byte{"TGI's form": form}
	known := openapi.Options{Limits: request.DefaultLimits(), ModelID: "m", MaxInputTokens: 99, MaxTotalTokens: 100, VocabularySize: 50}
	for _, o := range []openapi.Options{{Limits: known.Limits}, known} {
		for _, other := range []bool{false, true} {
			name := fmt.Sprintf("TGI 3 %t, %d tokens", other, o.MaxTotalTokens)
			made[name] = o.All(described(other))
			for _, part := range described(other) {
				made[name+", "+part.Name] = o.Of(described(other), part.Name, !part.Beside, "")
				made[name+", "+part.Name+" prefixed"] = o.Of(described(other), part.Name, false, "/"+part.Name)
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
	for name, data := range allDocuments() {
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
	o := openapi.Options{Limits: request.Limits{MaxBestOf: 7, MaxStopSequences: 4}, MaxTotalTokens: 12345, VocabularySize: 50}
	first := o.All(described(false))
	if !bytes.Equal(first, o.All(described(false))) || !bytes.Contains(first, []byte(`"maximum":7`)) ||
		!bytes.Contains(first, []byte(`"maximum":12344`)) {
		t.Errorf("got %.300s", first)
	}
	if unknown := (openapi.Options{}).All(described(false)); bytes.Contains(unknown, []byte(`"maximum":12344`)) {
		t.Error("limits are kept")
	}
}

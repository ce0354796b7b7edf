// Package openapi describes the server's HTTP interface as OpenAPI documents, and holds the page that shows them.
//
// Each dialect's paths and schemas stand in a file, in the words of its clients; files with a second part in their names
// replace entries of the first where the dialect has another form. A document is put together from these, holds only what
// its paths need, and tells the limits of the server that serves it: "$name" stands for them in the files. The package
// knows nothing of the server, whose tests compare its routes with the documents.
package openapi

import (
	"cmp"
	"embed"
	"strconv"
	"strings"
)

//go:embed common.json tgi.json tgi_3.json mindie.json lightllm.json lightllm_old.json openai.json
var files embed.FS

// TGIForm is what TGI 0.9.4 has at /api-doc/openapi.json, for those who make clients from it: its operations, schemas and
// their names, in OpenAPI 3.0.
//
//go:embed api_doc.json
var TGIForm []byte

// Dialects are those that have a file, in the order in which a document of all has them. OpenAI's paths have no prefix there.
var Dialects = []string{"openai", "tgi", "mindie", "lightllm"}

const unprefixed = "openai"

// Options are what a document depends on beside its dialects. Of counts, 0 is unknown.
type Options struct {
	TGI3              bool
	OldLightLLMErrors bool

	MaxBestOf          int
	MaxStopSequences   int
	MaxClientBatchSize int
	MaxAnswers         int // of one request of OpenAI's

	Build string // the version of this program; empty: none is named

	ModelID        string
	MaxInputTokens int
	MaxTotalTokens int
	VocabularySize int
}

const introAll = `An LLM server that answers in the dialects of other servers. Each has its paths below its own name: ` +
	"`/tgi`, `/mindie`, `/lightllm`; OpenAI's stand at the root. Without a name in front, path and body tell the dialect, " +
	"else `--default-dialect` answers. " + introRest

const introOne = "An LLM server that answers in the dialects of other servers. These are the paths of one of them. " + introRest

const introRest = "Paths with `GET` have `HEAD` too. An unknown path is answered by 404, an unknown method by 405, in the form " +
	"of the dialect's errors: empty for TGI, else JSON."

// All returns the document of all dialects.
func (o Options) All() []byte {
	a := newAssembly(o)
	for _, dialect := range Dialects {
		prefix := "/" + dialect
		if dialect == unprefixed {
			prefix = ""
		}
		a.addPaths(dialect, prefix)
	}
	return a.document(introAll, "")
}

// Of returns the document of one dialect. beside adds what OpenAI's has more: a server of one dialect answers that too.
// server is the prefix of all paths, "" for none.
func (o Options) Of(dialect string, beside bool, server string) []byte {
	a := newAssembly(o)
	a.addPaths(dialect, "")
	if beside {
		a.addPaths(unprefixed, "")
	}
	return a.document(introOne, server)
}

// assembly is a document in the making.
type assembly struct {
	options Options
	common  *object
	parts   map[string]*object // by dialect
	pool    *object            // all components: kinds of names
	tags    []any
	paths   *object
}

func newAssembly(o Options) *assembly {
	a := &assembly{options: o, common: readFile("common.json"), parts: map[string]*object{}, pool: newObject(), paths: newObject()}
	a.pool = a.common.object("components")
	for _, dialect := range Dialects {
		a.parts[dialect] = readFile(dialect + ".json")
	}
	if o.TGI3 {
		a.parts["tgi"].replace(readFile("tgi_3.json"))
	}
	if o.OldLightLLMErrors {
		a.parts["lightllm"].replace(readFile("lightllm_old.json"))
	}
	// What a form replaces may be another dialect's, so that this comes last.
	for _, dialect := range []string{"openai", "mindie", "lightllm", "tgi"} {
		components := a.parts[dialect].object("components")
		for _, kind := range components.names {
			into := a.pool.object(kind)
			entries := components.object(kind)
			for _, name := range entries.names {
				into.set(name, entries.values[name])
			}
			a.pool.set(kind, into)
		}
	}
	return a
}

// addPaths adds a dialect's paths. Those that are there already stay.
func (a *assembly) addPaths(dialect, prefix string) {
	part := a.parts[dialect]
	tags, _ := part.values["tags"].([]any)
	a.tags = append(a.tags, tags...)
	paths := part.object("paths")
	for _, path := range paths.names {
		if a.paths.values[prefix+path] == nil {
			a.paths.set(prefix+path, paths.values[path])
		}
	}
}

// document puts everything together.
func (a *assembly) document(intro, server string) []byte {
	d := newObject()
	d.set("openapi", a.common.values["openapi"])
	info := a.common.object("info")
	info.set("description", intro)
	info.set("version", cmp.Or(a.options.Build, "unknown"))
	d.set("info", info)
	if server != "" {
		entry := newObject()
		entry.set("url", server)
		d.set("servers", []any{entry})
	}
	common, _ := a.common.values["tags"].([]any)
	d.set("tags", append(a.tags, common...))
	d.set("paths", a.paths)
	components := newObject()
	components.set("securitySchemes", a.pool.values["securitySchemes"])
	d.set("components", a.needed(components))
	a.options.fill(d)
	return d.encode()
}

// needed adds to components what the paths refer to, and what that refers to, in the order of the files.
func (a *assembly) needed(components *object) *object {
	seen := map[string]bool{}
	var visit func(value any)
	visit = func(value any) {
		switch v := value.(type) {
		case []any:
			for _, item := range v {
				visit(item)
			}
		case *object:
			if reference, ok := v.values["$ref"].(string); ok && !seen[reference] {
				seen[reference] = true
				kind, name, _ := strings.Cut(strings.TrimPrefix(reference, "#/components/"), "/")
				visit(a.pool.object(kind).values[name])
			}
			for _, name := range v.names {
				visit(v.values[name])
			}
		}
	}
	visit(a.paths)
	for _, kind := range a.pool.names {
		chosen, entries := newObject(), a.pool.object(kind)
		for _, name := range entries.names {
			if seen["#/components/"+kind+"/"+name] {
				chosen.set(name, entries.values[name])
			}
		}
		if len(chosen.names) > 0 {
			components.set(kind, chosen)
		}
	}
	return components
}

func (o Options) tgiVersion() string {
	if o.TGI3 {
		return "3.3.7"
	}
	return "0.9.4"
}

// limits are the numbers that files name; 0 is unknown.
func (o Options) limits() map[string]int {
	return map[string]int{
		"$max_best_of":           o.MaxBestOf,
		"$max_stop_sequences":    o.MaxStopSequences,
		"$max_client_batch_size": o.MaxClientBatchSize,
		"$max_answers":           o.MaxAnswers,
		"$max_input_tokens":      o.MaxInputTokens,
		"$max_new_tokens":        max(o.MaxTotalTokens-1, 0),
		"$max_token_id":          max(o.VocabularySize-1, 0),
	}
}

// fill puts in what the files name, and leaves out bounds that are not known.
func (o Options) fill(document *object) {
	limits, total := o.limits(), "as many as `--max-total-tokens`"
	if o.MaxTotalTokens > 0 {
		total = strconv.Itoa(o.MaxTotalTokens)
	}
	words := strings.NewReplacer("$max_total_tokens", total, "$tgi_version", o.tgiVersion(), "$model_id", cmp.Or(o.ModelID, "the-model"))
	var visit func(value any) any
	visit = func(value any) any {
		switch v := value.(type) {
		case string:
			if limit, named := limits[v]; named && limit > 0 {
				return number(strconv.Itoa(limit))
			} else if named {
				return nil
			}
			return words.Replace(v)
		case []any:
			for i := range v {
				v[i] = visit(v[i])
			}
		case *object:
			for _, name := range append([]string(nil), v.names...) {
				before := v.values[name]
				if after := visit(before); after != nil || before == nil {
					v.values[name] = after
				} else {
					v.remove(name)
				}
			}
		}
		return value
	}
	visit(document)
}

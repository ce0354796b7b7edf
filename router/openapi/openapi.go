// Package openapi describes the server's HTTP interface as OpenAPI documents, and holds the page that shows them.
//
// Each dialect has its paths and schemas in a file, but for those that show the documents, in the words of its clients; another
// form of it may have a second file, which replaces entries. A document is put together from these, holds only what its paths
// need, and tells the limits of the server that serves it: "$name" stands for them in the files. The package knows nothing of the
// server, whose tests compare its routes with the documents.
package openapi

import (
	"cmp"
	_ "embed"
	"maps"
	"slices"
	"strconv"
	"strings"

	"lockstep/router/request"
)

//go:embed common.json
var common []byte

// Spec is a dialect's part of the documents.
type Spec struct {
	// File has the dialect's paths, schemas and tags.
	File []byte
	// Changes has entries that replace those of File and of other dialects; nil: none.
	Changes []byte
	// Words and Limits are put in for what the files name; a negative limit is not known.
	Words  map[string]string
	Limits map[string]int
}

// Part is a dialect with its name. One that is beside the others has no prefix where all are described.
type Part struct {
	Name   string
	Beside bool
	Spec   Spec
}

// Options are what a document depends on beside its dialects. Of the model's counts, 0 is unknown.
type Options struct {
	request.Limits

	Build string // the version of this program; empty: none is named

	ModelID        string
	MaxInputTokens int
	MaxTotalTokens int
	VocabularySize int
}

const introAll = `An LLM server that answers in the dialects of other servers. Each has its paths below its own name: ` +
	"$names stand at the root. Without a name in front, path and body tell the dialect, " +
	"else `--default-dialect` answers. " + introRest

const introOne = "An LLM server that answers in the dialects of other servers. These are the paths of one of them. " + introRest

const introRest = "Paths with `GET` have `HEAD` too. An unknown path is answered by 404, an unknown method by 405, in the form " +
	"of the dialect's errors: empty for TGI, else JSON."

// All returns the document of all dialects.
func (o Options) All(parts []Part) []byte {
	parts = slices.Clone(parts)
	slices.SortStableFunc(parts, func(a, b Part) int { // those at the root go first
		return cmp.Compare(rank(a), rank(b))
	})
	a := newAssembly(o, parts)
	var prefixed, beside []string
	for _, part := range parts {
		prefix := "/" + part.Name
		if part.Beside {
			prefix = ""
			beside = append(beside, "`"+part.Name+"`")
		} else {
			prefixed = append(prefixed, "`"+prefix+"`")
		}
		a.addPaths(part.Name, prefix)
	}
	names := strings.Join(prefixed, ", ") + "; those of " + strings.Join(beside, " and ")
	return a.document(strings.Replace(introAll, "$names", names, 1), "")
}

func rank(p Part) int {
	if p.Beside {
		return 0
	}
	return 1
}

// Of returns the document of one dialect. beside adds what those that are beside it have more: a server of one dialect
// answers that too. server is the prefix of all paths, "" for none.
func (o Options) Of(parts []Part, dialect string, beside bool, server string) []byte {
	a := newAssembly(o, parts)
	a.addPaths(dialect, "")
	for _, part := range parts {
		if beside && part.Beside {
			a.addPaths(part.Name, "")
		}
	}
	return a.document(introOne, server)
}

// assembly is a document in the making.
type assembly struct {
	options Options
	limits  map[string]int
	words   *strings.Replacer
	common  *object
	parts   map[string]*object // by dialect
	pool    *object            // all components: kinds of names
	tags    []any
	paths   *object
}

func newAssembly(o Options, parts []Part) *assembly {
	a := &assembly{options: o, common: readFile(common), parts: map[string]*object{}, paths: newObject(), limits: o.limits()}
	total := "as many as `--max-total-tokens`"
	if o.MaxTotalTokens > 0 {
		total = strconv.Itoa(o.MaxTotalTokens)
	}
	words := []string{"$max_total_tokens", total, "$model_id", cmp.Or(o.ModelID, "the-model")}
	a.pool = a.common.object("components")
	for _, part := range parts {
		a.parts[part.Name] = readFile(part.Spec.File)
		a.addComponents(a.parts[part.Name])
		for name, word := range part.Spec.Words {
			words = append(words, name, word)
		}
		maps.Copy(a.limits, part.Spec.Limits)
	}
	for _, part := range parts { // what they replace may be another dialect's, so that they come last
		if part.Spec.Changes != nil {
			changes := readFile(part.Spec.Changes)
			a.parts[part.Name].object("paths").add(changes.object("paths"))
			a.addComponents(changes)
		}
	}
	a.words = strings.NewReplacer(words...)
	return a
}

func (a *assembly) addComponents(part *object) {
	components := part.object("components")
	for _, kind := range components.names {
		into := a.pool.object(kind)
		into.add(components.object(kind))
		a.pool.set(kind, into)
	}
}

// addPaths adds a dialect's paths, and those that describe them. Those that are there already stay.
func (a *assembly) addPaths(dialect, prefix string) {
	part := a.parts[dialect]
	tags, _ := part.values["tags"].([]any)
	a.tags = append(a.tags, tags...)
	describing := readFile(common).object("paths")
	for _, path := range describing.names {
		get := describing.object(path).object("get")
		id, _ := get.values["operationId"].(string)
		get.set("operationId", dialect+id)
	}
	for _, paths := range []*object{part.object("paths"), describing} {
		for _, path := range paths.names {
			if a.paths.values[prefix+path] == nil {
				a.paths.set(prefix+path, paths.values[path])
			}
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
	a.fill(d)
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

// unknown stands for a number that is not known.
const unknown = -1

// limits are the numbers that files name.
func (o Options) limits() map[string]int {
	return map[string]int{
		"$max_best_of":           o.MaxBestOf,
		"$max_top_n_tokens":      o.MaxTopNTokens,
		"$max_stop_sequences":    o.MaxStopSequences,
		"$max_client_batch_size": o.MaxClientBatchSize,
		"$max_input_tokens":      cmp.Or(o.MaxInputTokens, unknown),
		"$max_new_tokens":        cmp.Or(max(o.MaxTotalTokens-1, 0), unknown),
		"$max_token_id":          cmp.Or(max(o.VocabularySize-1, 0), unknown),
	}
}

// fill puts in what the files name, and leaves out bounds that are not known.
func (a *assembly) fill(document *object) {
	var visit func(value any) any
	visit = func(value any) any {
		switch v := value.(type) {
		case string:
			if limit, named := a.limits[v]; named && limit >= 0 {
				return number(strconv.Itoa(limit))
			} else if named {
				return nil
			}
			return a.words.Replace(v)
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

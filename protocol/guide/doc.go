// Package guide compiles what a generation may say, a JSON schema, a regular expression, a grammar or a list of choices, into one
// automaton over bytes, and runs it. Routers compile to tell errors before any work is done, groups compile again and mask tokens by it
// (shard/masks). It is a pure core: an automaton is a function of its Source and of this package's Version, and a state is a function of
// the bytes that led to it, so parked, resumed and guessed sequences go on exactly (law 4 in docs/architecture.md).
//
// An automaton is a network of rules that call each other (a pushdown automaton). What could never be completed is cut away when it is
// compiled: a state that exists can go on to a whole text. So whether a token is allowed is whether its bytes lead to a state, and the
// text is whole if and only if its state is Complete.
//
// Compiling is bounded by counted work and by memory, never by a clock: whether a source is too large does not depend on the machine.
//
// The language of a schema is a subset of the documents that are valid by it (JSON Schema 2020-12): keys come in the order in which the
// schema names them, and white space only where WhiteSpace lets it stand. docs/guides.md has the keywords and rules. Regular
// expressions have Go's syntax, and match whole texts; grammars are those of llama.cpp (GBNF).
package guide

package wire

import (
	"bytes"
	"net/http"
	"slices"

	"lockstep/protocol/ordered"
	"lockstep/router/openapi"
	"lockstep/router/request"
)

// Dialect is what a dialect is to the front door, which calls nothing else of it.
type Dialect struct {
	// Name is told by the first segment of a path, in flags and in the documents. The front door sets it from its registry.
	Name   string
	Routes []Route
	// Frame sets the headers that every answer carries, and answers what needs no route, OPTIONS say; then it returns true.
	// methods are those of the path, none if it is unknown.
	Frame func(w http.ResponseWriter, r *http.Request, methods []string) (answered bool)
	// Refuse answers what the front door refuses: refusals of class Unauthorized, NotFound and MethodNotAllowed.
	Refuse func(w http.ResponseWriter, refusal *request.Refusal)
	// AllowSeparator stands between the methods that the header Allow names.
	AllowSeparator string
	// Claim tells whether a body for a route that other dialects have too is in this one; nil: none ever is.
	Claim func(*Keys) Claim
	// Beside: its routes are those of each other dialect too, where that has no such path.
	Beside bool
	// Root begins paths that are the dialect's to refuse where nobody has a route for them; "" for none.
	Root string
	// Shared are parameters that the dialect has got from another: there they speak for neither.
	Shared []string
	// Spec describes the routes.
	Spec openapi.Spec
}

// Route is one row of a dialect's table. A path that ends in /* has all paths below it.
type Route struct {
	Methods []string
	Path    string
	Serve   http.HandlerFunc
}

// Get is a route that has HEAD too.
func Get(path string, serve http.HandlerFunc) Route {
	return Route{[]string{http.MethodGet, http.MethodHead}, path, serve}
}

// Post is a route.
func Post(path string, serve http.HandlerFunc) Route {
	return Route{[]string{http.MethodPost}, path, serve}
}

// GetOrPost is a route that has HEAD too.
func GetOrPost(path string, serve http.HandlerFunc) Route {
	return Route{[]string{http.MethodGet, http.MethodHead, http.MethodPost}, path, serve}
}

// Claim says how surely a body is in a dialect. The surest wins; of equally sure ones the default dialect, else the first.
type Claim int

const (
	// NoClaim: nothing speaks for it.
	NoClaim Claim = iota
	// SomeKeys are there that are the dialect's, but weigh less than those of a family.
	SomeKeys
	// FamilyKeys are there that dialects of one family have in common.
	FamilyKeys
	// OwnKeys are there that no other has.
	OwnKeys
)

// Keys are a body as far as it shows in whose dialect it is.
type Keys struct {
	// Top are the members of the body, Parameters those of its member parameters.
	Top, Parameters []ordered.Member
	// Item is the first byte of the first element of inputs, ']' if there is none; 0: inputs are no array.
	Item byte
}

// KeysOf looks at the members of a body; shared parameters do not count.
func KeysOf(top []ordered.Member, shared []string) *Keys {
	k := &Keys{Top: top}
	k.Parameters, _ = Members(Find(top, "parameters"))
	k.Parameters = slices.DeleteFunc(k.Parameters, func(m ordered.Member) bool { return slices.Contains(shared, m.Name) })
	if inputs := Find(top, "inputs"); len(inputs) > 0 && inputs[0] == '[' {
		k.Item = bytes.TrimLeft(inputs[1:], " \t\r\n")[0]
	}
	return k
}

// Has reports whether one of the names is among the members.
func Has(list []ordered.Member, names ...string) bool {
	return slices.ContainsFunc(list, func(m ordered.Member) bool { return slices.Contains(names, m.Name) })
}

// Package request is the ground floor of the router: the one Request that dialects, admission and fleet speak of, the
// events that answer it, and the refusals that end it. It does no input or output.
package request

import (
	"fmt"
	"time"

	"lockstep/protocol"
)

// Request is one generation with everything resolved: ids instead of text, defaults applied, seed drawn. It does not
// change after it was submitted.
type Request struct {
	// Request is what a group is asked; ID and Generated are the fleet's, which sets them anew for each attempt.
	protocol.Request
	// CardDigest names the model card whose tokenizer made Prompt: only groups with a card of the same kind may serve the
	// request (protocol.ModelCard.Kind).
	CardDigest string
}

// Class says what kind of refusal ended a request; a dialect maps it to its status and words.
type Class int

const (
	// Validation means that a value of the request is at fault.
	Validation Class = iota
	// Misfit means that a value of the body has another type than the route reads.
	Misfit
	// Malformed means that the body is no JSON.
	Malformed
	// MediaType means that the body is not said to be of a type that the route reads.
	MediaType
	// TooLong means that the body is longer than bodies may be.
	TooLong
	// Unread means that the body did not come whole.
	Unread
	// Unauthorized means that the request needs a key and has none that fits.
	Unauthorized
	// NotFound means that the path, or what it names, does not exist.
	NotFound
	// MethodNotAllowed means that the path has no such method.
	MethodNotAllowed
	// Overloaded means that there is no room for the request now.
	Overloaded
	// Generation means that the request failed after it was accepted.
	Generation
	// Incomplete means that the events ended without a last one.
	Incomplete
	// Unavailable means that no group has come to serve the request within the bounded time.
	Unavailable
	// Left means that the client has left: nobody is answered. It stays the last one.
	Left
)

// Refusal says why a request is not answered as it asked; it is the one error between core and dialects, which never is
// hidden in a variable of type error that is then asked for its type. It does not change once it is made.
type Refusal struct {
	Class Class
	// Param is the field of the body at fault and Code a word for programs, for dialects that tell them; empty: none.
	Param, Code string
	// Message is for people and holds no class prefix.
	Message string
}

func (r *Refusal) Error() string { return r.Message }

// NoRoom and ClientLeft are what is refused everywhere alike.
var (
	NoRoom     = &Refusal{Class: Overloaded, Message: "Model is overloaded"}
	ClientLeft = &Refusal{Class: Left, Message: "the client has left"}
)

// Invalid is a refusal of class Validation.
func Invalid(format string, arguments ...any) *Refusal {
	return &Refusal{Class: Validation, Message: fmt.Sprintf(format, arguments...)}
}

// Token is one generated token.
type Token struct {
	ID      int32
	Logprob float32
	Finish  protocol.Finish
	// Top are the likeliest tokens at its place, the likeliest first; nil unless asked for.
	Top []Alternative
}

// PromptLogprob is the log-probability of a prompt's token. Top are the likeliest at its place, nil unless asked for.
type PromptLogprob struct {
	Logprob float32
	Top     []Alternative
}

// Alternative is a token that might have come.
type Alternative struct {
	ID      int32
	Logprob float32
}

// About is what is told of a group, as GET /info shows it. Node, ModelID, Device and State are the group's words.
type About struct {
	Node, ModelID string
	// Kind is that of the requests without an adapter which the group takes (protocol.ModelCard.Kind), DeviceType and Numerics
	// are its card's.
	Kind, DeviceType, Numerics string
	Device                     protocol.Device
	Shards                     int
	State                      protocol.GroupState
	// Silent says that the group has missed announcements: whatever its State is, nothing new goes there.
	Silent bool
	// Running and Waiting are its requests of all routers: those that hold KV blocks, and those that hold none.
	Running, Waiting int
}

// GroupLoad is what is known of one group and its load, as GET /info, GET /token_load and the metrics show it.
type GroupLoad struct {
	Group string
	About
	// CapacityTokens is the size of the group's KV cache.
	CapacityTokens int
	// HeldTokens is what the group last reported to hold for requests of all routers, and CachedTokens what only its
	// prefix cache holds.
	HeldTokens, CachedTokens int
	// LedgerTokens is what this router's requests hold there as its ledger thinks, shared blocks counted for each;
	// ReservedTokens what they can come to hold, PeakTokens what they are estimated to hold at once (LightLLM's estimate).
	LedgerTokens, ReservedTokens, PeakTokens int
	// ErrorTokens is by how much the ledger differed from the group's account when they were last compared.
	ErrorTokens int
	// Requests is the number of this router's requests there.
	Requests int
	// Parked is how often a request of any router was parked there since the group's start.
	Parked int
	// Drafted and Accepted count tokens that it guessed since then, and those of them that were right.
	Drafted, Accepted int
}

// Totals count since the router's start.
type Totals struct {
	// PromptTokens of the requests that began at a group, and CachedTokens, how many of these its prefix cache had. A
	// request counts once.
	PromptTokens, CachedTokens uint64
	// Expired requests waited for as long as they may.
	Expired uint64
	// LedgerMismatches is how often the ledger began to differ from a group's account.
	LedgerMismatches uint64
	// GroupsLost counts groups that died or fell silent; Resumed, requests that were dispatched again with tokens of theirs.
	GroupsLost, Resumed uint64
}

// Load is a snapshot of all groups and the queue.
type Load struct {
	Groups []GroupLoad
	Queued int
	Totals Totals
}

// Timings are moments of a request's life; a zero time has not come yet.
type Timings struct {
	Queued, Dispatched time.Time
}

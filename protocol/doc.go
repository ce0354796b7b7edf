// Package protocol is what crosses NATS between routers and shard groups: subjects, messages, frames, limits, error
// codes and the model card. It imports the standard library only; clients and servers of it live elsewhere.
//
// # Flow
//
//	group  -> all      AnnounceSubject      Announcement (JSON), every AnnounceInterval and on every change of state
//	router -> group    GroupRef.Card        CardRequest (JSON); the reply is at most CardChunkBytes of the card, raw
//	router -> group    GroupRef.Dispatch    Dispatch -> DispatchReply (JSON): every request is accepted or refused
//	router -> group    GroupRef.Cancel      Cancel (JSON), no reply
//	router -> group    GroupRef.Replay      Replay (JSON): send again the frames from a number on
//	group  -> router   ReplySubject         what the group answers to a Card or Dispatch
//	group  -> router   FrameSubject         one binary Frame for each step that has something for this router
//	router -> all      AliveSubject         no content: a group drops the requests of a silent router
//	launcher -> all    DownSubject          Down (JSON): an incarnation of a group has died; nobody needs to wait for a time-out
//
// Every subject names who publishes on it, so that a NATS server can hold each to its own (Permissions), and a receiver
// believes a message only of him whom its subject names (Sender).
//
// The subjects of a group carry its incarnation, so a restarted group never receives what was meant for its
// predecessor. Control messages are JSON, which `nats sub 'lockstep.>'` shows readably; tokens travel in frames.
//
// # Versions
//
// Version is in every announcement, dispatch and frame. A peer of another version is refused, never half understood.
//
//	1  first version
//	2  all sampling parameters, top log-probabilities, cached prompts and accounts in frames, numbered cancels, scores
//	3  the likeliest tokens of prompts too
//	4  subjects name their publisher; groups say that they are stalled; later, and absent from older groups without harm, the
//	   prompt budget of a step (Limits.PrefillTokens), adapters: a request that names one goes only where a card lists it; and
//	   what people see of a group: its Device, and the class of its numerics (ModelCard.Numerics)
package protocol

import "time"

// Version of the messages and frames in this package.
const Version = 4

// Limits of what crosses the wire; each says what happens when it is exceeded.
const (
	// MaxPayloadBytes bounds one NATS message, headers included. A router answers "prompt too long" before it publishes more.
	MaxPayloadBytes = 8 << 20
	// MaxCardBytes bounds a whole model card; a group with a larger one does not start.
	MaxCardBytes = 64 << 20
	// CardChunkBytes is the size of one chunk of a card.
	CardChunkBytes = 512 << 10
	// MaxDispatchRequests bounds the requests of one Dispatch; a router splits larger batches.
	MaxDispatchRequests = 64
	// MaxFrameTokens bounds the tokens of one frame; a decoder refuses larger counts before it allocates.
	MaxFrameTokens = 1 << 16
	// MaxFramePromptLogprobs bounds the prompt log-probabilities of one frame, and MaxFrameAlternatives the top
	// log-probabilities, likewise.
	MaxFramePromptLogprobs = 1 << 20
	MaxFrameAlternatives   = 1 << 20
	// MaxCacheSaltBytes bounds a request's cache salt; a longer one is refused as invalid.
	MaxCacheSaltBytes = 256
	// MaxAdapters bounds the adapters of a card, and MaxAdapterNameBytes the name of one; a group with more does not start.
	MaxAdapters         = 1024
	MaxAdapterNameBytes = 256
	// ReplayFrames is how many sent frames a group keeps for each router; an older gap is mended by dispatching again.
	ReplayFrames = 256
)

// Times that both sides must agree on.
const (
	// AnnounceInterval is the longest time between two announcements of a live group.
	AnnounceInterval = 250 * time.Millisecond
	// GroupTimeout is how long a router waits for an announcement or frame before it takes a group for dead.
	GroupTimeout = 2 * time.Second
	// RouterAliveInterval is the longest time between two signs of life of a router.
	RouterAliveInterval = 500 * time.Millisecond
	// RouterLease is how long a group goes on computing for a router that it does not hear of.
	RouterLease = 5 * time.Second
)

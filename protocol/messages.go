package protocol

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"lockstep/protocol/guide"
)

// GroupState is what a group says of itself.
type GroupState string

const (
	StateReady    GroupState = "ready"
	StateDraining GroupState = "draining" // finishes what it has, refuses what is new
	StateStalled  GroupState = "stalled"  // its step takes far longer than its steps do: nothing new should go there
)

// Limits of a group, found at its start.
type Limits struct {
	// MaxSequenceTokens bounds prompt and output of one request together.
	MaxSequenceTokens int `json:"max_sequence_tokens"`
	// CapacityTokens is the size of the KV cache.
	CapacityTokens int `json:"capacity_tokens"`
	// CapacityReason says for people what bounds it; empty: not known.
	CapacityReason string `json:"capacity_reason,omitempty"`
	// BlockTokens is the size of a KV block: a request holds whole blocks.
	BlockTokens int `json:"block_tokens"`
	// MaxRequests bounds the requests that the group holds at once, running and waiting.
	MaxRequests int `json:"max_requests"`
	// MaxSequences bounds the requests that run at once; more wait in the group.
	MaxSequences int `json:"max_sequences"`
	// PrefillTokens is how many tokens of prompts a step computes at most. 0, which a group from before there was this field
	// says, stands for DefaultPrefillTokens.
	PrefillTokens int `json:"prefill_tokens,omitempty"`
}

// DefaultPrefillTokens is what a group computes of prompts in a step unless it is told otherwise.
const DefaultPrefillTokens = 512

// StepPrefillTokens is PrefillTokens with the default in place of 0.
func (l *Limits) StepPrefillTokens() int {
	if l.PrefillTokens == 0 {
		return DefaultPrefillTokens
	}
	return l.PrefillTokens
}

// Load of a group at one moment.
type Load struct {
	HeldTokens   int `json:"held_tokens"`   // KV blocks that requests hold, each counted once, times the block size
	CachedTokens int `json:"cached_tokens"` // the same for blocks that only the prefix cache holds; they are free when needed
	Running      int `json:"running"`       // requests that hold KV blocks
	Waiting      int `json:"waiting"`       // requests accepted that hold none, parked ones among them
	Parked       int `json:"parked"`        // how often a request was parked since the start
}

// Account is what a group holds of one router, for comparison with the router's ledger (Frame).
type Account struct {
	// Requests that have yielded a token and not ended, and the Tokens, prompt and generated, that they have.
	Requests int
	Tokens   int
	// Cancels is the Number of the last Cancel that the group has handled.
	Cancels uint64
}

// Speculation counts tokens that a group guessed since its start, and those of them that were right: they took no step of their own.
type Speculation struct {
	Drafted  int `json:"drafted"`
	Accepted int `json:"accepted"`
}

// Device is what computes a group. It is for people: nothing is decided by it, and groups of one kind may differ in it, so it
// is no part of a card. All of it is known at the group's start and does not change.
type Device struct {
	// Name is that of the hardware, or of what computes on it: "NVIDIA H100 80GB HBM3", "avx512 kernels".
	Name string `json:"name"`
	// FreeBytes is the memory that was left, on the devices of all shards together, when weights, KV cache and buffers had been
	// taken; 0: not known.
	FreeBytes int64 `json:"free_bytes,omitempty"`
}

// Announcement is a group's heartbeat. A router learns from it that the group exists.
type Announcement struct {
	Version int `json:"version"`
	GroupRef
	Node       string     `json:"node"`
	State      GroupState `json:"state"`
	ModelID    string     `json:"model_id"`
	CardDigest string     `json:"card_digest"` // SHA-256 of the card's JSON, hexadecimal
	CardBytes  int        `json:"card_bytes"`
	Shards     int        `json:"shards"`
	Device     Device     `json:"device,omitzero"` // zero: an older group does not say
	Limits     Limits     `json:"limits"`
	Load       Load       `json:"load"`
	// Speculation is zero of a group that guesses no tokens.
	Speculation Speculation `json:"speculation,omitzero"`
}

// What an announcement may say at most. A router ignores one that says more: numbers of others are reckoned with.
const (
	MaxBlockTokens   = 4096
	MaxGroupTokens   = 1 << 30 // of a KV cache, or of a sequence
	MaxGroupRequests = 1 << 20
	MaxPrefillTokens = 1 << 16 // of a step
	MaxShards        = 1024
	MaxNameBytes     = 4096 // of a model or node

	MaxDeviceNameBytes = 256 // the driver's names of cards are as long at most
)

func between(low, value, high int) bool { return low <= value && value <= high }

// Validate checks ranges.
func (l *Limits) Validate() error {
	if !between(1, l.MaxSequenceTokens, MaxGroupTokens) || !between(1, l.CapacityTokens, MaxGroupTokens) ||
		!between(1, l.BlockTokens, MaxBlockTokens) || !between(0, l.MaxRequests, MaxGroupRequests) ||
		!between(0, l.MaxSequences, MaxGroupRequests) || !between(0, l.PrefillTokens, MaxPrefillTokens) ||
		len(l.CapacityReason) > MaxNameBytes {
		return fmt.Errorf("limits out of range: %+v", *l)
	}
	return nil
}

// Validate checks ranges.
func (l *Load) Validate() error {
	if !between(0, l.HeldTokens, MaxGroupTokens) || !between(0, l.CachedTokens, MaxGroupTokens) ||
		!between(0, l.Running, MaxGroupRequests) || !between(0, l.Waiting, MaxGroupRequests) || l.Parked < 0 {
		return fmt.Errorf("load out of range: %+v", *l)
	}
	return nil
}

// Validate checks ranges.
func (d *Device) Validate() error {
	if len(d.Name) > MaxDeviceNameBytes || d.FreeBytes < 0 {
		return fmt.Errorf("a device out of range: a name of %d bytes, and %d bytes free", len(d.Name), d.FreeBytes)
	}
	return nil
}

// Validate checks names, sizes and ranges.
func (a *Announcement) Validate() error {
	switch {
	case a.Version != Version:
		return fmt.Errorf("version %d, want %d", a.Version, Version)
	case !ValidToken(a.Group):
		return errors.New("the name of the group is no token")
	case len(a.ModelID) > MaxNameBytes || len(a.Node) > MaxNameBytes:
		return fmt.Errorf("a name of more than %d bytes", MaxNameBytes)
	case len(a.CardDigest) != 2*sha256.Size:
		return errors.New("the digest of the card is none")
	case !between(1, a.CardBytes, MaxCardBytes):
		return fmt.Errorf("a card of %d bytes, at most %d", a.CardBytes, MaxCardBytes)
	case !between(1, a.Shards, MaxShards):
		return fmt.Errorf("%d shards", a.Shards)
	}
	if err := a.Device.Validate(); err != nil {
		return err
	}
	if err := a.Limits.Validate(); err != nil {
		return err
	}
	if s := a.Speculation; s.Drafted < 0 || s.Accepted < 0 {
		return fmt.Errorf("speculation out of range: %+v", s)
	}
	return a.Load.Validate()
}

// CardRequest asks for CardChunkBytes of the card from Offset on; the reply is the raw bytes.
type CardRequest struct {
	Offset int `json:"offset"`
}

// Request is one generation. Generated is what was generated already, when the request is resumed: the group computes
// prompt and generated tokens again and goes on behind them (law 4 in docs/architecture.md).
type Request struct {
	ID             uint64  `json:"id"` // unique within its router
	Prompt         []int32 `json:"prompt"`
	Generated      []int32 `json:"generated,omitempty"`
	MaxNewTokens   int     `json:"max_new_tokens"` // counts Generated too
	PromptLogprobs bool    `json:"prompt_logprobs,omitempty"`
	// PromptLogprobsKnown is how many of the prompt's log-probabilities, from the first on, came before the request is resumed:
	// they need not come again. PromptLogprobs stays set, for it decides how those of generated tokens are rounded.
	PromptLogprobsKnown int `json:"prompt_logprobs_known,omitempty"`
	// TopLogprobs is how many of the likeliest tokens of the processed distribution are reported with each token, and of the
	// model's own with each prompt token whose log-probability is.
	TopLogprobs int `json:"top_logprobs,omitempty"`
	// StopTokens end the generation when its tokens end with one of these sequences of ids.
	StopTokens [][]int32 `json:"stop_tokens,omitempty"`
	// Score asks a reward model (ModelCard.Reward) for the score of the prompt instead of tokens. The answer is one row, of
	// ScoreToken with FinishLength, whose log-probability is the score. MaxNewTokens is 1 then, nothing is Generated, and no
	// other log-probabilities can be had. Such a model answers no other requests, and no other model these.
	Score bool `json:"score,omitempty"`
	// NoPrefixCache computes the whole prompt, and leaves nothing of it for others.
	NoPrefixCache bool `json:"no_prefix_cache,omitempty"`
	// Adapter names one of the card's Adapters, empty: none. Only groups that have it get the request.
	Adapter string `json:"adapter,omitempty"`
	// CacheSalt keeps the request's cached blocks apart from those under other salts.
	CacheSalt string `json:"cache_salt,omitempty"`
	// Guide is what the generated text must be, nil: anything. An end-of-sequence token ends it then whatever Sampling says, and is
	// chosen where nothing else is left. Only groups whose card has this build's GuideVersion get the request.
	Guide    *guide.Source `json:"guide,omitempty"`
	Sampling Sampling      `json:"sampling"`
}

// JSONBytes bounds what the request takes in JSON.
func (r *Request) JSONBytes() int {
	const (
		fieldsBytes = 2048 // of all names and of all values that are one number
		tokenBytes  = 12   // of one id and its comma
		biasBytes   = 48
		escapeBytes = 6 // of one byte of a text
	)
	s := &r.Sampling
	ids := len(r.Prompt) + len(r.Generated) + len(s.BannedTokenIDs) + len(s.AllowedTokenIDs)
	for _, stop := range r.StopTokens {
		ids += len(stop) + 1
	}
	guideBytes := 0
	if r.Guide != nil {
		guideBytes = escapeBytes * r.Guide.Bytes()
	}
	return fieldsBytes + guideBytes + tokenBytes*ids + biasBytes*len(s.LogitBias) + escapeBytes*(len(r.CacheSalt)+len(r.Adapter))
}

// ScoreToken stands for the token that a score has none of; LightLLM has the same.
const ScoreToken = 1

// Dispatch carries a batch of requests to one group incarnation.
type Dispatch struct {
	Version  int       `json:"version"`
	Router   string    `json:"router"`
	Requests []Request `json:"requests"`
}

// DispatchReply answers a Dispatch. A request that is not in Refused is accepted.
type DispatchReply struct {
	Refused []Refusal `json:"refused,omitempty"`
	// Error refuses the whole dispatch.
	Error *Error `json:"error,omitempty"`
}

// Refusal says why a request was not taken.
type Refusal struct {
	ID    uint64 `json:"id"`
	Error Error  `json:"error"`
}

// Cancel tells a group that nobody waits for these requests any more. Unknown ids are ignored. Number counts a router's
// cancels to one incarnation from 1.
type Cancel struct {
	Router string   `json:"router"`
	Number uint64   `json:"number"`
	IDs    []uint64 `json:"ids"`
}

// Replay asks a group to send its frames again to Router from number From on.
type Replay struct {
	Router string `json:"router"`
	From   uint64 `json:"from"`
}

// Down says that an incarnation is dead.
type Down struct {
	GroupRef
	// Reason is for people.
	Reason string `json:"reason"`
	// Stopped says that it has ended as it was told to.
	Stopped bool `json:"stopped,omitempty"`
	// BackSeconds is how long the next incarnation will take to be there, judged by how long this one took; 0: none comes.
	BackSeconds float64 `json:"back_seconds,omitempty"`
}

// Code classifies an error on the wire. The set is append-only.
type Code string

const (
	CodeVersion  Code = "version"  // the peer speaks another version
	CodeInvalid  Code = "invalid"  // the message or request is malformed; sending it again will not help
	CodeTooLong  Code = "too_long" // the request exceeds the group's limits
	CodeFull     Code = "full"     // no room now; try again later or elsewhere
	CodeDraining Code = "draining" // the group is going away; try elsewhere
	CodeAdapter  Code = "adapter"  // the group does not have the request's adapter, whatever its card says
)

// Error is an error as it crosses the wire.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Retryable reports whether another group, or the same one later, may take the request.
func (e *Error) Retryable() bool { return e.Code == CodeFull || e.Code == CodeDraining }

// ErrFrame is wrapped by every error of DecodeFrame.
var ErrFrame = errors.New("malformed frame")

// Validate checks what does not depend on a group: ids within the vocabulary, ranges, counts.
func (r *Request) Validate(vocabularySize int) error {
	switch {
	case len(r.Prompt) == 0:
		return errors.New("the prompt has no tokens")
	case r.MaxNewTokens <= len(r.Generated):
		return fmt.Errorf("max_new_tokens is %d, but %d tokens are generated already", r.MaxNewTokens, len(r.Generated))
	case r.MaxNewTokens > MaxGroupTokens:
		return fmt.Errorf("max_new_tokens is %d, at most %d", r.MaxNewTokens, MaxGroupTokens)
	case r.Score && (r.MaxNewTokens != 1 || r.PromptLogprobs || r.TopLogprobs != 0):
		return fmt.Errorf("a score takes one new token and gives no log-probabilities; max_new_tokens is %d", r.MaxNewTokens)
	case r.PromptLogprobsKnown < 0 || r.PromptLogprobsKnown >= len(r.Prompt) || r.PromptLogprobsKnown > 0 && !r.PromptLogprobs:
		return fmt.Errorf("%d log-probabilities known of a prompt of %d tokens", r.PromptLogprobsKnown, len(r.Prompt))
	case r.TopLogprobs < 0 || r.TopLogprobs > MaxTopLogprobs:
		return fmt.Errorf("%d top log-probabilities, at most %d", r.TopLogprobs, MaxTopLogprobs)
	case len(r.StopTokens) > MaxStopTokenSequences:
		return fmt.Errorf("%d stop sequences of ids, at most %d", len(r.StopTokens), MaxStopTokenSequences)
	case r.Adapter != "" && !ValidAdapter(r.Adapter):
		return fmt.Errorf("%.40q is no name of an adapter", r.Adapter)
	case r.Guide != nil && (r.Score || r.Guide.Bytes() > guide.MaxSourceBytes):
		return fmt.Errorf("a guide of %d bytes, at most %d, and none of a score", r.Guide.Bytes(), guide.MaxSourceBytes)
	case len(r.CacheSalt) > MaxCacheSaltBytes:
		return fmt.Errorf("a cache salt of %d bytes, at most %d", len(r.CacheSalt), MaxCacheSaltBytes)
	}
	for _, stop := range r.StopTokens {
		if len(stop) == 0 || len(stop) > MaxStopTokens {
			return fmt.Errorf("a stop sequence of %d ids: want 1 to %d", len(stop), MaxStopTokens)
		}
		if err := checkIDs(stop, vocabularySize); err != nil {
			return err
		}
	}
	if err := checkIDs(r.Prompt, vocabularySize); err != nil {
		return err
	}
	if err := checkIDs(r.Generated, vocabularySize); err != nil {
		return err
	}
	return r.Sampling.Validate(vocabularySize)
}

package tgi

import (
	"cmp"

	"lockstep/router/request"
)

// The forms of TGI that are spoken.
const (
	Form094 = "0.9.4"
	// Form3 is that of 3.3.7, the last one.
	Form3 = "3"
)

// Forms are those that can be chosen.
var Forms = []string{Form094, Form3}

// version is what a version of TGI does otherwise than others.
type version struct {
	number string
	// payloadLimit and clientBatchSize are defaults; 0: as many prompts as there may be requests.
	payloadLimit    int64
	clientBatchSize int
	// vary is the header of CORS.
	vary []string
	// eventPrefix stands in front of the JSON of an event; indexedEvents tell their place, and the last one the prompt's length.
	eventPrefix   string
	indexedEvents bool
	// incompleteStream is the type of the error of a stream that ends too early, and words its message.
	incompleteStream, incompleteStreamWords string
	// laterParameters are parameters: frequency_penalty as one of TGI's own, top_n_tokens, grammar and adapter_id. The first of
	// them is LightLLM's too.
	laterParameters bool
	shared          []string
	// maxNewTokens is taken where none is given; 0: as many as there is room for.
	maxNewTokens uint64
	// sampledBare: a body without any parameters is sampled.
	sampledBare bool
	// follows takes the text as what follows the prompt (answer.Options).
	follows bool
	// fullTextUntagged: the compatible routes repeat the prompt also for a model without a pipeline tag.
	fullTextUntagged bool
	// untaggedInvocations: /invocations takes bodies of several kinds.
	untaggedInvocations bool
	// tokenHeaders tell tokens, and the time of computing in seconds.
	tokenHeaders bool
	// batchInfo has /info tell of batches and of the model's device, else of its own limits of requests.
	batchInfo bool
}

var versions = map[string]*version{
	Form094: {
		number: "0.9.4", payloadLimit: request.DefaultPayloadLimit,
		vary: []string{"origin", "access-control-request-method", "access-control-request-headers"}, eventPrefix: "data:",
		incompleteStream: "incomplete_generation", incompleteStreamWords: "Incomplete generation", maxNewTokens: 20, batchInfo: true,
	},
	Form3: {
		number: "3.3.7", payloadLimit: 2_000_000, clientBatchSize: 4,
		vary: []string{"origin, access-control-request-method, access-control-request-headers"}, eventPrefix: "data: ",
		incompleteStream: "incomplete_generation_stream", incompleteStreamWords: "Incomplete generation stream", indexedEvents: true,
		laterParameters: true, shared: []string{"frequency_penalty"}, sampledBare: true, follows: true, fullTextUntagged: true,
		untaggedInvocations: true, tokenHeaders: true,
	},
}

// Limits are the defaults of a form for a router that takes so many requests.
func Limits(form string, maxConcurrentRequests int) request.Limits {
	v, l := versions[form], request.DefaultLimits()
	l.MaxConcurrentRequests, l.PayloadLimit = maxConcurrentRequests, v.payloadLimit
	l.MaxClientBatchSize = cmp.Or(v.clientBatchSize, maxConcurrentRequests)
	return l
}

// Number is the version of TGI that a form is of.
func Number(form string) string { return versions[form].number }

// form says how one generate route reads its body and in which shape it answers.
type form struct {
	*version
	// compat takes the field stream, and answers with an array of one.
	compat bool
	// untagged takes bodies of several kinds: one that does not fit is refused without a reason.
	untagged bool
	// stream answers with events whatever the body says.
	stream bool
}

package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// Dialect names the server whose clients are answered.
type Dialect string

const (
	// Auto decides for each request: by the first segment of its path (/tgi, /mindie, /lightllm, /openai), else by whose
	// routes it fits, else by what its body holds, else DefaultDialect.
	Auto     Dialect = "auto"
	TGI      Dialect = "tgi"
	MindIE   Dialect = "mindie"
	LightLLM Dialect = "lightllm"
	// OpenAI is there beside each of the others: those whose routes it has none of speak it too.
	OpenAI Dialect = "openai"
)

// Dialects are those that can be chosen.
var Dialects = []string{string(Auto), string(TGI), string(MindIE), string(LightLLM), string(OpenAI)}

// surface is what one replaced server shows.
type surface struct {
	echo    *echo.Echo
	methods map[string][]string // by path
	frame   frame
	locked  func(*http.Request) bool // it needs a key that it does not have
	refuse  http.HandlerFunc         // answers such a request
}

// frame puts around every answer what the original's carry. methods are those of the path, none if it is unknown; serve
// runs the route's handler, and is nil if there is none for the request's method.
type frame func(w http.ResponseWriter, r *http.Request, methods []string, serve http.HandlerFunc)

// route is one row of a dialect's table.
type route struct {
	methods []string
	path    string
	serve   http.HandlerFunc
}

var get, post = []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}

// newSurface makes a surface; refuse answers requests without a key.
func (s *Server) newSurface(frame frame, refuse http.HandlerFunc, tables ...[]route) *surface {
	f := &surface{echo: echo.New(), methods: map[string][]string{}, frame: frame, locked: s.locked, refuse: refuse}
	for _, table := range tables {
		for _, r := range table {
			f.echo.Match(r.methods, r.path, echo.WrapHandler(r.serve))
			f.methods[r.path] = append(f.methods[r.path], r.methods...)
		}
	}
	return f
}

func (f *surface) knows(path, method string) bool { return slices.Contains(f.methodsOf(path), method) }

// methodsOf returns the methods of a path. A route that ends in /* has all paths below it.
func (f *surface) methodsOf(path string) []string {
	if methods := f.methods[path]; methods != nil {
		return methods
	}
	for known, methods := range f.methods {
		if below, ok := strings.CutSuffix(known, "*"); ok && len(path) > len(below) && strings.HasPrefix(path, below) {
			return methods
		}
	}
	return nil
}

func (f *surface) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var serve http.HandlerFunc
	switch {
	case !f.knows(r.URL.Path, r.Method):
	case f.locked(r):
		serve = wire.Unanswered(f.refuse)
	default:
		serve = f.echo.ServeHTTP
	}
	f.frame(w, r, f.methodsOf(r.URL.Path), serve)
}

// ServeHTTP answers in the dialect of the configuration.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(s.config.Dialect, w, r) }

// Handler answers in a dialect of its own: for a listener that is bound to it.
func (s *Server) Handler(dialect Dialect) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(dialect, w, r) })
}

func (s *Server) serve(dialect Dialect, w http.ResponseWriter, r *http.Request) {
	x, r := wire.Begin(w, r)
	wire.BoundDrain(w, r)
	defer s.bodies.Release(x)
	s.answer(dialect, x, r)
	if x.Cut(r.Context()) {
		s.log.Info().Str("request", x.ID).Int("status", statusClientLeft).Msg("client left")
		panic(http.ErrAbortHandler)
	}
}

// statusClientLeft is what logs call a request whose client did not wait for the answer; nginx has made it known.
const statusClientLeft = 499

func (s *Server) answer(dialect Dialect, w http.ResponseWriter, r *http.Request) {
	first, rest, more := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if f := s.surfaces[Dialect(first)]; f != nil && (dialect == Auto || dialect == Dialect(first)) {
		if rest = "/" + rest; more || rest == "/" {
			stripped := r.Clone(r.Context())
			stripped.URL.Path, stripped.URL.RawPath = rest, ""
			f.ServeHTTP(w, stripped)
			return
		}
	}
	switch {
	case dialect == Auto && s.all.methodsOf(r.URL.Path) != nil:
		s.all.ServeHTTP(w, r)
		return
	case dialect == Auto:
		dialect = s.detect(w, r)
	case s.surfaces[dialect].methodsOf(r.URL.Path) == nil && s.surfaces[OpenAI].methodsOf(r.URL.Path) != nil:
		dialect = OpenAI
	}
	s.surfaces[dialect].ServeHTTP(w, r)
}

// detect finds the dialect of a request whose path names none.
func (s *Server) detect(w http.ResponseWriter, r *http.Request) Dialect {
	var fit []Dialect
	for dialect, f := range s.surfaces {
		if f.knows(r.URL.Path, r.Method) {
			fit = append(fit, dialect)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0]
	case len(fit) == 0 && (strings.HasPrefix(r.URL.Path, "/v1/") || s.surfaces[OpenAI].methodsOf(r.URL.Path) != nil):
		return OpenAI // which says what is wrong
	case len(fit) == 0 || r.Method != http.MethodPost || s.locked(r): // a body is not looked at before the key
		return s.config.DefaultDialect
	}
	// A body that is too long or does not come is the handler's to refuse.
	data, _ := s.bodies.Read(w, r)
	var dialect Dialect
	s.bodies.Decode(r.Context(), func() *request.Refusal {
		dialect = s.detectBody(data)
		return nil
	})
	if slices.Contains(fit, dialect) {
		return dialect
	}
	return s.config.DefaultDialect
}

// The keys of bodies that only one family of dialects has; weak ones count when nothing else speaks. Parameters are
// meant unless the key is told to stand at the top.
var (
	tgiKeys = []string{"details", "decoder_input_details", "return_full_text", "truncate", "typical_p", "watermark", "stop", "adapter_id",
		"top_n_tokens", "grammar"}
	mindieTopKeys   = []string{"fullTextEnabled"}
	lightLLMTopKeys = []string{"multimodal_params"}
	lightLLMKeys    = []string{"return_details", "stop_sequences", "input_penalty", "ignore_eos", "min_new_tokens", "allowed_token_ids", "guided_grammar", "guided_json",
		"regular_constraint", "exponential_decay_length_penalty", "print_eos_token", "skip_special_tokens", "add_special_tokens",
		"add_spaces_between_special_tokens", "group_request_id", "n", "logit_bias", "disable_prompt_cache", "prompt_logprobs"}
	lightLLMWeakKeys  = []string{"presence_penalty", "frequency_penalty"}
	lightLLMWeakKeys3 = []string{"presence_penalty"} // where TGI 3 is spoken
)

// detectBody tells which dialect a body is in by its keys; "" when none speaks. TGI and MindIE have the same keys: MindIE
// shows by fullTextEnabled or its word for no adapter, else the default decides.
func (s *Server) detectBody(data []byte) Dialect {
	top, parameters, item, noAdapter, err := bodyKeys(data)
	if err != nil {
		return ""
	}
	has := func(in map[string]byte, keys []string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { _, ok := in[key]; return ok })
	}
	weak := lightLLMWeakKeys
	if s.three() {
		weak = lightLLMWeakKeys3
	}
	switch {
	case has(top, mindieTopKeys), noAdapter, item == '{':
		return MindIE
	case has(parameters, tgiKeys):
		if s.config.DefaultDialect == MindIE {
			return MindIE
		}
		return TGI
	case isDigit(item), has(top, lightLLMTopKeys), has(parameters, lightLLMKeys), has(parameters, weak):
		return LightLLM
	}
	return ""
}

// bodyKeys returns the keys of a body and of its parameters, with the first byte of each value, and whether adapter_id is
// "None". item is the first byte of the first element of inputs: token ids are LightLLM's, parts are MindIE's, and a list of
// anything else is nobody's.
func bodyKeys(data []byte) (top, parameters map[string]byte, item byte, noAdapter bool, err error) {
	top, parameters = map[string]byte{}, map[string]byte{}
	d := &bodyDecoder{data: data}
	err = d.eachMember(func(key string, first byte) error {
		top[key] = first
		if key == "inputs" && first == '[' {
			inner := bodyDecoder{data: data, index: d.index + 1}
			item, _ = inner.space()
		}
		if key != "parameters" || first != '{' {
			return d.ignore()
		}
		return d.eachMember(func(key string, first byte) error {
			parameters[key] = first
			start := d.index
			err := d.ignore()
			noAdapter = noAdapter || key == "adapter_id" && string(data[start:d.index]) == `"None"`
			return err
		})
	})
	return top, parameters, item, noAdapter, err
}

// eachMember goes through an object; member must pass over the value, whose first byte it is told.
func (d *bodyDecoder) eachMember(member func(key string, first byte) error) error {
	if c, ok := d.space(); !ok || c != '{' {
		return d.ahead("expected an object")
	}
	d.index++
	for first := true; ; first = false {
		more, err := d.separator(first, '}', eofObject, "expected `,` or `}`")
		if err != nil {
			return err
		}
		if !more {
			return d.end('}', eofObject)
		}
		key, err := d.key()
		if err != nil {
			return err
		}
		d.push("." + wire.Quoted(key))
		if err := d.colon(); err != nil {
			return err
		}
		c, ok := d.space()
		if !ok {
			return d.ahead(eofValue)
		}
		if err := member(key, c); err != nil {
			return err
		}
		d.pop()
	}
}

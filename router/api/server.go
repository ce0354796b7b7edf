// Package api is the front door of HTTP: it names a request, decides which dialect answers it, asks for a key, and lets that
// dialect's routes serve. A dialect is a package of its own; adding one is a line in registry.go.
//
// Echo routes, with a group for each dialect and the dialect's frame and the keys as middleware; its error handler has the
// dialect answer what has no route or no key. Two things are not Echo's: the exchange and the choice of the dialect lie in
// front of it, because the same paths are several dialects' and each door may have its own; and which methods a path has is
// looked up here, because the choice needs it, and because the originals' headers Allow are others than Echo's.
package api

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"lockstep/router/api/answer"
	"lockstep/router/api/metrics"
	"lockstep/router/api/wire"
	"lockstep/router/calls"
	"lockstep/router/request"
)

// Config of the HTTP side; see router.Config for the meaning of each.
type Config struct {
	request.Limits
	// Permits bounds the requests in the router, those that wait included; more are answered as overload.
	Permits            int
	WaitingServedRatio float32
	MaxWaitingTokens   int
	CORSAllowOrigin    []string
	Build              string // that of this program
	// TGIVersion is whose form TGI's dialect has, one of tgi.Forms.
	TGIVersion string
	// Dialect answers all requests, one of Dialects; Auto: DefaultDialect, unless path or body tell another (choose.go).
	Dialect, DefaultDialect string
	// APIKeys, when not empty, are the bearer tokens of which a request that does work must have one.
	APIKeys []string
	// OldLightLLMErrors answers in LightLLM's dialect as versions before 2026 did.
	OldLightLLMErrors bool
	// Guides, CallFormat and Reasoning are answer.Config's.
	Guides     answer.Guides
	CallFormat *calls.Format
	Reasoning  *calls.Reasoning
	// ModelTimeout bounds how long a request waits for the first group.
	ModelTimeout time.Duration
}

// Server answers HTTP requests.
type Server struct {
	config    Config
	answers   *answer.Service
	log       zerolog.Logger
	surfaces  []*surface // of the dialects, in the registry's order
	all       *surface   // describes all dialects
	shared    []string   // keys of bodies that speak for no dialect
	documents documents
	echo      *echo.Echo
}

// surface is a dialect with its place.
type surface struct {
	*wire.Dialect
	methods map[string][]string // by path
}

// New returns the server. It starts nothing.
func New(config Config, backend answer.Backend, m *metrics.Metrics, log zerolog.Logger) *Server {
	s := &Server{config: config, log: log, echo: echo.New()}
	s.answers = answer.New(answer.Config{Permits: config.Permits, PayloadLimit: config.PayloadLimit, Workers: config.ValidationWorkers,
		ModelTimeout: config.ModelTimeout, Guides: config.Guides, CallFormat: config.CallFormat,
		Reasoning: config.Reasoning}, backend, m, log)
	s.echo.Use(s.frame)
	s.echo.HTTPErrorHandler = s.refuse
	for _, d := range dialects(&s.config, s.answers) {
		s.surfaces = append(s.surfaces, s.furnish(d, "/"+d.Name, append(d.Routes, s.describing(d)...)))
		s.shared = append(s.shared, d.Shared...)
	}
	all := *s.surfaces[0].Dialect // whose frame and refusals these routes have
	all.Name = ""
	s.all = s.furnish(&all, "", s.describing(&all))
	return s
}

// furnish gives the dialect's routes a group of their own.
func (s *Server) furnish(d *wire.Dialect, prefix string, routes []wire.Route) *surface {
	f := &surface{d, map[string][]string{}}
	group := s.echo.Group(prefix)
	for _, route := range routes {
		group.Match(route.Methods, route.Path, echo.WrapHandler(route.Serve), s.key)
		f.methods[route.Path] = append(f.methods[route.Path], route.Methods...)
	}
	return f
}

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

// ServeHTTP answers in the dialect of the configuration.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(s.config.Dialect, w, r) }

// Handler answers in a dialect of its own: for a listener that is bound to it.
func (s *Server) Handler(dialect string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(dialect, w, r) })
}

// statusClientLeft is what logs call a request whose client did not wait for the answer; nginx has made it known.
const statusClientLeft = 499

func (s *Server) serve(dialect string, w http.ResponseWriter, r *http.Request) {
	x, r := wire.Begin(w, r)
	wire.BoundDrain(w, r)
	defer s.answers.Bodies.Release(x)
	chosen := s.choose(dialect, x, r)
	x.Dialect, x.Methods = chosen.Dialect, chosen.methodsOf(x.Path)
	routed, place := *r, *r.URL
	routed.URL, place.RawPath = &place, ""
	if place.Path = x.Path; chosen != s.all {
		place.Path = "/" + chosen.Name + x.Path
	}
	s.echo.ServeHTTP(x, &routed)
	if x.Cut(r.Context()) {
		s.log.Info().Str("request", x.ID).Int("status", statusClientLeft).Msg("client left")
		panic(http.ErrAbortHandler)
	}
}

// frame puts around every answer what the dialect's carry.
func (s *Server) frame(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		x, r := wire.Of(c.Response()), c.Request()
		switch {
		case x.Dialect.Frame(c.Response(), r, x.Methods):
			return nil
		case len(x.Methods) == 0:
			return echo.ErrNotFound
		case !slices.Contains(x.Methods, r.Method):
			return echo.ErrMethodNotAllowed
		}
		return next(c)
	}
}

// refuse has the dialect answer what the front door refuses.
func (s *Server) refuse(err error, c echo.Context) {
	w := c.Response()
	x := wire.Of(w)
	switch {
	case errors.Is(err, echo.ErrUnauthorized):
		wire.Unread(w, c.Request(), func() {
			x.Dialect.Refuse(w, &request.Refusal{Class: request.Unauthorized, Message: "The API key is missing or wrong."})
		})
	case errors.Is(err, echo.ErrMethodNotAllowed):
		w.Header()["Allow"] = []string{strings.Join(x.Methods, x.Dialect.AllowSeparator)}
		x.Dialect.Refuse(w, &request.Refusal{Class: request.MethodNotAllowed, Message: "The method is not allowed for this path."})
	default:
		x.Dialect.Refuse(w, &request.Refusal{Class: request.NotFound, Message: "The requested path does not exist."})
	}
}

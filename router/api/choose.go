package api

import (
	"net/http"
	"slices"
	"strings"

	"lockstep/protocol/ordered"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// Auto decides for each request which dialect answers: by the first segment of its path, else by whose routes it fits, else by
// what its body holds, else DefaultDialect.
const Auto = "auto"

// of returns the surface of a dialect, nil if there is none.
func (s *Server) of(dialect string) *surface {
	for _, f := range s.surfaces {
		if f.Name == dialect {
			return f
		}
	}
	return nil
}

// choose finds the surface that answers, and sets the exchange's path and prefix.
func (s *Server) choose(dialect string, x *wire.Exchange, r *http.Request) *surface {
	x.Path = r.URL.Path
	first, rest, more := strings.Cut(strings.TrimPrefix(x.Path, "/"), "/")
	if f := s.of(first); f != nil && (dialect == Auto || dialect == first) && (more || rest == "") {
		x.Path, x.Prefix = "/"+rest, "/"+first
		return f
	}
	if dialect == Auto {
		if s.all.methodsOf(x.Path) != nil {
			return s.all
		}
		return s.detect(x, r)
	}
	chosen := s.of(dialect)
	if chosen.methodsOf(x.Path) == nil {
		if beside := s.beside(x.Path); beside != nil {
			return beside
		}
	}
	return chosen
}

// beside finds a surface that stands beside others and has the path.
func (s *Server) beside(path string) *surface {
	for _, f := range s.surfaces {
		if f.Beside && f.methodsOf(path) != nil {
			return f
		}
	}
	return nil
}

// detect finds the dialect of a request whose path names none.
func (s *Server) detect(x *wire.Exchange, r *http.Request) *surface {
	var fit []*surface
	for _, f := range s.surfaces {
		if slices.Contains(f.methodsOf(x.Path), r.Method) {
			fit = append(fit, f)
		}
	}
	fallback := s.of(s.config.DefaultDialect)
	switch {
	case len(fit) == 1:
		return fit[0]
	case len(fit) == 0:
		for _, f := range s.surfaces { // which says what is wrong
			if f.methodsOf(x.Path) != nil && f.Beside || f.Root != "" && strings.HasPrefix(x.Path, f.Root) {
				return f
			}
		}
		return fallback
	case r.Method != http.MethodPost || s.locked(r): // a body is not looked at before the key
		return fallback
	}
	s.answers.Bodies.Read(x, r) // a body that is too long or does not come is the handler's to refuse
	chosen := fallback
	s.answers.Bodies.Decode(r.Context(), func() *request.Refusal {
		top, _ := x.Members() // of a body that is none, as far as it goes: whose it was to be tells what is wrong
		chosen, _ = s.claimant(fit, top)
		return nil
	})
	return chosen
}

// claimant is whose claim to a body is the surest: of equally sure ones the default dialect's, else the first; without any
// claim it is the default dialect.
func (s *Server) claimant(fit []*surface, top []ordered.Member) (chosen *surface, surest wire.Claim) {
	keys := wire.KeysOf(top, s.shared)
	chosen = s.of(s.config.DefaultDialect)
	for _, f := range fit {
		if f.Claim == nil {
			continue
		}
		if claim := f.Claim(keys); claim > surest || claim == surest && claim > wire.NoClaim && f.Name == s.config.DefaultDialect {
			chosen, surest = f, claim
		}
	}
	return chosen, surest
}

package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// key refuses a request that needs a key and has none that fits.
func (s *Server) key(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.locked(c.Request()) {
			return echo.ErrUnauthorized
		}
		return next(c)
	}
}

// locked reports whether a request needs a key and has none that fits. Whatever does work needs one: all that has a body.
// Health, load, metrics and descriptions are open, as in TGI.
func (s *Server) locked(r *http.Request) bool {
	if len(s.config.APIKeys) == 0 || r.Method != http.MethodPost && r.ContentLength == 0 {
		return false
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		if given = r.Header.Get("X-Api-Key"); given == "" { // Anthropic's way
			return true
		}
	}
	// Digests make all comparisons equally long, and every key is compared.
	digest, fits := sha256.Sum256([]byte(strings.TrimSpace(given))), 0
	for _, key := range s.config.APIKeys {
		want := sha256.Sum256([]byte(key))
		fits |= subtle.ConstantTimeCompare(digest[:], want[:])
	}
	return fits == 0
}

package router

import (
	"testing"

	"lockstep/router/fleet/core"
)

func TestServedModel(t *testing.T) {
	group := func(card string, ready bool) core.Group { return core.Group{CardDigest: card, Ready: ready} }
	for name, c := range map[string]struct {
		groups    []core.Group
		was, want string
	}{
		"the first":                    {[]core.Group{group("a", true), group("b", true)}, "", "a"},
		"the first that is ready":      {[]core.Group{group("a", false), group("b", true)}, "", "b"},
		"none is ready":                {[]core.Group{group("a", false), group("b", false)}, "", "a"},
		"it stays":                     {[]core.Group{group("a", true), group("b", true)}, "b", "b"},
		"it stays while one is ready":  {[]core.Group{group("b", false), group("a", true), group("b", true)}, "b", "b"},
		"it drains, another is ready":  {[]core.Group{group("a", true), group("b", false)}, "b", "a"},
		"it drains, and nothing else":  {[]core.Group{group("b", false)}, "b", "b"},
		"it drains, and none is ready": {[]core.Group{group("a", false), group("b", false)}, "b", "b"},
		"it is gone":                   {[]core.Group{group("a", true)}, "b", "a"},
	} {
		if got := served(c.groups, c.was); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

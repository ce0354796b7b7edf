package core

import (
	"maps"
	"slices"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/router/request"
)

// Card is what the core must know of a model card.
type Card struct {
	// Kinds are the card's protocol.ModelCard.Kinds.
	Kinds map[string]string
	// GuideVersion is the card's.
	GuideVersion int
	// Reward says that the model answers with scores only.
	Reward bool
	// DeviceType and Numerics are the card's, for people.
	DeviceType, Numerics string
}

// card is how far the router is with a model card.
type card struct {
	Card
	good bool
	// since when it is fetched, or was refused: by others for fetchPatience, and again for refusalTime, it is let alone.
	fetched, refused time.Time
}

// mayFetch reports whether to fetch a group's card now: few at once, one of each group, and of groups that have the same card
// another only when the first is slow.
func (f *Fleet) mayFetch(g *group, known card) bool {
	return len(f.fetching) < maxCardFetches && !f.fetching[g.Announcement.Group] && f.now.Sub(known.fetched) > fetchPatience &&
		f.now.Sub(known.refused) > refusalTime
}

func (f *Fleet) fetchCard(g *group) {
	known := f.cards[g.Announcement.CardDigest]
	known.good, known.fetched, known.refused = false, f.now, time.Time{}
	f.cards[g.Announcement.CardDigest] = known
	f.fetching[g.Announcement.Group] = true
	f.actions.FetchCard(g.Announcement)
}

// CardLoaded takes in a card that was fetched, checked and found to be good.
func (f *Fleet) CardLoaded(now time.Time, a protocol.Announcement, loaded Card) {
	f.now = now
	known := f.cards[a.CardDigest]
	delete(f.fetching, a.Group)
	if !known.good { // else another group was faster
		f.cards[a.CardDigest] = card{Card: loaded, good: true}
		for _, g := range f.ordered() {
			if g.Announcement.CardDigest == a.CardDigest {
				f.include(g)
			}
		}
	}
	f.admit()
}

// CardRefused takes in that a card could not be fetched, or, with ill, that it is one that cannot be used: that is not fetched
// again soon.
func (f *Fleet) CardRefused(now time.Time, a protocol.Announcement, ill bool, err error) {
	f.now = now
	f.actions.Complain(a.Group, "model card refused", err)
	known := f.cards[a.CardDigest]
	delete(f.fetching, a.Group)
	if !known.good { // else another group was faster
		known.fetched = time.Time{}
		if ill {
			known.refused = now
		}
		f.cards[a.CardDigest] = known
	}
	f.admit()
}

// knows reports whether the owner of models still knows a card that was loaded.
func (f *Fleet) knows(digest string) bool { return f.config.Knows == nil || f.config.Knows(digest) }

// kindOf is the kind of a card's requests that use an adapter of it, empty: none. Of a card that was never loaded, and of an
// adapter that it does not have, no group has the kind.
func (f *Fleet) kindOf(digest, adapter string) string {
	if kind := f.cards[digest].Kinds[adapter]; kind != "" {
		return kind
	}
	return digest + " " + adapter
}

// kindOfRequest is the kind of a request, whose guide is of this build's version.
func (f *Fleet) kindOfRequest(r *request.Request) string {
	kind := f.kindOf(r.CardDigest, r.Adapter)
	if r.Guide != nil {
		kind = protocol.GuidedKind(kind, guide.Version)
	}
	return kind
}

// kindsOf are the kinds of all requests that groups with a card take, that of those without an adapter or a guide first.
func (f *Fleet) kindsOf(digest string) []string {
	kinds := []string{f.kindOf(digest, "")}
	known := f.cards[digest].Kinds
	for _, adapter := range slices.Sorted(maps.Keys(known)) {
		if adapter != "" {
			kinds = append(kinds, known[adapter])
		}
	}
	if version := f.cards[digest].GuideVersion; version > 0 {
		for _, kind := range slices.Clone(kinds) {
			kinds = append(kinds, protocol.GuidedKind(kind, version))
		}
	}
	return kinds
}

// forgetCards drops those that no group has, nor the owner of models, when there are many.
func (f *Fleet) forgetCards() {
	if len(f.cards) <= maxCards {
		return
	}
	used := map[string]bool{}
	for _, g := range f.groups {
		used[g.Announcement.CardDigest] = true
	}
	maps.DeleteFunc(f.cards, func(digest string, state card) bool {
		kept := used[digest] || f.config.Knows != nil && f.config.Knows(digest)
		return !kept && f.now.Sub(state.fetched) > CardTimeout
	})
}

package core

import (
	"maps"
	"time"

	"lockstep/protocol"
)

// card is how far the router is with a model card.
type card struct {
	good   bool
	reward bool // of a model that answers with scores only
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
func (f *Fleet) CardLoaded(now time.Time, a protocol.Announcement, loaded *protocol.ModelCard) {
	f.now = now
	known := f.cards[a.CardDigest]
	delete(f.fetching, a.Group)
	if !known.good { // else another group was faster
		f.cards[a.CardDigest] = card{good: true, reward: loaded.Reward}
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

// forgetCards drops those that no group has, when there are many.
func (f *Fleet) forgetCards() {
	if len(f.cards) <= maxCards {
		return
	}
	used := map[string]bool{}
	for _, g := range f.groups {
		used[g.Announcement.CardDigest] = true
	}
	maps.DeleteFunc(f.cards, func(digest string, state card) bool {
		return !used[digest] && f.now.Sub(state.fetched) > CardTimeout
	})
}

package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sort"
	"strings"
	"time"
	"unicode"

	"lockstep/protocol"
	"lockstep/router/admission"
	"lockstep/router/request"
)

// group is a living incarnation.
type group struct {
	Announcement protocol.Announcement
	known        bool // its card is known and good: admission has it
	refused      bool // it refused or did not answer; closed until its next announcement
	quiet        bool // it has missed announcements; closed until the next
	seen         time.Time
	running      map[uint64]*call // by wire id
	probe        *probe           // nil: none is under way
	yielded      time.Time        // when the last frame with tokens came
	wrong        bool             // the ledger differs from the group's account
	errorTokens  int              // by so many

	*talk
	lastFrame time.Time
	asked     time.Time // when a Replay was last asked for
	replays   int       // Replays asked for since the last good frame
}

// talk is what this router and an incarnation have said to each other. It outlives the group's loss: an incarnation that
// was only silent goes on counting where it was, and answers what it was asked before.
type talk struct {
	next uint64 // number of the frame that comes next
	step uint64 // of the last frame
	// cancels is the number of the last Cancel that was sent.
	cancels    uint64
	unanswered map[uint64]bool // wire ids of dispatches that the group has not answered yet
	late       []uint64        // those among them that are to be cancelled once it has
}

// ready reports whether the group computes, as far as it is heard.
func (g *group) ready() bool { return g.Announcement.State == protocol.StateReady && !g.quiet }

func (g *group) wires() []uint64 {
	wires := make([]uint64, 0, len(g.running))
	for wire := range g.running {
		wires = append(wires, wire)
	}
	return wires
}

// cardState is how far the router is with a model card.
type cardState struct {
	good bool
	// since when it is fetched, or was refused: by others for loadPatience, and again for refusalTime, it is let alone.
	fetched, refused time.Time
}

// announced takes in a heartbeat of a group.
func (f *Fleet) announced(name string, data []byte) {
	var a protocol.Announcement
	err := json.Unmarshal(data, &a)
	if err == nil {
		err = a.Validate()
	}
	if err != nil || a.Group != name {
		f.complain(name, "announcement refused", err)
		return
	}
	if f.config.ModelID != "" && a.ModelID != f.config.ModelID {
		return
	}
	if _, dead := f.downed[a.GroupRef]; dead {
		return
	}
	g := f.groups[a.Group]
	if g != nil && a.Incarnation < g.Announcement.Incarnation {
		return
	}
	if g != nil && a.Incarnation == g.Announcement.Incarnation && a.CardDigest != g.Announcement.CardDigest {
		f.complain(name, "announcement refused", errors.New("an incarnation has one card, and this is another"))
		return
	}
	if g != nil && a.Incarnation > g.Announcement.Incarnation {
		f.remove(g, "a newer incarnation has come", true)
		g = nil
	}
	if g == nil {
		if len(f.groups) >= maxGroups {
			return
		}
		g = &group{running: map[uint64]*call{}, talk: f.talks[a.GroupRef]}
		if g.talk == nil {
			g.talk = &talk{unanswered: map[uint64]bool{}}
		}
		f.groups[a.Group] = g
		f.log.Info().Stringer("group", a.GroupRef).Str("model", a.ModelID).Int("shards", a.Shards).Msg("group found")
	}
	g.Announcement, g.seen, g.refused, g.quiet = a, time.Now(), false, false
	if state := f.cards[a.CardDigest]; state.good && f.config.Knows(a.CardDigest) {
		f.include(g)
	} else if f.mayLoad(g, state) { // else at its next announcement
		f.loadCard(g)
	}
}

// mayLoad reports whether to fetch a group's card now: few at once, one of each group, and of groups that have the same card
// another only when the first is slow.
func (f *Fleet) mayLoad(g *group, state cardState) bool {
	now := g.seen
	return len(f.loading) < maxCardLoads && !f.loading[g.Announcement.Group] && now.Sub(state.fetched) > loadPatience &&
		now.Sub(state.refused) > refusalTime
}

// complain tells of what a group does wrong, once and then ever more rarely.
func (f *Fleet) complain(group, what string, err error) {
	if held, say := f.said.Due(what+" of "+group, time.Now()); say {
		f.log.Warn().Err(err).Str("group", bounded(group)).Int("held_back", held).Msg(what)
	}
}

// bounded is what a group says as far as it is told of.
func bounded(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxSaidBytes)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// include tells admission about a group whose card is good.
func (f *Fleet) include(g *group) {
	name := g.Announcement.Group
	g.known = true
	f.core.SetGroup(name, admission.Group{Kind: g.Announcement.CardDigest, Limits: g.Announcement.Limits})
	f.core.SetOpen(name, g.ready() && !g.refused)
	f.core.Report(name, g.Announcement.Load)
	f.publishSnapshot()
}

// loadCard fetches and checks the card of a group beside the owner.
func (f *Fleet) loadCard(g *group) {
	a := g.Announcement
	f.cards[a.CardDigest] = cardState{fetched: time.Now()}
	f.loading[a.Group] = true
	f.workers.Go(func() {
		ctx, cancel := context.WithTimeout(f.ctx, loadTimeout)
		defer cancel()
		card, err := f.questions.fetchCard(ctx, a)
		var state cardState
		if err == nil {
			if err = f.config.OnCard(a.CardDigest, card); err == nil {
				state.good = true
			} else {
				state.refused = time.Now()
			}
		}
		if err != nil && f.ctx.Err() == nil {
			f.complain(a.Group, "model card refused", err)
		}
		f.post(func() {
			delete(f.loading, a.Group)
			if f.cards[a.CardDigest].good {
				return // another group was faster
			}
			f.cards[a.CardDigest] = state
			if state.good && card.Reward {
				f.rewards[a.CardDigest] = true
			}
			for _, other := range f.groups {
				if state.good && other.Announcement.CardDigest == a.CardDigest {
					f.include(other)
				}
			}
		})
	})
}

// fetchCard asks a group for its card, chunk by chunk, and checks size and digest.
func (q *questions) fetchCard(ctx context.Context, a protocol.Announcement) (*protocol.ModelCard, error) {
	var data []byte // grows with what comes: its size is only announced
	for len(data) < a.CardBytes {
		ask, err := json.Marshal(protocol.CardRequest{Offset: len(data)})
		if err != nil {
			return nil, err
		}
		chunkCtx, cancel := context.WithTimeout(ctx, cardTimeout)
		reply, err := q.ask(chunkCtx, a.Group, a.Card(q.router), ask)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("fetching the card at %d: %w", len(data), err)
		}
		if len(reply) != min(protocol.CardChunkBytes, a.CardBytes-len(data)) {
			return nil, errors.New("a chunk of the card has a wrong size")
		}
		data = append(data, reply...)
	}
	sum := sha256.Sum256(data)
	if digest := hex.EncodeToString(sum[:]); digest != a.CardDigest {
		return nil, fmt.Errorf("the card's digest is %s, announced %s", digest, a.CardDigest)
	}
	card := new(protocol.ModelCard)
	if err := json.Unmarshal(data, card); err != nil {
		return nil, fmt.Errorf("decoding the card: %w", err)
	}
	return card, nil
}

// death is when an incarnation was last said to have died, and what it served.
type death struct {
	since      time.Time
	cardDigest string
}

// down takes in the news of a death. It changes something only when it speaks of the incarnation that is known: what was
// never announced cannot end, and an incarnation that is still to come cannot be dead. While the next one loads, the news
// come again, and requests wait on.
func (f *Fleet) down(name string, data []byte) {
	var d protocol.Down
	g := f.groups[name]
	if json.Unmarshal(data, &d) != nil || d.Group != name {
		return
	}
	known := g != nil && d.GroupRef == g.Announcement.GroupRef
	before, dead := f.downed[d.GroupRef]
	if !known && !dead {
		return
	}
	end := death{since: time.Now(), cardDigest: before.cardDigest}
	if known {
		end.cardDigest = g.Announcement.CardDigest
	}
	if dead || len(f.downed) < maxGroups {
		f.downed[d.GroupRef] = end
	}
	if back := time.Duration(min(d.BackSeconds, maxBackTime.Seconds()) * float64(time.Second)); back > 0 {
		f.awaited[end.cardDigest] = end.since.Add(2*back + f.config.ResumeTimeout)
	}
	if known {
		f.remove(g, bounded(d.Reason), !d.Stopped)
	}
}

// forget drops what is known of deaths, restarts and cards once it is of no use.
func (f *Fleet) forget(now time.Time) {
	maps.DeleteFunc(f.downed, func(_ protocol.GroupRef, d death) bool { return now.Sub(d.since) > downedTime })
	maps.DeleteFunc(f.awaited, func(_ string, until time.Time) bool { return now.After(until) })
	if len(f.cards) <= maxCards {
		return
	}
	used := map[string]bool{}
	for _, g := range f.groups {
		used[g.Announcement.CardDigest] = true
	}
	maps.DeleteFunc(f.cards, func(digest string, state cardState) bool {
		drop := !used[digest] && now.Sub(state.fetched) > loadTimeout
		if drop {
			delete(f.rewards, digest)
		}
		return drop
	})
}

// remove forgets a group; its calls wait again at the front of the queue.
func (f *Fleet) remove(g *group, reason string, lost bool) {
	ref := g.Announcement.GroupRef
	if lost {
		f.totals.GroupsLost++
		f.log.Warn().Stringer("group", ref).Str("reason", reason).Int("requests", len(g.running)).Msg("group lost")
	} else {
		f.log.Info().Stringer("group", ref).Int("requests", len(g.running)).Msg("group has stopped")
	}
	f.sendCancel(g, g.wires())
	g.endProbe(fmt.Errorf("group %s is gone: %s", ref, reason))
	for _, c := range g.running {
		f.detach(c)
	}
	f.core.RemoveGroup(ref.Group)
	delete(f.groups, ref.Group)
	if len(f.talks) >= maxGroups {
		clear(f.talks)
	}
	f.talks[ref] = g.talk
	f.publishSnapshot()
}

// watchGroups finds groups that are silent, that owe frames or that have forgotten requests. While the router itself
// was absent, silence says nothing.
func (f *Fleet) watchGroups(now time.Time, absent bool) {
	for _, g := range f.groups {
		if absent {
			g.seen = now
			continue
		}
		silent := now.Sub(g.seen)
		if silent > protocol.GroupTimeout {
			f.remove(g, "it has been silent", true)
			continue
		}
		if silent > avoidTime && g.known {
			g.quiet = true
			f.core.SetOpen(g.Announcement.Group, false)
		}
		f.watchProbe(g, now)
		if load := g.Announcement.Load; load.Running+load.Waiting < len(g.running) {
			f.takeBackForgotten(g, now)
		}
		// The last frames may have been lost, with none behind them that would show the gap.
		if (len(g.running) > 0 || g.probe != nil) && now.Sub(g.lastFrame) >= quietTimeout && now.Sub(g.asked) >= quietTimeout {
			f.askReplay(g, now)
		}
	}
}

// takeBackForgotten dispatches again what a group holds no more.
func (f *Fleet) takeBackForgotten(g *group, now time.Time) {
	var forgotten []uint64
	for wire, c := range g.running {
		if now.Sub(c.moved) > forgottenTimeout {
			forgotten = append(forgotten, wire)
		}
	}
	if len(forgotten) > 0 {
		f.complain(g.Announcement.Group, "group has forgotten requests; dispatching again", fmt.Errorf("%d requests", len(forgotten)))
		f.takeBack(g, forgotten)
	}
}

// takeBack ends attempts at a living group and puts their calls at the front of the queue.
func (f *Fleet) takeBack(g *group, wires []uint64) {
	f.sendCancel(g, wires)
	ids := make([]uint64, 0, len(wires))
	for _, wire := range wires {
		if c := g.running[wire]; c != nil {
			ids = append(ids, c.id)
			f.detach(c)
		}
	}
	f.core.Requeue(ids)
	g.replays = 0
}

func (f *Fleet) publishSnapshot() {
	s := &Snapshot{Load: request.Load{Queued: f.core.Queued(), Totals: f.totals}}
	for name, g := range f.groups {
		if !g.known {
			continue
		}
		a := &g.Announcement
		ledger := f.core.Load(name)
		s.Groups = append(s.Groups, Group{Ref: a.GroupRef, CardDigest: a.CardDigest, Limits: a.Limits, Ready: g.ready()})
		s.Load.Groups = append(s.Load.Groups, request.GroupLoad{
			Group: name, CapacityTokens: a.Limits.CapacityTokens, HeldTokens: a.Load.HeldTokens, CachedTokens: a.Load.CachedTokens,
			LedgerTokens: ledger.LedgerTokens, ReservedTokens: ledger.ReservedTokens, PeakTokens: ledger.PeakTokens,
			ErrorTokens: g.errorTokens, Requests: ledger.Requests, Parked: a.Load.Parked,
		})
	}
	sort.Slice(s.Groups, func(i, j int) bool { return s.Groups[i].Ref.Group < s.Groups[j].Ref.Group })
	sort.Slice(s.Load.Groups, func(i, j int) bool { return s.Load.Groups[i].Group < s.Load.Groups[j].Group })
	f.snapshot.Store(s)
	if f.config.OnSnapshot != nil {
		f.config.OnSnapshot(s)
	}
}

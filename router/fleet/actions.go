package fleet

import (
	"context"
	"encoding/json"
	"time"

	"lockstep/protocol"
	"lockstep/router/fleet/core"
)

// actions does over NATS what the core decides.
type actions Fleet

func (a *actions) Alive() { a.publish(protocol.AliveSubject(a.config.Router), nil) }

func (a *actions) Cancel(group protocol.GroupRef, number uint64, wires []uint64) {
	a.publishJSON(group.Cancel(a.config.Router), protocol.Cancel{Router: a.config.Router, Number: number, IDs: wires})
}

func (a *actions) Replay(group protocol.GroupRef, from uint64) {
	a.publishJSON(group.Replay(a.config.Router), protocol.Replay{Router: a.config.Router, From: from})
}

func (a *actions) publishJSON(subject string, message any) {
	data, err := json.Marshal(message)
	if err != nil {
		panic(err) // our own types
	}
	a.publish(subject, data)
}

func (a *actions) publish(subject string, data []byte) {
	if err := a.conn.Publish(subject, data); err != nil {
		a.log.Warn().Err(err).Str("subject", subject).Msg("publish failed")
	}
}

// Dispatch publishes beside the owner, since what it encodes may be long.
func (a *actions) Dispatch(d *core.Delivery) {
	f := (*Fleet)(a)
	if f.config.OnDispatch != nil && !d.Probe {
		f.config.OnDispatch(len(d.Requests))
	}
	group := d.Group()
	f.workers.Go(func() {
		var reply protocol.DispatchReply
		data, err := json.Marshal(protocol.Dispatch{Version: protocol.Version, Router: f.config.Router, Requests: d.Requests})
		if err == nil {
			ctx, cancel := context.WithTimeout(f.ctx, dispatchTimeout)
			defer cancel()
			var answer []byte
			if answer, err = f.questions.ask(ctx, group.Group, group.Dispatch(f.config.Router), data); err == nil {
				err = json.Unmarshal(answer, &reply)
			}
		}
		f.post(func(now time.Time) { f.core.Answered(now, d, reply, err) })
	})
}

// FetchCard fetches and checks the card of a group beside the owner.
func (a *actions) FetchCard(announcement protocol.Announcement) {
	f := (*Fleet)(a)
	f.workers.Go(func() {
		ctx, cancel := context.WithTimeout(f.ctx, core.CardTimeout)
		defer cancel()
		card, err := f.questions.fetchCard(ctx, announcement)
		fetched := err == nil
		var loaded core.Card
		if fetched {
			kinds := make(chan map[string]string, 1)
			go func() { kinds <- card.Kinds() }() // it reads the whole card, and so does OnCard
			err = f.config.OnCard(announcement.CardDigest, card)
			loaded = core.Card{Kinds: <-kinds, GuideVersion: card.GuideVersion, Reward: card.Reward, DeviceType: card.DeviceType,
				Numerics: card.Numerics}
		}
		f.post(func(now time.Time) {
			if err != nil {
				f.core.CardRefused(now, announcement, fetched, err)
			} else {
				f.core.CardLoaded(now, announcement, loaded)
			}
		})
	})
}

func (a *actions) Show(s *core.Snapshot) {
	a.snapshot.Store(s)
	if a.config.OnSnapshot != nil {
		a.config.OnSnapshot(s)
	}
}

func (a *actions) Stepped(prefill bool, sincePrevious time.Duration) {
	if a.config.OnStep != nil {
		a.config.OnStep(prefill, sincePrevious)
	}
}

func (a *actions) Log(level core.Level, message string, fields ...any) {
	event := a.log.Info()
	if level == core.Warn {
		event = a.log.Warn()
	}
	event.Fields(fields).Msg(message)
}

func (a *actions) Complain(group, what string, err error) { (*Fleet)(a).complain(group, what, err) }

package shard

import (
	"encoding/json"
	"time"

	"lockstep/protocol"
)

// announce tells routers about the group until close.
func (l *leader) announce() {
	defer close(l.announced)
	ticker := time.NewTicker(protocol.AnnounceInterval)
	defer ticker.Stop()
	for {
		l.sendAnnouncement()
		select {
		case <-ticker.C:
		case <-l.stop:
			return
		}
	}
}

func (l *leader) sendAnnouncement() {
	message := l.base
	switch {
	case l.draining.Load():
		message.State = protocol.StateDraining
	case l.engine.pace.stalled():
		message.State = protocol.StateStalled
	default:
		message.State = protocol.StateReady
	}
	load := l.load.Load()
	message.Load, message.Speculation = load.Load, load.speculation
	data, err := json.Marshal(message)
	if err == nil {
		err = l.control.Publish(protocol.AnnounceSubject(l.config.Group.Group), data)
	}
	if err != nil {
		l.log.Warn().Err(err).Msg("announce")
	}
}

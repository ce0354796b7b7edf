package main

import (
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"lockstep/launcher/broker"
	"lockstep/launcher/membership"
	"lockstep/protocol"
)

// openNetwork starts NATS (or takes the operator's) and membership.
func (l *launcher) openNetwork() (err error) {
	l.natsURLs = l.NATSURL
	if len(l.natsURLs) == 0 {
		host, gossipPort, _ := l.gossip()
		config := broker.Config{Name: l.NodeName, Host: host, Port: l.NATSPort, Mesh: gossipPort != 0, Key: l.ClusterKey}
		if host == "" {
			config.Host = "127.0.0.1"
		}
		if l.broker, err = broker.Open(config, l.log); err != nil {
			return err
		}
		l.natsURLs = []string{l.broker.URL()}
		if gossipPort != 0 {
			if err := l.openMembership(host, gossipPort); err != nil {
				return err
			}
		}
	}
	options := nats.GetDefaultOptions()
	options.Servers, options.Name = l.natsURLs, l.NodeName+" launcher"
	options.RetryOnFailedConnect, options.MaxReconnect, options.ReconnectWait = true, -1, 100*time.Millisecond
	options.PingInterval, options.MaxPingsOut = 2*time.Second, 2
	if identity := l.identity(protocol.RoleLauncher); identity.NKey != "" {
		options.Nkey, options.SignatureCB = identity.NKey, identity.Sign
	}
	l.connection, err = options.Connect()
	return err
}

// identity is what a role of this node proves to be to NATS: to the operator's own server by the cluster key, or by what
// the URL says.
func (l *launcher) identity(role protocol.Role) protocol.Identity {
	switch {
	case l.broker != nil:
		return l.broker.Identity(role)
	case l.ClusterKey != "":
		return broker.Identity(l.ClusterKey, role, l.NodeName)
	}
	return protocol.Identity{}
}

// openMembership joins the other nodes. What gossip tells is carried to NATS by a goroutine of its own, newest first:
// gossip must not wait for a reload.
func (l *launcher) openMembership(host string, port int) (err error) {
	news := make(chan []membership.Member, 1)
	config := membership.Config{
		Name: l.NodeName, Host: host, Port: port, Seeds: l.Join, Key: l.ClusterKey,
		Meta: membership.Meta{Role: l.role, Incarnation: uint64(time.Now().UnixNano()),
			Route: net.JoinHostPort("", strconv.Itoa(l.broker.RoutePort()))},
	}
	if l.membership, err = membership.Open(config, l.log, func(members []membership.Member) {
		select { // one caller at a time: the slot is free after an older list is taken out
		case <-news:
		default:
		}
		news <- members
	}); err != nil {
		return err
	}
	l.descriptions = make(chan func(*membership.Meta), 8)
	l.carrying.Go(func() { l.carry(news) })
	return nil
}

// carry takes news of other nodes to NATS and descriptions of this one to them, in their order, until there are no more.
func (l *launcher) carry(news <-chan []membership.Member) {
	for {
		select {
		case members := <-news:
			var routes []string
			for _, member := range members {
				if member.Route != "" {
					routes = append(routes, member.Route)
				}
			}
			if err := l.broker.Mesh(routes); err != nil {
				l.log.Error().Err(err).Msg("cannot connect to the other nodes' NATS")
			}
		case change, more := <-l.descriptions:
			if !more {
				return
			}
			if err := l.membership.Update(change); err != nil { // waits for the news to go out
				l.log.Debug().Err(err).Msg("the other nodes may not have heard the news")
			}
		}
	}
}

// describe changes what this node says of itself, soon. When too much waits the change is left out: the next says more.
func (l *launcher) describe(change func(*membership.Meta)) {
	if l.membership == nil {
		return
	}
	select {
	case l.descriptions <- change:
	default:
	}
}

// updateMembership tells the other nodes which incarnation of the group runs here.
func (l *launcher) updateMembership(incarnation uint64) {
	l.describe(func(meta *membership.Meta) { meta.Incarnation = incarnation })
}

func (l *launcher) sayDraining() {
	l.describe(func(meta *membership.Meta) { meta.Draining = true })
}

// closeNetwork says good-bye: routers need not wait until the group is missed.
func (l *launcher) closeNetwork() {
	if l.connection != nil {
		if l.shards != nil && l.connection.IsConnected() {
			l.publishDown(protocol.Down{GroupRef: l.shards.ref(l.NodeName), Reason: "stopped", Stopped: true})
			_ = l.connection.FlushTimeout(time.Second)
		}
		l.connection.Close()
	}
	if l.membership != nil {
		close(l.descriptions)
		l.carrying.Wait()
		if err := l.membership.Close(); err != nil {
			l.log.Debug().Err(err).Msg("leaving")
		}
	}
	if l.broker != nil {
		l.broker.Close()
	}
}

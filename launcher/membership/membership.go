// Package membership says which nodes exist. It is memberlist with a profile that notices a dead node in about 1.2 s;
// each member carries its role, the address for NATS routes and whether it drains. It is weakly consistent: it decides
// whom to connect to, never who owns what.
package membership

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"

	"lockstep/protocol/repeat"
)

const (
	// DefaultPort of gossip, UDP and TCP.
	DefaultPort = 7946
	// rejoinInterval is how often seeds that are not among the members are tried again, at the start and after a partition.
	rejoinInterval = 2 * time.Second
	// Of failed attempts to join in a row, number warnFirst and then each warnEvery-th is told of aloud.
	warnFirst = 3
	warnEvery = 60
	// pushPullInterval is how often a node compares all it knows with another. A node that restarts faster than its death is
	// noticed, and knows no seed but itself, is told from its predecessor by nothing else.
	pushPullInterval = time.Second
	// defaultForgetTime is how long a member that does not answer keeps its place: a partition may end.
	defaultForgetTime = 5 * time.Minute
	// leaveTimeout bounds the wait for the news of our leaving to go out.
	leaveTimeout = time.Second
	// reclaimTime is when a dead member's name may be taken by another address.
	reclaimTime = 3 * time.Second
	// label keeps other users of memberlist on the same network apart.
	label = "lockstep"
)

// Meta is what a member says of itself: JSON of at most memberlist.MetaMaxSize (512) bytes.
type Meta struct {
	Role        string `json:"role"` // serve, node or router
	Incarnation uint64 `json:"incarnation"`
	Route       string `json:"route,omitempty"` // HOST:PORT for NATS routes
	Draining    bool   `json:"draining,omitempty"`
}

// Member is another node.
type Member struct {
	Name string
	Meta
}

// Config of this node's membership.
type Config struct {
	// Name of the node, unique and stable.
	Name string
	// Host and Port to listen on; an unspecified host takes the first private address of the machine.
	Host string
	Port int
	// Seeds are HOST or HOST:PORT of nodes to join; tried again for ever.
	Seeds []string
	// Key, when not empty, encrypts gossip; all members need the same.
	Key string
	// ForgetTime is how long a member that does not answer is still told of; then only its joining again brings it back. 0
	// means 5 minutes.
	ForgetTime time.Duration
	// Meta of this node. The host of Route is filled in when it is empty.
	Meta Meta
}

// Membership is a running member. Its methods may be called from any goroutine.
type Membership struct {
	list    *memberlist.Memberlist
	config  Config
	log     zerolog.Logger
	changed func([]Member)
	stop    chan struct{}
	done    sync.WaitGroup
	said    repeat.Filter

	mutex   sync.Mutex // orders everything below and calls of changed
	meta    Meta
	members map[string]Member
	alive   map[string]string    // addresses of all believed alive, by name; memberlist's own nodes may only be read in events
	dead    map[string]time.Time // members that do not answer, and since when
}

// Open joins. changed is called with all other members, those believed dead included until they leave, come back under
// another route or are forgotten, whenever one joins, changes or leaves: a member wrongly taken for dead must not lose its
// connection.
func Open(config Config, log zerolog.Logger, changed func([]Member)) (*Membership, error) {
	m := &Membership{config: config, log: log, changed: changed, stop: make(chan struct{}), meta: config.Meta, members: map[string]Member{},
		alive: map[string]string{},
		dead:  map[string]time.Time{}}
	if m.config.ForgetTime == 0 {
		m.config.ForgetTime = defaultForgetTime
	}
	settings := memberlist.DefaultLANConfig()
	settings.Name, settings.Label = config.Name, label
	settings.BindAddr, settings.BindPort = config.Host, config.Port
	settings.AdvertisePort = config.Port
	settings.ProbeInterval, settings.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	settings.SuspicionMult, settings.SuspicionMaxTimeoutMult = 3, 2
	settings.GossipInterval = 50 * time.Millisecond
	settings.PushPullInterval = pushPullInterval
	settings.DeadNodeReclaimTime = reclaimTime
	settings.Delegate, settings.Events, settings.Conflict = delegate{m}, events{m}, events{m}
	settings.Logger = stdlog.New(logWriter{log, &m.said}, "", 0)
	if config.Key != "" {
		key := sha256.Sum256([]byte(config.Key))
		settings.SecretKey = key[:]
	}
	if host, port, err := net.SplitHostPort(m.meta.Route); err == nil && host == "" {
		if host, err = advertised(config.Host); err != nil {
			return nil, err
		}
		m.meta.Route = net.JoinHostPort(host, port)
	}
	bounded, err := newTransport(config.Host, config.Port, settings.Logger)
	if err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	settings.Transport = bounded
	list, err := memberlist.Create(settings)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("membership: %w", err), bounded.Shutdown())
	}
	m.list = list
	m.done.Add(1)
	go m.rejoin()
	return m, nil
}

// advertised is the address under which others reach a listener on host.
func advertised(host string) (string, error) {
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		return host, nil
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("own address: %w", err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil && network.IP.IsPrivate() {
			return network.IP.String(), nil
		}
	}
	return "", fmt.Errorf("this machine has no private address: name one with --gossip-address HOST:PORT")
}

// rejoin tries seeds that are not members until Close.
func (m *Membership) rejoin() {
	defer m.done.Done()
	ticker := time.NewTicker(rejoinInterval)
	defer ticker.Stop()
	for failures := 0; ; {
		if missing := m.missingSeeds(); len(missing) > 0 {
			if _, err := m.list.Join(missing); err != nil {
				level := zerolog.DebugLevel
				if failures++; failures%warnEvery == warnFirst {
					level = zerolog.WarnLevel
				}
				m.log.WithLevel(level).Err(err).Strs("seeds",
					missing).Msg("cannot join yet: a node to join does not answer, or has another cluster key")
			} else {
				failures = 0
			}
		}
		m.forget(time.Now())
		select {
		case <-m.stop:
			return
		case <-ticker.C:
		}
	}
}

// forget drops the members that have not answered for too long.
func (m *Membership) forget(now time.Time) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	forgotten := false
	for name, since := range m.dead {
		if now.Sub(since) >= m.config.ForgetTime {
			m.log.Warn().Str("member", name).Msg("a node has not answered for long and is forgotten; it comes back by joining")
			delete(m.dead, name)
			delete(m.members, name)
			forgotten = true
		}
	}
	if forgotten {
		m.tell()
	}
}

// tell gives the owner all members.
func (m *Membership) tell() {
	all := make([]Member, 0, len(m.members))
	for _, member := range m.members {
		all = append(all, member)
	}
	m.changed(all)
}

func (m *Membership) missingSeeds() []string {
	present := map[string]bool{}
	m.mutex.Lock()
	for _, address := range m.alive {
		present[address] = true
	}
	m.mutex.Unlock()
	var missing []string
	for _, seed := range m.config.Seeds {
		if _, _, err := net.SplitHostPort(seed); err != nil {
			seed = net.JoinHostPort(strings.Trim(seed, "[]"), strconv.Itoa(DefaultPort))
		}
		if !present[seed] {
			missing = append(missing, seed)
		}
	}
	return missing
}

// Update changes what this node says of itself.
func (m *Membership) Update(change func(*Meta)) error {
	m.mutex.Lock()
	change(&m.meta)
	m.mutex.Unlock()
	return m.list.UpdateNode(leaveTimeout)
}

// Alive is how many nodes are believed alive, this one included.
func (m *Membership) Alive() int { return m.list.NumMembers() }

// Close says that the node drains, leaves and stops.
func (m *Membership) Close() error {
	close(m.stop)
	m.done.Wait()
	err := m.Update(func(meta *Meta) { meta.Draining = true })
	if leaveErr := m.list.Leave(leaveTimeout); err == nil {
		err = leaveErr
	}
	if stopErr := m.list.Shutdown(); err == nil {
		err = stopErr
	}
	return err
}

// seen records that a node is alive, this one included.
func (m *Membership) seen(node *memberlist.Node) {
	m.mutex.Lock()
	m.alive[node.Name] = node.Address()
	delete(m.dead, node.Name)
	m.mutex.Unlock()
	m.note(node, false)
}

// note records that a member was seen (or has left, with gone) and tells the owner if that changes anything.
func (m *Membership) note(node *memberlist.Node, gone bool) {
	if node.Name == m.config.Name {
		return
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if gone {
		delete(m.members, node.Name)
		delete(m.dead, node.Name)
	} else {
		member := Member{Name: node.Name}
		if err := json.Unmarshal(node.Meta, &member.Meta); err != nil {
			m.log.Warn().Str("member", node.Name).Err(err).Msg("a member's description is malformed")
			return
		}
		m.members[node.Name] = member
	}
	m.tell()
}

// delegate hands out this node's description; nothing else travels by gossip.
type delegate struct{ m *Membership }

func (d delegate) NodeMeta(limit int) []byte {
	d.m.mutex.Lock()
	defer d.m.mutex.Unlock()
	meta, err := json.Marshal(d.m.meta)
	if err != nil || len(meta) > limit {
		d.m.log.Error().Int("bytes", len(meta)).Int("limit", limit).Msg("this node's description is too long for gossip")
		return nil
	}
	return meta
}
func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

type events struct{ m *Membership }

func (e events) NotifyJoin(node *memberlist.Node) {
	if node.Name != e.m.config.Name {
		e.m.log.Info().Str("member", node.Name).Str("address", node.Address()).Msg("a node has joined")
	}
	e.m.seen(node)
}
func (e events) NotifyUpdate(node *memberlist.Node) { e.m.seen(node) }
func (e events) NotifyLeave(node *memberlist.Node) {
	e.m.mutex.Lock()
	delete(e.m.alive, node.Name)
	if _, known := e.m.members[node.Name]; known {
		e.m.dead[node.Name] = time.Now()
	}
	e.m.mutex.Unlock()
	// memberlist does not say here whether the node left or died; who leaves on purpose drains before it does.
	var meta Meta
	if json.Unmarshal(node.Meta, &meta) == nil && meta.Draining {
		e.m.log.Info().Str("member", node.Name).Msg("a node has left")
		e.m.note(node, true)
		return
	}
	e.m.log.Warn().Str("member", node.Name).Msg("a node does not answer")
}

// NotifyConflict is called when two nodes have one name: the one that came later is not seen by the others.
func (e events) NotifyConflict(existing, other *memberlist.Node) {
	if held, say := e.m.said.Due("conflict "+other.Name+other.Address(), time.Now()); say {
		e.m.log.Warn().Str("name", other.Name).Str("address", existing.Address()).Str("other", other.Address()).Int("held_back", held).
			Msg("two nodes have the same name: give one of them another --node-name")
	}
}

// logWriter passes memberlist's log on as detail.
type logWriter struct {
	log  zerolog.Logger
	said *repeat.Filter
}

func (w logWriter) Write(line []byte) (int, error) {
	// A node with another key, or none, knocks; memberlist says so in these words.
	if bytes.Contains(line, []byte("decrypt")) || bytes.Contains(line, []byte("ncrypt")) {
		if held, say := w.said.Due("key", time.Now()); say {
			w.log.Warn().Str("part", "gossip").Int("held_back", held).Str("detail", strings.TrimSpace(string(line))).
				Msg("a node with another cluster key, or none, has asked to join")
		}
		return len(line), nil
	}
	w.log.Debug().Str("part", "gossip").Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/launcher/broker"
	"lockstep/launcher/demo"
	"lockstep/launcher/membership"
	"lockstep/launcher/supervise"
	"lockstep/shard"
)

const (
	// eventBuffer is how many events of children may wait; a child that has more to say waits with its next line.
	eventBuffer = 256
	// sameSignal is how long after the first signal another is taken for the same: some programs send each twice.
	sameSignal = 300 * time.Millisecond
	// giveUpTimeout is how long the rest has to end once one part is given up.
	giveUpTimeout = 2 * time.Second
)

// launcher runs the parts of a node. All fields belong to the goroutine of launch.
type launcher struct {
	command
	log     zerolog.Logger
	console *console
	// announcements is standard output.
	announcements io.Writer
	spawner       *spawner
	events        chan event
	verdict       chan error // of checkForRouters; it holds one

	broker     *broker.Broker // nil with --nats-url
	membership *membership.Membership
	// descriptions are changes of what this node says of itself, for the goroutine that carrying counts.
	descriptions chan func(*membership.Meta)
	carrying     sync.WaitGroup
	natsURLs     []string
	connection   *nats.Conn // for the news of dead incarnations

	shards, router *unit // nil where the role has none
	announced      bool  // the ready lines are out
	stopping       bool
	asked          time.Time // when the stop was asked for
	deadline       time.Time // of the whole stop
	failure        error
}

// launch runs the node until it is told to stop or cannot go on.
func launch(c command, console *console, announcements io.Writer, log zerolog.Logger) (err error) {
	signals := make(chan os.Signal, 4)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup's SIGHUP, the SIGINT of a script's background job: who ignored them wants it to go on
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	l := &launcher{command: c, log: log, console: console, announcements: announcements, events: make(chan event, eventBuffer),
		verdict: make(chan error, 1)}
	defer console.Progress("")
	if c.Insecure {
		log.Warn().Msg("--insecure: whoever reaches this node's ports can read and forge what it serves")
	}
	for _, warning := range c.warnings {
		log.Warn().Msg(warning)
	}
	if l.role != "node" {
		for _, address := range l.addresses() {
			if err := portIsFree(address); err != nil {
				return err
			}
		}
	}
	if l.Env {
		computer := thisComputer()
		l.log.Info().Str("version", version).Ints("cpus", computer.cpus()).Int("quota", computer.quota).Strs("environment",
			shown(os.Environ())).Msg("environment")
	}
	if l.spawner, err = newSpawner(); err != nil {
		return err
	}
	defer l.closeNetwork()
	if err := l.openNetwork(); err != nil {
		return err
	}
	if l.broker == nil && !l.connection.IsConnected() &&
		!errors.Is(l.connection.LastError(), nats.ErrAuthorization) { // it may come later, so this is no error
		l.log.Warn().AnErr("error", l.connection.LastError()).Str("servers",
			hosts(l.natsURLs)).Msg("NATS cannot be reached: nothing is served before it can")
	}
	l.start()
	l.loop(signals)
	return l.failure
}

// addresses are those that the router will serve on.
func (l *launcher) addresses() []string {
	list := []string{net.JoinHostPort(l.Hostname, strconv.Itoa(l.Port))}
	for _, more := range l.guard.Listeners {
		list = append(list, more.Address)
	}
	return list
}

// portIsFree finds a port in use before anything is loaded.
func portIsFree(address string) error {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, port, _ := net.SplitHostPort(address)
		return fmt.Errorf("port %s of %s is in use: choose another with --port or --listen", port, host)
	} else if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	return listener.Close()
}

// start begins all parts at once: the router is ready when it has found a group that is.
func (l *launcher) start() {
	if l.role != "router" {
		if !shard.TraitsOf(l.Backend).Weights {
			l.log.Warn().Str("backend", l.Backend).Msg("nothing is computed: answers are made up, for tests of everything else")
		} else if l.ModelID != "" && l.ModelID != demo.ModelID {
			l.log.Info().Str("model", l.ModelID).Msg("loading")
		} else {
			l.log.Info().Msg("serving the demo model (no --model-id): it tells small stories that it has learned by heart and knows " +
				"nothing else")
		}
		if len(l.cards) > 0 {
			l.log.Info().Str("cards", names(l.cards)).Msg("computing on cards, one for each shard")
		}
		l.shards = l.newShards()
		go func() { l.verdict <- l.checkForRouters(l.log) }()
	}
	if l.role != "node" {
		l.router = l.newRouter()
	}
	for _, u := range []*unit{l.shards, l.router} {
		if u != nil {
			l.apply(u, u.Start())
		}
	}
}

// loop handles events, signals and time until all parts are gone.
func (l *launcher) loop(signals <-chan os.Signal) {
	timer := time.NewTimer(0)
	for !l.gone() {
		wait := supervise.LookInterval
		for _, u := range l.units() {
			if at, ok := u.Deadline(); ok {
				wait = min(wait, time.Until(at))
			}
		}
		timer.Reset(max(0, wait))
		select {
		case e := <-l.events:
			l.handle(e)
		case err := <-l.verdict:
			if err != nil && !l.stopping {
				l.console.Progress("")
				l.fail(err)
			}
		case s := <-signals:
			l.stop(s)
		case <-timer.C:
			for _, u := range l.units() {
				l.apply(u, u.Tick(time.Now()))
			}
			l.look()
		}
	}
}

// units are the parts that exist.
func (l *launcher) units() []*unit {
	var units []*unit
	for _, u := range []*unit{l.router, l.shards} { // the order of stopping
		if u != nil {
			units = append(units, u)
		}
	}
	return units
}

func (l *launcher) gone() bool {
	for _, u := range l.units() {
		if !u.Gone() {
			return false
		}
	}
	return true
}

func (l *launcher) handle(e event) {
	u := e.unit
	if e.incarnation != u.incarnation {
		return
	}
	if e.status == nil {
		reason := fmt.Sprintf("%s: %s", u.nameOf(e.rank), e.reason)
		if !e.clean || !l.stopping {
			l.log.Debug().Str("reason", e.reason).Int("rank", e.rank).Str("unit", u.name).Msg("a process has exited")
		}
		if l.stopping && !e.clean && l.failure == nil && u == l.units()[0] && u.loaded {
			l.failure = fmt.Errorf("stopped before all requests were finished: %s", reason) // the front of the node
		}
		l.apply(u, u.Exited(time.Now(), e.rank, e.clean, reason))
		return
	}
	u.moved = time.Now()
	if e.status.Text != "" {
		u.text = e.status.Text
		if u.cacheTokens == 0 {
			u.cacheTokens = e.status.CacheTokens
		}
	}
	if e.status.Ready {
		u.progress[e.rank] = 1
		l.apply(u, u.Ready(e.rank))
	} else {
		if u.phases[e.rank] = e.status.Phase; e.status.Phase == shard.PhasePacking {
			u.progress[e.rank] = e.status.Progress
		}
	}
	l.showProgress()
}

// apply carries out what the core has decided.
func (l *launcher) apply(u *unit, actions []supervise.Action) {
	for _, action := range actions {
		switch action.Kind {
		case supervise.Spawn:
			l.spawn(u)
		case supervise.Abort:
			l.abort(u, action.Reason)
		case supervise.Kill:
			u.signal(syscall.SIGKILL)
		case supervise.Terminate:
			u.terminate()
		case supervise.Serving:
			l.serving(u)
		case supervise.Failed:
			l.console.Progress("")
			l.fail(errors.New(action.Reason))
		case supervise.Ended:
			u.release()
			u.dropWeights()
			l.log.Debug().Str("unit", u.name).Msg("stopped")
			l.drainNext()
		}
	}
}

// fail ends the launcher with an error; what is left has a moment to say good-bye to its clients.
func (l *launcher) fail(reason error) {
	if l.failure == nil {
		l.failure = reason
	}
	l.stopping, l.deadline = true, time.Now().Add(giveUpTimeout)
	l.drainNext()
}

// stop drains at the first signal and kills at the second.
func (l *launcher) stop(s os.Signal) {
	l.console.Progress("")
	if l.stopping && time.Since(l.asked) < sameSignal {
		return
	}
	if l.stopping {
		l.log.Warn().Stringer("signal", s).Msg("stopping at once")
		l.deadline = time.Now()
		if l.failure == nil {
			l.failure = errors.New("stopped at a second signal, whatever was running")
		}
	} else {
		timeout := time.Duration(l.Graceful) * time.Second
		l.log.Info().Stringer("signal", s).Dur("timeout_ms", timeout).Msg("draining; a second signal stops at once")
		l.stopping, l.asked, l.deadline = true, time.Now(), time.Now().Add(timeout)
		l.sayDraining()
	}
	l.drainNext()
}

// drainNext drains the parts one after the other: the router has to finish before its shards may go. With a deadline
// that has passed it kills all.
func (l *launcher) drainNext() {
	if !l.stopping {
		return
	}
	for _, u := range l.units() {
		if u.Gone() {
			continue
		}
		now := time.Now()
		l.apply(u, u.Drain(now, l.deadline))
		if !u.Gone() && l.deadline.After(now) {
			return
		}
	}
}

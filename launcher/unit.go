package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/launcher/demo"
	"lockstep/launcher/supervise"
	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/router"
	"lockstep/router/api/answer"
	"lockstep/router/api/openai"
	"lockstep/shard"
	"lockstep/shard/collective"
	"lockstep/shard/sim"
)

// unit is a supervised part of the node: the shard group or the router.
type unit struct {
	*supervise.Unit
	name        string // "shards" or "router"
	size        int
	incarnation uint64
	began       time.Time // of this incarnation
	processes   []*process
	memory      *os.File   // of this incarnation, with its beats
	weights     []*os.File // packed ones of each rank, kept from one incarnation to the next
	keeps       bool       // an incarnation has served since they were made
	phases      []string   // of the start, by rank
	progress    []float64
	shown       time.Time     // when the log told of progress last
	text        string        // what the unit says of itself when ready
	served      bool          // an incarnation was ready
	cacheTokens int           // the KV cache of the first that was
	loadTime    time.Duration // from the start of the last incarnation that was ready until then
	loaded      bool          // this incarnation has become ready
	moved       time.Time     // when it last told of progress
	warned      int           // how often was told that it does not become ready
	pulse       *supervise.Pulse
	beats       []uint32
	lost        protocol.Down // the incarnation that last served and is gone; shards only
	told        time.Time     // when routers were last told of it
}

// ref names the group's present incarnation; the unit is the node's shards.
func (u *unit) ref(node string) protocol.GroupRef {
	return protocol.GroupRef{Group: node, Incarnation: u.incarnation}
}

// routerStall is how long a router must stand still at the least to be given up: with it go its clients' connections.
const routerStall = 10 * time.Second

func newUnit(name string, size int, leastStall time.Duration) *unit {
	return &unit{Unit: supervise.NewUnit(size), name: name, size: size, phases: make([]string, size), progress: make([]float64, size),
		pulse: supervise.NewPulse(size, leastStall), beats: make([]uint32, size)}
}

func (l *launcher) newShards() *unit { return newUnit("shards", l.NumShard, 0) }
func (l *launcher) newRouter() *unit { return newUnit("router", 1, routerStall) }

// nameOf names a process for people.
func (u *unit) nameOf(rank int) string {
	if u.name == "router" {
		return "router"
	}
	return fmt.Sprintf("shard %d", rank)
}

func (u *unit) signal(signal os.Signal) {
	for _, p := range u.processes {
		p.signal(signal)
	}
}

// terminate asks the leader only: the other ranks end with it.
func (u *unit) terminate() {
	if len(u.processes) > 0 {
		u.processes[0].signal(drainSignal)
	}
}

// release frees what the present incarnation holds.
func (u *unit) release() {
	u.processes = nil
	if u.memory != nil {
		u.memory.Close()
		u.memory = nil
	}
}

// spawn starts all processes of a unit as a new incarnation.
func (l *launcher) spawn(u *unit) {
	u.release()
	u.began = time.Now()
	u.moved, u.loaded, u.warned = u.began, false, 0
	u.incarnation = uint64(u.began.UnixNano())
	u.shown = u.began
	clear(u.phases)
	clear(u.progress)
	u.pulse.Restart()
	var err error
	if u == l.router {
		err = l.spawnRouter(u)
	} else {
		err = l.spawnShards(u)
	}
	if err != nil {
		l.apply(u, u.SpawnFailed(time.Now(), len(u.processes), err.Error()))
	}
}

func (l *launcher) spawnShards(u *unit) (err error) {
	if u.memory, err = collective.NewMemory("lockstep group"); err != nil {
		return err
	}
	computer := thisComputer()
	share := computer.shareOut(u.size, l.Threads)
	if shard.TraitsOf(l.Backend).Keeps {
		if err := u.keepWeights(); err != nil {
			return err
		}
	}
	stepModel, err := sim.ParseStepModel(l.StepModel)
	if err != nil {
		return err
	}
	config := shard.Config{
		Group: u.ref(l.NodeName), Node: l.NodeName, Shards: u.size, NATSURLs: l.natsURLs, NATSIdentity: l.identity(protocol.RoleGroup),
		ModelPath: l.ModelID, ModelID: l.ModelID, Threads: share.threads, Crowded: share.crowded, Backend: l.Backend,
		Sim:     sim.Config{StepModel: stepModel},
		Kernels: l.Kernels, Devices: l.devices(), CUDALibrary: l.CUDALibrary, Numerics: l.Numerics, Graphs: l.graphs,
		Quantize: l.Quantize, KVCache: l.kvCache(),
		Limits: l.groupLimits(), StepLog: l.StepLog, Restarted: u.served, PriorCacheTokens: u.cacheTokens,
		Speculate: l.Speculate, DisablePrefixCache: l.DisablePrefixCache, ChatTemplate: l.ChatTemplate, Adapters: l.adapters,
		NoModelDefaults: l.GenerationConfig != "auto",
	}
	if l.ModelID == "" || l.ModelID == demo.ModelID {
		config.ModelPath, config.ModelID = "", demo.ModelID
	}
	l.log.Debug().Stringer("group", config.Group).Int("threads", share.threads).Bool("pinned", share.cpus != nil).Msg("starting shards")
	for rank := range u.size {
		config.Rank = rank
		if share.cpus != nil {
			config.CPUs = share.cpus[rank]
		}
		arguments := []string{"shard", "--group", l.NodeName, "--rank", strconv.Itoa(rank)}
		log := l.log.With().Str("group", l.NodeName).Int("rank", rank).Logger()
		child := childConfig{LogLevel: l.LogLevel, Shard: &config}
		p, err := l.spawner.start(event{unit: u, incarnation: u.incarnation, rank: rank}, arguments, child, u.memory, u.weightsOf(rank),
			log, l.events)
		if err != nil {
			return err
		}
		u.processes = append(u.processes, p)
	}
	l.updateMembership(u.incarnation)
	return nil
}

// keepWeights has memory ready for the packed weights of all ranks: that of the last incarnation, if it has served with it. One that
// did not come up may have died of what is in there.
func (u *unit) keepWeights() error {
	if !u.keeps {
		u.dropWeights()
	}
	u.keeps = false
	for rank := len(u.weights); rank < u.size; rank++ {
		file, err := collective.NewMemory(fmt.Sprintf("lockstep weights %d", rank))
		if err != nil {
			return err
		}
		u.weights = append(u.weights, file)
	}
	return nil
}

// weightsOf is a rank's memory for packed weights; nil: there is none.
func (u *unit) weightsOf(rank int) *os.File {
	if rank >= len(u.weights) {
		return nil
	}
	return u.weights[rank]
}

func (u *unit) dropWeights() {
	for _, file := range u.weights {
		file.Close()
	}
	u.weights = nil
}

func (l *launcher) spawnRouter(u *unit) (err error) {
	if u.memory, err = collective.NewMemory("lockstep router"); err != nil {
		return err
	}
	config := l.routerConfig()
	log := l.log.With().Str("part", "router").Logger()
	child := childConfig{LogLevel: l.LogLevel, Router: &config}
	p, err := l.spawner.start(event{unit: u, incarnation: u.incarnation}, []string{"router"}, child, u.memory, nil, log, l.events)
	if err != nil {
		return err
	}
	u.processes = append(u.processes, p)
	return nil
}

// endTime is how many seconds before its end a router cuts off who is not done, so that all are told.
const endTime = 2

// routerConfig is the whole configuration of the router.
func (l *launcher) routerConfig() router.Config {
	modelID := l.ModelID
	if modelID == "" && l.role == "serve" {
		modelID = demo.ModelID
	}
	return router.Config{
		Name: l.NodeName, Node: l.NodeName, NATSURLs: l.natsURLs, NATSIdentity: l.identity(protocol.RoleRouter), Build: version,
		Hostname: l.Hostname, Port: l.Port, ModelID: modelID, Limits: l.limits(),
		MaxInputLength: l.MaxInputLength, MaxTotalTokens: l.MaxTotalTokens, MaxBatchTotalTokens: l.MaxBatchTotalTokens,
		MaxWaitingTokens: l.MaxWaitingTokens, WaitingServedRatio: float32(l.WaitingServedRatio), CORSAllowOrigin: l.CORSAllowOrigin,
		GroupWaitTimeout:           router.DefaultConfig(l.TGIVersion).GroupWaitTimeout,
		GracefulTerminationTimeout: max(float64(l.Graceful)-endTime, float64(l.Graceful)/2),
		TLS:                        l.guard.TLS, Listeners: l.guard.Listeners, APIKeys: l.guard.APIKeys, MaxConnections: l.MaxConnections,
		Dialect: l.Dialect, DefaultDialect: l.DefaultDialect, TGIVersion: l.TGIVersion, LightLLMErrors: l.LightLLMErrors,
		ToolCallParser: l.ToolCallParser, ReasoningParser: l.ReasoningParser,
		Guides: answer.Guides{Disabled: l.DisableGrammarSupport, WhiteSpace: guide.WhiteSpace(l.GuideWhiteSpace),
			Open: l.GuideOpenObjects},
		Admission: l.Admission, Overload: l.Overload, MaxQueueSize: l.MaxQueueSize, QueueTimeout: l.QueueTimeout,
	}
}

// abort frees the ranks that wait for a dead one and tells routers that this incarnation is gone.
func (l *launcher) abort(u *unit, reason string) {
	if u.HasServed() && l.failure == nil {
		l.log.Error().Str("unit", u.name).Dur("lived_ms", time.Since(u.began)).Msg(reason)
	}
	if u != l.shards || u.memory == nil {
		return
	}
	if err := collective.Abort(u.memory); err != nil {
		l.log.Error().Err(err).Msg("cannot set the abort word")
	}
	if u.loaded {
		u.loaded, u.lost = false, protocol.Down{GroupRef: u.ref(l.NodeName), Reason: reason}
	}
	if u.HasServed() {
		l.tellLoss(u)
	}
}

// tellLoss tells routers that the incarnation which last served is gone, and when about the next will be there.
func (l *launcher) tellLoss(u *unit) {
	u.lost.BackSeconds, u.told = 0, time.Now()
	if u.ComesBack() || u.ComesUpAgain() {
		u.lost.BackSeconds = max(u.loadTime, time.Since(u.began)).Seconds()
	}
	l.publishDown(u.lost)
}

// publishDown tells routers that an incarnation is gone.
func (l *launcher) publishDown(down protocol.Down) {
	if data, err := json.Marshal(down); err == nil && l.connection != nil {
		if err := l.connection.Publish(protocol.DownSubject(down.Group), data); err != nil {
			l.log.Debug().Err(err).Msg("cannot publish the end of the group")
		}
	}
}

// serving is called whenever all processes of a unit have become ready.
func (l *launcher) serving(u *unit) {
	u.served, u.loaded, u.loadTime, u.keeps = true, true, time.Since(u.began), true
	u.pulse.Serving()
	if u == l.shards {
		l.console.Progress("")
	}
	l.log.Info().Str("unit", u.name).Dur("after_ms", u.loadTime).Msg("ready: " + u.text)
	if l.stopping {
		return
	}
	loads := func(u *unit) bool { return !u.loaded }
	if !l.announced && !slices.ContainsFunc(l.units(), loads) {
		l.announced = true
		l.console.Progress("")
		l.announce()
	}
}

// announce prints what a newcomer needs: one line with the URL and one that can be pasted.
func (l *launcher) announce() {
	if l.router == nil {
		fmt.Fprintf(l.announcements, "node %s is ready\n", l.NodeName)
		return
	}
	url := l.router.text
	if url == "" {
		url = "http://" + net.JoinHostPort(l.Hostname, strconv.Itoa(l.Port))
	}
	what := "what its nodes have"
	if l.shards != nil {
		what = fmt.Sprintf("%s on %s", l.modelName(), shard.Count(l.shards.size))
		if !shard.TraitsOf(l.Backend).Weights {
			what = "made-up answers in place of " + what
		}
	}
	path, body := "/generate_stream", `{"inputs":"Once upon a time","parameters":{"max_new_tokens":100}}`
	if l.Dialect == openai.Name {
		path, body = "/v1/completions", `{"prompt":"Once upon a time","max_tokens":100,"stream":true}`
	}
	fmt.Fprintf(l.announcements, "Lockstep serves %s at %s\n", what, url)
	fmt.Fprintf(l.announcements, "curl -N %s%s -H 'Content-Type: application/json' -d '%s'\n", url, path, body)
	fmt.Fprintf(l.announcements, "all routes: %s/docs/\n", url)
}

func (l *launcher) modelName() string {
	if l.ModelID == "" || l.ModelID == demo.ModelID {
		return "the demo model"
	}
	return l.ModelID
}

// logInterval lies between two lines of the log on how far the first start is, where there is no terminal.
const logInterval = 10 * time.Second

// showProgress shows how far the first start is, until it is through.
func (l *launcher) showProgress() {
	if l.announced || l.shards == nil || l.stopping || l.shards.loaded {
		return
	}
	u, sum := l.shards, 0.0
	for _, progress := range u.progress {
		sum += progress
	}
	share := sum / float64(u.size)
	l.console.Progress(progressLine(filepath.Base(l.modelName()), u.phase(), share))
	if now := time.Now(); !l.console.terminal && !u.served && now.Sub(u.shown) >= logInterval {
		u.shown = now
		line := l.log.Info().Str("phase", u.phase()).Dur("after_ms", now.Sub(u.began))
		if u.phase() == shard.PhasePacking {
			line = line.Int("percent", int(100*share))
		}
		line.Msg("loading")
	}
}

// phase is what the start of all ranks is at: the leader waits for those that still load.
func (u *unit) phase() string {
	for _, phase := range []string{shard.PhaseReading, shard.PhasePacking} {
		if slices.Contains(u.phases, phase) {
			return phase
		}
	}
	return u.phases[0]
}

// progressLine fits into a line of a terminal, 80 columns.
func progressLine(name, phase string, share float64) string {
	const longest, width = 20, 20
	if runes := []rune(name); len(runes) > longest {
		name = string(runes[:longest-1]) + "…"
	}
	line := name + ": " + phase
	if phase != shard.PhasePacking {
		return line
	}
	filled := min(max(int(width*share), 0), width)
	return fmt.Sprintf("%s [%s%s] %3.0f%%", line, strings.Repeat("#", filled), strings.Repeat("-", width-filled), 100*share)
}

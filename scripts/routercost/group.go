package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/shard"
	"lockstep/shard/sim"
)

// group is a shard group of one rank in this process, on the simulated backend.
type group struct {
	cancel context.CancelFunc
	ended  chan error
}

// startGroup starts a group whose every step takes so long; the log-probabilities of its tokens are stamps. It returns when the
// group serves.
func startGroup(url string, step time.Duration) (*group, error) {
	ctx, cancel := context.WithCancel(context.Background())
	g := &group{cancel: cancel, ended: make(chan error, 1)}
	config := shard.Config{
		Group: protocol.GroupRef{Group: "simulated", Incarnation: uint64(time.Now().UnixNano())}, Node: "simulated", Shards: 1, Threads: 1,
		NATSURLs: []string{url}, ModelID: "simulated", Backend: "sim",
		Sim:    sim.Config{StepModel: sim.StepModel{Name: step.String(), Base: step.Seconds()}, Stamps: true},
		Limits: shard.DefaultLimits(), Restarted: true,
	}
	config.MaxSequences, config.MaxRequests, config.PrefillTokens, config.CacheTokens = 4096, 8192, 1<<16, 1<<23
	ready := make(chan struct{})
	go func() {
		g.ended <- shard.Run(ctx, config, nil, nil, os.DirFS("launcher/demo/model"), func(s shard.Status) {
			if s.Ready {
				close(ready)
			}
		}, zerolog.Nop())
	}()
	select {
	case <-ready:
		return g, nil
	case err := <-g.ended:
		cancel()
		return nil, fmt.Errorf("the group does not start: %w", err)
	}
}

func (g *group) stop() {
	g.cancel()
	<-g.ended
}

// Package router is the life of a request: an HTTP server in the dialects of the servers that it replaces, a queue with a
// ledger of token load, and the shard groups behind NATS. It needs no model files and keeps nothing: its groups serve
// the model card, and a router that restarts is a new router.
package router

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/bus"
	"lockstep/protocol/repeat"
	"lockstep/router/admission"
	"lockstep/router/api"
	"lockstep/router/api/metrics"
	"lockstep/router/api/tgi"
	"lockstep/router/fleet"
	"lockstep/router/fleet/core"
)

const (
	// cutGrace is how long clients that are cut off have to take their error.
	cutGrace = time.Second
	// admissionSeed of the past-future policy: any will do, and one that is fixed makes decisions repeatable.
	admissionSeed = 1
)

// Signs are how a router shows itself to who runs it; each may be nil.
type Signs struct {
	// Ready is called with the base URL when the first group can be used.
	Ready func(url string)
	// Beat is called many times a second while the router moves.
	Beat func()
}

// Run serves until ctx ends, then drains: it stops accepting and waits for the requests in flight, at most
// GracefulTerminationTimeout; who is not done by then gets an error, and so does the caller. It listens at once, so a bad
// address fails at once.
func Run(ctx context.Context, config Config, log zerolog.Logger, signs Signs) error {
	if err := config.Validate(); err != nil {
		return err
	}
	doors, err := openDoors(&config)
	defer doors.close()
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	wireName := protocol.RouterName(config.Name, session())
	log = log.With().Str("router", wireName).Str("node", config.Node).Logger()
	refused := make(chan error, 1)
	var said repeat.Filter
	conn, err := bus.Connect(bus.Config{Name: "router " + wireName, URLs: config.NATSURLs, Identity: config.NATSIdentity, Node: config.Node,
		Refused: refused, Complain: func(what string, err error) {
			if held, say := said.Due(fmt.Sprint(what, err), time.Now()); say {
				log.Warn().Err(err).Int("held_back", held).Msg(what)
			}
		}})
	if err != nil {
		return fmt.Errorf("router: connecting to NATS: %w", err)
	}
	defer conn.Close()

	measured := metrics.New(metrics.Config{
		MaxInputLength: orElse(config.MaxInputLength, 1024), MaxTotalTokens: orElse(config.MaxTotalTokens, 2048),
		TGI3: config.TGIVersion == tgi.Form3, Build: config.Build,
	})
	backend := newBackend(&config)
	backend.fleet, err = fleet.New(conn, fleet.Config{
		Config: core.Config{
			Admission: admission.Config{QueueLimit: config.queueLimit(), Policy: admission.Policy(config.Admission),
				Seed: admissionSeed},
			QueueTimeout: seconds(config.QueueTimeout), ResumeTimeout: seconds(config.GroupWaitTimeout), ModelID: config.ModelID,
			Knows: backend.knows,
		},
		Router: wireName, OnCard: backend.onCard, OnSnapshot: backend.onSnapshot,
		OnDispatch: measured.Dispatched, OnStep: measured.Step, OnTick: signs.Beat,
	}, log)
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	doors.furnish(api.New(config.api(), backend, measured, log), log)
	return serve(ctx, &config, doors, backend, refused, log, signs.Ready)
}

// serve runs fleet and server until ctx ends or one of them fails, and stops both.
func serve(ctx context.Context, config *Config, doors doors, backend *backend, refused <-chan error, log zerolog.Logger,
	onReady func(string)) error {
	fleetCtx, stopFleet := context.WithCancel(context.Background())
	defer stopFleet()
	fleetDone, serverDone := make(chan error, 1), make(chan error, 1)
	go func() { fleetDone <- backend.fleet.Run(fleetCtx) }()
	go func() { serverDone <- doors.serve(log) }()
	known := backend.known
	for {
		select {
		case <-known:
			known = nil
			url := doors[0].url()
			log.Info().Str("url", url).Msg("Connected")
			if onReady != nil {
				onReady(url)
			}
			continue
		case err := <-refused:
			doors.cut()
			<-serverDone
			stopFleet()
			<-fleetDone
			return err
		case err := <-fleetDone:
			doors.cut()
			<-serverDone
			return fmt.Errorf("router: %w", errors.Join(errors.New("the fleet has ended"), err))
		case err := <-serverDone:
			stopFleet()
			<-fleetDone
			return fmt.Errorf("router: serving: %w", err)
		case <-ctx.Done():
		}
		break
	}
	log.Info().Msg("draining")
	drain, cancel := context.WithTimeout(context.Background(), seconds(config.GracefulTerminationTimeout))
	defer cancel()
	err := doors.shut(drain)
	stopFleet() // which ends what still runs with an error for its client
	if err != nil {
		log.Warn().Err(err).Msg("requests are cut off")
		grace, cancel := context.WithTimeout(context.Background(), cutGrace)
		defer cancel()
		_ = doors.shut(grace)
		doors.cut()
	}
	<-serverDone
	<-fleetDone
	return err
}

// session makes a name that no earlier process has had: groups count their frames to each.
func session() string {
	var random [6]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func orElse(value, otherwise int) int {
	if value > 0 {
		return value
	}
	return otherwise
}

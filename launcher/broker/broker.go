// Package broker embeds a NATS server in the launcher and meshes it with those of other nodes. Clients reach it at one
// address of the node with a password that only this node's processes know, unless the operator names one.
package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"lockstep/protocol"
)

const (
	// readyTimeout bounds the wait for the listeners; a server that is not up by then has no port.
	readyTimeout = 10 * time.Second
	// maxRoutes bounds the peers that are solicited; more are left out with a warning, NATS' own gossip finds them.
	maxRoutes = 256
	// clusterName must be equal on all nodes of a mesh.
	clusterName = "lockstep"
	userName    = "lockstep"
)

// Config of an embedded server.
type Config struct {
	// Name of the server, unique in its mesh.
	Name string
	// Host is the address on which clients and, in a mesh, other servers connect.
	Host string
	// Port for clients; 0 takes a free one.
	Port int
	// Mesh opens a second port for the servers of other nodes.
	Mesh bool
	// Key is the password of clients and routes; empty makes a random one for clients and leaves routes open.
	Key string
}

// Broker is a running server. Its methods may be called from any goroutine.
type Broker struct {
	server   *server.Server
	config   Config
	password string
	log      zerolog.Logger

	mutex  sync.Mutex // orders reloads
	routes []string
}

// Open starts the server and returns when it accepts connections. A port in use is an error at once.
func Open(config Config, log zerolog.Logger) (*Broker, error) {
	if config.Port != 0 {
		probe, err := net.Listen("tcp", net.JoinHostPort(config.Host, strconv.Itoa(config.Port)))
		if err != nil {
			return nil, fmt.Errorf("NATS port: %w", err)
		}
		probe.Close()
	}
	b := &Broker{config: config, password: config.Key, log: log}
	if b.password == "" {
		b.password = rand.Text()
	}
	options, err := b.options(nil)
	if err != nil {
		return nil, err
	}
	if b.server, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	b.server.SetLogger(natsLog{log, b.password}, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(readyTimeout) {
		b.server.Shutdown()
		return nil, errors.New("NATS: the embedded server does not accept connections")
	}
	return b, nil
}

// options describes the server with the given routes. A port of -1 keeps, in a reload, the port that was taken.
func (b *Broker) options(routes []string) (*server.Options, error) {
	options := &server.Options{
		ServerName: b.config.Name, Host: b.config.Host, Port: b.config.Port,
		MaxPayload: protocol.MaxPayloadBytes, MaxPending: 8 * protocol.MaxPayloadBytes,
		// A reload takes clients with a user's name for changed and disconnects them all; with a token it leaves them alone.
		Authorization: b.password, NoSystemAccount: true,
		NoSigs:       true,
		PingInterval: 2 * time.Second, MaxPingsOut: 2,
	}
	if options.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	if !b.config.Mesh {
		return options, nil
	}
	options.Cluster = server.ClusterOpts{Name: clusterName, Host: b.config.Host, Port: server.RANDOM_PORT}
	if b.config.Key != "" {
		options.Cluster.Username, options.Cluster.Password = userName, b.config.Key
	}
	for _, route := range routes {
		address, err := url.Parse("nats://" + route)
		if err != nil {
			return nil, fmt.Errorf("NATS route %q: %w", route, err)
		}
		if b.config.Key != "" {
			address.User = url.UserPassword(userName, b.config.Key)
		}
		options.Routes = append(options.Routes, address)
	}
	return options, nil
}

// URL is where this node's clients connect, password included.
func (b *Broker) URL() string {
	address := b.server.Addr().(*net.TCPAddr)
	host := address.IP.String()
	if address.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return fmt.Sprintf("nats://%s@%s", url.User(b.password), net.JoinHostPort(host, strconv.Itoa(address.Port)))
}

// RoutePort is where other servers connect; 0 without a mesh.
func (b *Broker) RoutePort() int {
	if address := b.server.ClusterAddr(); address != nil {
		return address.Port
	}
	return 0
}

// Routes is the number of connected routes.
func (b *Broker) Routes() int { return b.server.NumRoutes() }

// Mesh solicits exactly these servers (HOST:PORT) and gives up those that are not named any more. The server retries
// each for ever.
func (b *Broker) Mesh(routes []string) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	slices.Sort(routes)
	routes = slices.Compact(routes)
	if len(routes) > maxRoutes {
		b.log.Warn().Int("members", len(routes)).Int("limit", maxRoutes).Msg("too many members for direct NATS routes")
		routes = routes[:maxRoutes]
	}
	if slices.Equal(routes, b.routes) {
		return nil
	}
	options, err := b.options(routes)
	if err != nil {
		return err
	}
	if err := b.server.ReloadOptions(options); err != nil {
		return fmt.Errorf("NATS routes: %w", err)
	}
	b.routes = slices.Clone(routes)
	return nil
}

// Close stops the server and returns when it is gone.
func (b *Broker) Close() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// natsLog passes the server's log on, one level lower (what it notices is detail here) and without the password, which
// the server prints with the routes.
type natsLog struct {
	log      zerolog.Logger
	password string
}

var _ server.Logger = natsLog{}

func (n natsLog) at(level zerolog.Level, format string, v []any) {
	if n.log.GetLevel() > level {
		return
	}
	message := strings.ReplaceAll(fmt.Sprintf(format, v...), url.QueryEscape(n.password), "***")
	n.log.WithLevel(level).Str("part", "nats").Msg(strings.ReplaceAll(message, n.password, "***"))
}

func (n natsLog) Noticef(format string, v ...any) { n.at(zerolog.DebugLevel, format, v) }
func (n natsLog) Warnf(format string, v ...any)   { n.at(zerolog.DebugLevel, format, v) }
func (n natsLog) Errorf(format string, v ...any)  { n.at(zerolog.WarnLevel, format, v) }
func (n natsLog) Fatalf(format string, v ...any)  { n.at(zerolog.ErrorLevel, format, v) }
func (n natsLog) Debugf(format string, v ...any)  { n.at(zerolog.TraceLevel, format, v) }
func (n natsLog) Tracef(format string, v ...any)  { n.at(zerolog.TraceLevel, format, v) }

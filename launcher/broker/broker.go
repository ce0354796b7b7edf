// Package broker embeds a NATS server in the launcher and meshes it with those of other nodes. Clients reach it at one
// address of the node with a password that only this node's processes know, unless the operator names one.
package broker

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
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
	// routeTimeout bounds the handshake of a route, in seconds.
	routeTimeout = 5
	// clusterName and accountName must be equal on all nodes of a mesh.
	clusterName = "lockstep"
	accountName = "LOCKSTEP"
)

// Config of an embedded server.
type Config struct {
	// Name of the node, unique in its mesh.
	Name string
	// Host is the address on which clients and, in a mesh, other servers connect.
	Host string
	// Port for clients; 0 takes a free one.
	Port int
	// Mesh opens a second port for the servers of other nodes.
	Mesh bool
	// Key is the cluster's: what clients and routes must prove follows from it. Empty makes a random one for clients and
	// leaves routes open to everybody who reaches them.
	Key string
}

// Broker is a running server. Its methods may be called from any goroutine.
type Broker struct {
	server   *server.Server
	config   Config
	key      string // of clients
	routeTLS *tls.Config
	accounts []*server.Account
	users    []*server.NkeyUser
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
	b := &Broker{config: config, key: config.Key, log: log}
	if b.key == "" {
		b.key = rand.Text()
	} else if config.Mesh {
		var err error
		if b.routeTLS, err = routeTLS(b.key); err != nil {
			return nil, fmt.Errorf("certificate of NATS routes: %w", err)
		}
	}
	b.accounts, b.users = users(b.key, config.Name)
	options, err := b.options(nil)
	if err != nil {
		return nil, err
	}
	if b.server, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	b.server.SetLogger(newNATSLog(log), false, false)
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
		// In an account of their own: a reload takes users of the global one for changed and disconnects them all.
		Accounts: b.accounts, Nkeys: b.users, NoSystemAccount: true,
		NoSigs:       true,
		PingInterval: 2 * time.Second, MaxPingsOut: 2,
	}
	if options.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	if !b.config.Mesh {
		return options, nil
	}
	options.Cluster = server.ClusterOpts{Name: clusterName, Host: b.config.Host, Port: server.RANDOM_PORT, ConnectBackoff: true,
		TLSConfig: b.routeTLS, TLSTimeout: routeTimeout}
	for _, route := range routes {
		address, err := url.Parse("nats://" + route)
		if err != nil {
			return nil, fmt.Errorf("NATS route %q: %w", route, err)
		}
		options.Routes = append(options.Routes, address)
	}
	return options, nil
}

// URL is where this node's clients connect.
func (b *Broker) URL() string {
	address := b.server.Addr().(*net.TCPAddr)
	host := address.IP.String()
	if address.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(address.Port))
}

// Identity is what a role on this node proves to be.
func (b *Broker) Identity(role protocol.Role) protocol.Identity {
	if role == protocol.RoleWatcher {
		return Watcher(b.key)
	}
	return Identity(b.key, role, b.config.Name)
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

package broker

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"lockstep/protocol"
)

// Whoever has the cluster key can be anybody in the cluster: all that is proved to NATS follows from it. A process gets
// the one identity that it needs, from which neither the key nor another identity follows.

// derive makes a secret of 32 bytes from the cluster key (HKDF with SHA-256, RFC 5869).
func derive(key, purpose string) []byte {
	secret, err := hkdf.Key(sha256.New, []byte(key), nil, "lockstep "+purpose, ed25519.SeedSize)
	if err != nil {
		panic(err) // only lengths can be wrong
	}
	return secret
}

// Identity is that of a role on a node.
func Identity(key string, role protocol.Role, node string) protocol.Identity {
	seed := derive(key, fmt.Sprintf("nkey %s %s", role, node))
	return protocol.Identity{NKey: mustNKey(seed).public, Seed: seed}
}

// nkey is a key pair in NATS' words.
type nkey struct{ public, seed string }

func mustNKey(seed []byte) nkey {
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, seed)
	if err != nil {
		panic(err) // only lengths can be wrong
	}
	public, err := pair.PublicKey()
	if err != nil {
		panic(err)
	}
	text, err := pair.Seed()
	if err != nil {
		panic(err)
	}
	return nkey{public, string(text)}
}

// SeedText is the secret of an identity as `nats --nkey FILE` reads it.
func SeedText(identity protocol.Identity) string { return mustNKey(identity.Seed).seed }

// users are what this node's processes may be, in an account that all nodes of a mesh have.
func users(key, node string) ([]*server.Account, []*server.NkeyUser) {
	account := server.NewAccount(accountName)
	var all []*server.NkeyUser
	user := func(identity protocol.Identity, granted protocol.Permissions) {
		permissions := &server.Permissions{Publish: subjects(granted.Publish), Subscribe: subjects(granted.Subscribe)}
		all = append(all, &server.NkeyUser{Nkey: identity.NKey, Account: account, Permissions: permissions})
	}
	for _, role := range roles {
		user(Identity(key, role, node), protocol.PermissionsOf(role, node))
	}
	user(Watcher(key), protocol.PermissionsOf(protocol.RoleWatcher, ""))
	return []*server.Account{account}, all
}

// subjects allows these and no others, which an empty list would not say.
func subjects(allowed []string) *server.SubjectPermission {
	if len(allowed) == 0 {
		return &server.SubjectPermission{Deny: []string{">"}}
	}
	return &server.SubjectPermission{Allow: allowed}
}

// routeName is what the servers of a mesh call each other in certificates.
const routeName = "lockstep"

// routeTLS encrypts routes and lets in those that have the key: each server signs a certificate for itself with the
// authority that follows from it. The certificates hold for as long as the key does.
func routeTLS(key string) (*tls.Config, error) {
	authority := ed25519.NewKeyFromSeed(derive(key, "authority of routes"))
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	from, to := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lockstep cluster key"}, NotBefore: from,
		NotAfter: to,
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, issuer, issuer, authority.Public(), authority)
	if err != nil {
		return nil, err
	}
	if issuer, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: routeName}, DNSNames: []string{routeName},
		NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, issuer, own.Public(), authority); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(issuer)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, ServerName: routeName, MinVersion: tls.VersionTLS13}, nil
}

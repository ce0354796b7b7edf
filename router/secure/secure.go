// Package secure keeps the files of a TLS server: certificates, keys that may be encrypted, the authorities of clients and
// their revocations. They are read again when they change; what cannot be read leaves the old ones in force.
package secure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/youmark/pkcs8"

	"lockstep/protocol/regular"
)

// maxFileBytes bounds certificates, keys, passwords and revocation lists, which are read whole.
const maxFileBytes = 16 << 20

// Files of a TLS server, all in PEM.
type Files struct {
	// Folder, when not empty, has the files instead, by the names that `lockstep certs` gives them; those that are not there
	// are left out. It is looked through again with each change.
	Folder string `json:"folder,omitempty"`
	// Certificate holds the server's chain, Key its private key. If the key is encrypted (PKCS#8), KeyPassword is a file with
	// the password.
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	KeyPassword string `json:"key_password,omitempty"`
	// ClientCAs, when not empty, are the authorities of which every client must show a certificate.
	ClientCAs []string `json:"client_cas,omitempty"`
	// Revoked are certificate revocation lists of these authorities.
	Revoked []string `json:"revoked,omitempty"`
	// TLS13 refuses older versions; else TLS 1.2 is the oldest.
	TLS13 bool `json:"tls13,omitempty"`
}

// InFolder are the files of a folder.
func InFolder(folder string) Files { return Files{Folder: folder, TLS13: true} }

// named finds the files of a folder. One that cannot be looked at, such as a link to nothing, is an error and not absent:
// without it the server might guard less.
func (f Files) named() (Files, error) {
	if f.Folder == "" {
		return f, nil
	}
	in := func(name string) string { return filepath.Join(f.Folder, name) }
	found := Files{Folder: f.Folder, TLS13: f.TLS13, Certificate: in("server.pem"), Key: in("server.key.pem")}
	for name, use := range map[string]func(path string){
		"key_pwd.txt":    func(path string) { found.KeyPassword = path },
		"ca.pem":         func(path string) { found.ClientCAs = []string{path} },
		"server_crl.pem": func(path string) { found.Revoked = []string{path} },
	} {
		switch _, err := os.Lstat(in(name)); {
		case err == nil:
			use(in(name))
		case !errors.Is(err, os.ErrNotExist):
			return found, err
		}
	}
	return found, nil
}

// all are the paths that are in use.
func (f *Files) all() []string {
	paths := append([]string{f.Certificate, f.Key}, append(append([]string(nil), f.ClientCAs...), f.Revoked...)...)
	if f.KeyPassword != "" {
		paths = append(paths, f.KeyPassword)
	}
	return paths
}

// Server is what a TLS listener takes its configuration from.
type Server struct {
	files   Files
	used    Files // those that were read last; the goroutine of Watch owns it once it runs
	current atomic.Pointer[tls.Config]
}

// Open reads the files.
func Open(files Files) (*Server, error) {
	s := &Server{files: files}
	return s, s.reload()
}

// Config returns a configuration that always follows the files that were read last.
func (s *Server) Config() *tls.Config {
	return &tls.Config{MinVersion: s.current.Load().MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current.Load(), nil }}
}

// AsksClients reports whether clients must show a certificate.
func (s *Server) AsksClients() bool {
	return s.current.Load().ClientAuth == tls.RequireAndVerifyClientCert
}

// reload reads the files. What guarded the server does not go away with its files.
func (s *Server) reload() error {
	files, err := s.files.named()
	switch {
	case err != nil:
		return err
	case len(s.used.ClientCAs) > 0 && len(files.ClientCAs) == 0:
		return fmt.Errorf("the authorities of the clients are gone: %s", strings.Join(s.used.ClientCAs, ", "))
	case len(s.used.Revoked) > 0 && len(files.Revoked) == 0:
		return fmt.Errorf("the revocation lists are gone: %s", strings.Join(s.used.Revoked, ", "))
	}
	config, err := files.read()
	if err != nil {
		return err
	}
	s.used = files
	s.current.Store(config)
	return nil
}

// read makes a configuration of the files.
func (f *Files) read() (*tls.Config, error) {
	certificate, err := f.keyPair()
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}}
	if f.TLS13 {
		config.MinVersion = tls.VersionTLS13
	}
	if len(f.ClientCAs) == 0 {
		if len(f.Revoked) > 0 {
			return nil, errors.New("revocation lists need the authorities of the clients")
		}
		return config, nil
	}
	authorities, err := readCertificates(f.ClientCAs)
	if err != nil {
		return nil, err
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	for _, authority := range authorities {
		config.ClientCAs.AddCert(authority)
	}
	revoked, err := readRevoked(f.Revoked, authorities)
	if err != nil {
		return nil, err
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		for _, chain := range state.VerifiedChains {
			for _, certificate := range chain {
				if revoked[revocation{string(certificate.RawIssuer), certificate.SerialNumber.String()}] {
					return fmt.Errorf("certificate %s was revoked", certificate.SerialNumber)
				}
			}
		}
		return nil
	}
	return config, nil
}

// keyPair reads certificate and key.
func (f *Files) keyPair() (tls.Certificate, error) {
	fail := func(err error) (tls.Certificate, error) { return tls.Certificate{}, err }
	chain, err := regular.Read(f.Certificate, maxFileBytes)
	if err != nil {
		return fail(err)
	}
	key, err := regular.Read(f.Key, maxFileBytes)
	if err != nil {
		return fail(err)
	}
	if block, _ := pem.Decode(key); block != nil && block.Type == "ENCRYPTED PRIVATE KEY" {
		if f.KeyPassword == "" {
			return fail(fmt.Errorf("%s is encrypted: name a file with its password", f.Key))
		}
		password, err := regular.Read(f.KeyPassword, maxFileBytes)
		if err != nil {
			return fail(err)
		}
		private, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(strings.TrimRight(string(password), "\r\n")))
		if err != nil {
			return fail(fmt.Errorf("decrypt %s: %w", f.Key, err))
		}
		plain, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return fail(err)
		}
		key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain})
	}
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fail(fmt.Errorf("%s and %s: %w", f.Certificate, f.Key, err))
	}
	return certificate, nil
}

// blocks reads all blocks of a type in a file; none is an error.
func blocks(path, kind string) (list [][]byte, err error) {
	data, err := regular.Read(path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type == kind {
			list = append(list, block.Bytes)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no %s in PEM", path, kind)
	}
	return list, nil
}

func readCertificates(paths []string) (list []*x509.Certificate, err error) {
	for _, path := range paths {
		ders, err := blocks(path, "CERTIFICATE")
		if err != nil {
			return nil, err
		}
		for _, der := range ders {
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			list = append(list, certificate)
		}
	}
	return list, nil
}

// revocation names a certificate by its issuer and serial number.
type revocation struct{ issuer, serial string }

// readRevoked reads revocation lists; each must be signed by one of the authorities.
func readRevoked(paths []string, authorities []*x509.Certificate) (map[revocation]bool, error) {
	revoked := map[revocation]bool{}
	for _, path := range paths {
		ders, err := blocks(path, "X509 CRL")
		if err != nil {
			return nil, err
		}
		for _, der := range ders {
			list, err := x509.ParseRevocationList(der)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			signed := false
			for _, authority := range authorities {
				signed = signed || list.CheckSignatureFrom(authority) == nil
			}
			if !signed {
				return nil, fmt.Errorf("%s is signed by none of the clients' authorities", path)
			}
			for _, entry := range list.RevokedCertificateEntries {
				revoked[revocation{string(list.RawIssuer), entry.SerialNumber.String()}] = true
			}
		}
	}
	return revoked, nil
}

// lookInterval lies between two looks at the files.
const lookInterval = 200 * time.Millisecond

// Watch reads the files again when they have changed and are left alone for a lookInterval, since they are written one after
// another, until ctx ends. It looks at them instead of being told: files are replaced, through links too, and on file systems
// that tell nothing.
func (s *Server) Watch(ctx context.Context, log zerolog.Logger) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	seen, changed := s.look(), true // also what changed before the watch began
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := s.look(); now != seen {
			seen, changed = now, true
			continue
		}
		if !changed {
			continue
		}
		changed = false
		if err := s.reload(); err != nil {
			log.Error().Err(err).Msg("the TLS files cannot be used; the old ones stay in force")
		} else {
			log.Info().Str("certificate", s.used.Certificate).Bool("client_certificates", s.AsksClients()).Int("revocation_lists",
				len(s.used.Revoked)).Msg("TLS files read")
		}
	}
}

// look tells one state of the files from another, without reading them.
func (s *Server) look() string {
	var state strings.Builder
	for _, path := range s.used.all() {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintln(&state, path, err)
			continue
		}
		inode := uint64(0)
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = stat.Ino
		}
		fmt.Fprintln(&state, path, info.Size(), info.ModTime().UnixNano(), inode)
	}
	return state.String()
}

package secure_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"lockstep/router/secure"
)

// served is an HTTPS server over a folder of certificates.
type served struct {
	folder string
	url    string
	server *secure.Server
}

func serve(t *testing.T, folder string) *served {
	t.Helper()
	s, err := secure.Open(secure.InFolder(folder))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ErrorLog: nil, Handler: http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		io.WriteString(w, "served")
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(tls.NewListener(listener, s.Config()))
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return &served{folder, "https://" + listener.Addr().String(), s}
}

// ask sends a request, with the client's certificate of a folder unless it is empty.
func (s *served) ask(t *testing.T, clientFolder string, oldest uint16) error {
	t.Helper()
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(s.folder, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(ca)
	config := &tls.Config{RootCAs: pool, MaxVersion: oldest}
	if clientFolder != "" {
		certificate, err := tls.LoadX509KeyPair(filepath.Join(clientFolder, "client.pem"), filepath.Join(clientFolder, "client.key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(s.url)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func folderOf(t *testing.T, password string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "certs")
	if err := secure.Make(folder, []string{"127.0.0.1", "localhost"}, time.Hour, password); err != nil {
		t.Fatal(err)
	}
	return folder
}

// read parses the first block of a file.
func read[T any](t *testing.T, path string, parse func([]byte) (T, error)) T {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	value, err := parse(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// Clients need a certificate of the authority, TLS 1.3 and not to be revoked; changed files are used at once, broken ones
// not at all.
func TestMutualTLS(t *testing.T) {
	folder, strangers := folderOf(t, "open sesame"), folderOf(t, "")
	crl := filepath.Join(folder, "server_crl.pem")
	if err := os.Remove(crl); err != nil { // one that comes later counts too
		t.Fatal(err)
	}
	s := serve(t, folder)
	if err := s.ask(t, folder, tls.VersionTLS13); err != nil {
		t.Fatalf("with its certificate: %v", err)
	}
	if s.ask(t, "", tls.VersionTLS13) == nil || s.ask(t, strangers, tls.VersionTLS13) == nil || s.ask(t, folder, tls.VersionTLS12) == nil {
		t.Error("a client without certificate, one of another authority or one with TLS 1.2 was served")
	}
	if err := secure.Make(folder, []string{"localhost"}, time.Hour, ""); err == nil {
		t.Error("files were replaced")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { s.server.Watch(ctx, zerolog.Nop()) })
	defer func() {
		cancel()
		watching.Wait()
	}()
	if err := os.WriteFile(crl, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.ask(t, folder, tls.VersionTLS13); err != nil {
		t.Errorf("a broken file stopped the server: %v", err)
	}
	authority := read(t, filepath.Join(folder, "ca.pem"), x509.ParseCertificate)
	client := read(t, filepath.Join(folder, "client.pem"), x509.ParseCertificate)
	key := read(t, filepath.Join(folder, "ca.key.pem"), x509.ParsePKCS8PrivateKey)
	list, err := x509.CreateRevocationList(rand.Reader,
		&x509.RevocationList{Number: big.NewInt(2), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: client.SerialNumber, RevocationTime: time.Now()}}},
		authority,
		key.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(crl, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}), 0o644); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); s.ask(t, folder, tls.VersionTLS13) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("a revoked client is still served")
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	folder := folderOf(t, "secret")
	in := func(name string) string { return filepath.Join(folder, name) }
	good := secure.Files{Certificate: in("server.pem"), Key: in("server.key.pem"), KeyPassword: in("key_pwd.txt"),
		ClientCAs: []string{in("ca.pem")},
		Revoked:   []string{in("server_crl.pem")}}
	for name, spoil := range map[string]func(f *secure.Files){
		"no certificate":            func(f *secure.Files) { f.Certificate = "/does/not/exist" },
		"no key":                    func(f *secure.Files) { f.Key = "/does/not/exist" },
		"no password":               func(f *secure.Files) { f.KeyPassword = "" },
		"wrong password":            func(f *secure.Files) { f.KeyPassword = f.Certificate },
		"key of another":            func(f *secure.Files) { f.Key = filepath.Join(folder, "client.key.pem") },
		"authority without PEM":     func(f *secure.Files) { f.ClientCAs = []string{f.KeyPassword} },
		"list of nobody":            func(f *secure.Files) { f.ClientCAs = nil },
		"list of another authority": func(f *secure.Files) { f.ClientCAs = []string{f.Certificate} },
	} {
		files := good
		spoil(&files)
		if _, err := secure.Open(files); err == nil {
			t.Errorf("%s was not refused", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
	if _, err := secure.Open(good); err != nil {
		t.Error(err)
	}
}

// What guards a server does not go away with its files: neither at the start, when a link to them leads nowhere, nor later.
func TestGuardsStay(t *testing.T) {
	folder := folderOf(t, "")
	authority := filepath.Join(folder, "ca.pem")
	kept, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, folder)
	log := &signal{told: make(chan string, 64)}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { s.server.Watch(ctx, zerolog.New(log)) })
	defer func() {
		cancel()
		watching.Wait()
	}()
	log.wait(t, "TLS files read")
	for _, name := range []string{"server_crl.pem", "ca.pem"} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
		log.wait(t, "the old ones stay in force")
	}
	if !s.server.AsksClients() {
		t.Error("clients need no certificate any more")
	}
	if err := os.Symlink("/does/not/exist", authority); err != nil {
		t.Fatal(err)
	}
	if _, err := secure.Open(secure.InFolder(folder)); err == nil {
		t.Error("a link to nothing counts as no authority")
	}
	if err := os.Remove(authority); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(authority, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if open, err := secure.Open(secure.InFolder(folder)); err != nil || !open.AsksClients() {
		t.Errorf("without a revocation list: %v", err)
	}
}

// signal takes a log's lines.
type signal struct{ told chan string }

func (s *signal) Write(line []byte) (int, error) {
	s.told <- string(line)
	return len(line), nil
}

func (s *signal) wait(t *testing.T, text string) {
	t.Helper()
	for timeout := time.After(20 * time.Second); ; {
		select {
		case line := <-s.told:
			if strings.Contains(line, text) {
				return
			}
		case <-timeout:
			t.Fatalf("nothing was said of %q", text)
		}
	}
}

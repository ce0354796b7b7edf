package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"lockstep/router"
	"lockstep/router/api"
	"lockstep/router/secure"
)

// certsFlags are those of lockstep certs.
type certsFlags struct {
	Folder   string   `arg:"" help:"Folder to write into; nothing in it is replaced."`
	Host     []string `default:"localhost,127.0.0.1" help:"Names and addresses of the server."`
	Days     int      `default:"365" help:"How long the certificates are valid."`
	Password string   `env:"LOCKSTEP_CERTS_PASSWORD" placeholder:"PASSWORD|@FILE" help:"Encrypts the server's key; key_pwd.txt gets the password."`
}

func (f *certsFlags) run(out io.Writer) error {
	if f.Days < 1 || len(f.Host) == 0 {
		return errors.New("certificates need a host and at least a day")
	}
	password, err := value("--password", f.Password)
	if err != nil {
		return err
	}
	if err := secure.Make(f.Folder, f.Host, time.Duration(f.Days)*24*time.Hour, password); err != nil {
		return err
	}
	fmt.Fprintf(out, "lockstep serve --listen mindie=127.0.0.1:1025,tls=%s\ncurl --cacert %[1]s/ca.pem --cert %[1]s/client.pem --key "+
		"%[1]s/client.key.pem https://127.0.0.1:1025/info\n", f.Folder)
	return nil
}

// tlsFiles are those of the main address, nil without.
func (f *routerFlags) tlsFiles() (*secure.Files, error) {
	if f.TLSCert == "" && f.TLSKey == "" {
		if f.TLSKeyPassword != "" || len(f.TLSClientCA)+len(f.TLSCRL) > 0 {
			return nil, errors.New("--tls-client-ca, --tls-crl and --tls-key-password-file need --tls-cert and --tls-key")
		}
		return nil, nil
	}
	if f.TLSCert == "" || f.TLSKey == "" {
		return nil, errors.New("--tls-cert and --tls-key belong together")
	}
	return &secure.Files{Certificate: f.TLSCert, Key: f.TLSKey, KeyPassword: f.TLSKeyPassword, ClientCAs: f.TLSClientCA, Revoked: f.TLSCRL},
		nil
}

// listeners reads --listen.
func (f *routerFlags) listeners() (list []router.Listener, err error) {
	for _, text := range f.Listen {
		dialect, rest, ok := strings.Cut(text, "=")
		parts := strings.Split(rest, ",")
		if !ok || parts[0] == "" {
			return nil, fmt.Errorf("--listen %q: want DIALECT=HOST:PORT[,tls=FOLDER]", text)
		}
		l := router.Listener{Dialect: dialect, Address: parts[0]}
		if _, port, err := net.SplitHostPort(l.Address); err != nil || port == "" {
			return nil, fmt.Errorf("--listen %q: %q is not HOST:PORT", text, l.Address)
		}
		if !slices.Contains(api.Dialects, dialect) {
			return nil, fmt.Errorf("--listen %q: want one of the dialects %s", text, strings.Join(api.Dialects, ", "))
		}
		for _, part := range parts[1:] {
			folder, ok := strings.CutPrefix(part, "tls=")
			if !ok || folder == "" {
				return nil, fmt.Errorf("--listen %q: %q is not tls=FOLDER", text, part)
			}
			files := secure.InFolder(folder)
			l.TLS = &files
		}
		list = append(list, l)
	}
	return list, nil
}

// keys reads --api-key.
func (f *routerFlags) keys() (keys []string, err error) {
	for _, text := range f.APIKey {
		list, err := values("--api-key", text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, list...)
	}
	return keys, nil
}

// secureRouter puts what guards the router into its configuration.
func (f *routerFlags) secureRouter(c *router.Config) (err error) {
	if c.TLS, err = f.tlsFiles(); err != nil {
		return err
	}
	if c.Listeners, err = f.listeners(); err != nil {
		return err
	}
	c.APIKeys, err = f.keys()
	return err
}

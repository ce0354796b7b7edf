package secure

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/youmark/pkcs8"
)

// keyBits is the least that MindIE takes.
const keyBits = 3072

// Make writes an authority, a server's and a client's certificate with their keys, and an empty revocation list into a
// folder, for tries and tests: ca.pem, ca.key.pem, server.pem, server.key.pem, client.pem, client.key.pem, server_crl.pem.
// With a password the server's key is encrypted and key_pwd.txt holds the password. Files that are there are not replaced.
func Make(folder string, hosts []string, validFor time.Duration, password string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	m := &maker{folder: folder, until: time.Now().Add(validFor)}
	authority, err := m.issue("ca", &x509.Certificate{Subject: pkix.Name{CommonName: "Lockstep test authority"}, IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, nil, "")
	if err != nil {
		return err
	}
	server := &x509.Certificate{Subject: pkix.Name{CommonName: hosts[0]}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, host)
		}
	}
	if _, err := m.issue("server", server, authority, password); err != nil {
		return err
	}
	client := &x509.Certificate{Subject: pkix.Name{CommonName: "client"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := m.issue("client", client, authority, ""); err != nil {
		return err
	}
	if password != "" {
		if err := m.write("key_pwd.txt", []byte(password+"\n"), 0o600); err != nil {
			return err
		}
	}
	list, err := x509.CreateRevocationList(rand.Reader,
		&x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: m.until}, authority.certificate, authority.key)
	if err != nil {
		return err
	}
	return m.write("server_crl.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}), 0o644)
}

// maker writes certificates into a folder.
type maker struct {
	folder string
	until  time.Time
}

// issued is a certificate that signs others.
type issued struct {
	certificate *x509.Certificate
	key         *rsa.PrivateKey
}

// issue makes a key and a certificate, signed by parent or by itself.
func (m *maker) issue(name string, template *x509.Certificate, parent *issued, password string) (*issued, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), m.until
	if parent == nil {
		parent = &issued{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.certificate, &key.PublicKey, parent.key)
	if err != nil {
		return nil, err
	}
	kind := "PRIVATE KEY"
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if password != "" && err == nil {
		kind = "ENCRYPTED PRIVATE KEY"
		private, err = pkcs8.MarshalPrivateKey(key, []byte(password), nil)
	}
	if err != nil {
		return nil, err
	}
	if err := m.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return nil, err
	}
	if err := m.write(name+".key.pem", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: private}), 0o600); err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &issued{certificate, key}, err
}

// write makes a file that must not be there yet.
func (m *maker) write(name string, data []byte, mode os.FileMode) error {
	file, err := os.OpenFile(filepath.Join(m.folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("%w (files are not replaced)", err)
	}
	if _, err := file.Write(data); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

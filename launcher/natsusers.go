package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"lockstep/launcher/broker"
	"lockstep/protocol"
	"lockstep/protocol/regular"
)

// natsUsersFlags are those of lockstep nats-users.
type natsUsersFlags struct {
	Node       []string `arg:"" help:"Names of all nodes (their --node-name), those with a router only among them."`
	ClusterKey string   `env:"LOCKSTEP_CLUSTER_KEY" placeholder:"KEY|@FILE" help:"The nodes' --cluster-key, or the file that holds it."`
	Watcher    string   `placeholder:"FILE" help:"Also write the secret of a user who can only look on: nats --nkey FILE sub 'lockstep.>'."`
}

// writeSecret makes a file that only its owner can read. One that is there already may be open to others, or another's.
func writeSecret(path, text string) error {
	if there, err := regular.Read(path, maxSecretBytes); err == nil && string(there) == text {
		return nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

func (f *natsUsersFlags) run(out io.Writer) error {
	if f.ClusterKey == "" {
		return errors.New("nats-users needs the nodes' --cluster-key")
	}
	key, err := value("--cluster-key", f.ClusterKey)
	if err == nil {
		err = checkClusterKey(key)
	}
	if err != nil {
		return err
	}
	for _, node := range f.Node {
		if !protocol.ValidToken(node) {
			return fmt.Errorf("node name %q: want 1 to 64 letters, digits, '-' or '_'", node)
		}
	}
	if f.Watcher != "" {
		seed := broker.SeedText(broker.Watcher(key)) + "\n"
		if err := writeSecret(f.Watcher, seed); err != nil {
			return fmt.Errorf("--watcher: %w", err)
		}
	}
	_, err = io.WriteString(out, broker.ServerConfiguration(key, f.Node))
	return err
}

package protocol

import "crypto/ed25519"

// Identity is what a process proves to a NATS server that it is: an nkey of ed25519. The zero Identity proves nothing;
// then the URLs of the servers say all that they ask for.
type Identity struct {
	// NKey is the public key in NATS' form.
	NKey string `json:"nkey,omitempty"`
	// Seed is the secret: ed25519.SeedSize bytes.
	Seed []byte `json:"seed,omitempty"`
}

// RefusedByNATS is the text for people of a NATS server that lets a process of a node with this identity in no more, or never
// did.
func (i Identity) RefusedByNATS(node string) string {
	if i.NKey == "" {
		return "NATS refuses node " + node + ", which has no --cluster-key: give it that of the cluster, or a user in --nats-url"
	}
	return "NATS refuses node " + node + ": let its configuration name this node (lockstep nats-users) under the same --cluster-key, or " +
		"check the user in --nats-url"
}

// Sign signs the server's nonce.
func (i Identity) Sign(nonce []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.NewKeyFromSeed(i.Seed), nonce), nil
}

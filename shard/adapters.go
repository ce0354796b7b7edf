package shard

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"lockstep/protocol"
	"lockstep/shard/weights"
)

// Adapter is a LoRA adapter that the group adds to its model's weights for requests that name it.
type Adapter struct {
	// Name is what requests call it.
	Name string `json:"name"`
	// Path is a directory in PEFT's format. A backend that takes no weights does not look at it.
	Path string `json:"path"`
}

// adapterFiles are those of a directory in PEFT's format of which the adapter consists.
var adapterFiles = []string{weights.AdapterConfigName, weights.AdapterWeightsName}

// CheckAdapters refuses adapters that a backend cannot compute, and names that are none.
func CheckAdapters(adapters []Adapter, backend string) error {
	if len(adapters) > 0 && !TraitsOf(backend).Adapters {
		return fmt.Errorf("the backend %s computes no LoRA adapters: leave them out, or merge one into the model (peft's "+
			"merge_and_unload)", backend)
	}
	card := protocol.ModelCard{}
	for _, a := range adapters {
		card.Adapters = append(card.Adapters, protocol.Adapter{Name: a.Name})
	}
	return card.Validate()
}

// describeAdapters says what the adapters are to whoever asks for them: their names and a digest of each one's files. Where the
// backend takes no weights a name is all that there is of an adapter.
func describeAdapters(config Config) ([]protocol.Adapter, error) {
	var described []protocol.Adapter
	for _, a := range config.Adapters {
		sum := sha256.New()
		if !TraitsOf(config.Backend).Weights {
			fmt.Fprintf(sum, "%q", a.Name)
		} else if err := hashAdapter(sum, a.Path); err != nil {
			return nil, fmt.Errorf("adapter %s: %w", a.Name, err)
		}
		described = append(described, protocol.Adapter{Name: a.Name, Digest: hex.EncodeToString(sum.Sum(nil))})
	}
	return described, nil
}

// hashAdapter writes an adapter's files, each behind its name and length.
func hashAdapter(out io.Writer, folder string) error {
	for _, name := range adapterFiles {
		file, err := os.Open(filepath.Join(folder, name))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s has no %s: an adapter is a directory in PEFT's format (save_pretrained writes it)", folder, name)
		} else if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no file", file.Name())
		}
		fmt.Fprintf(out, "%s %d\n", name, info.Size())
		if _, err := io.CopyN(out, file, info.Size()); err != nil {
			return fmt.Errorf("%s: %w", file.Name(), err)
		}
	}
	return nil
}

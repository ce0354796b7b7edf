// Package model says what models compute. A family reads a model's files and writes its recipe: a list of stages, in which all
// that differs between families is data (where norms stand, which tensors there are, windows, rotations, scales). A backend
// (package host) takes one rank's part of the recipe and computes it; nothing here computes, and no stage knows of a device.
//
// The parts of a tensor-parallel group: query, key, value, gate and up matrices share out their outputs, the output and down
// matrices their inputs, and their parts are summed over the ranks; the head is split by vocabulary.
package model

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"lockstep/shard/weights"
)

// Model is an open model: what its files say, understood. Close closes them.
type Model struct {
	Config Config
	Files  *weights.Files
	// Ends are Config.EOSTokenIDs, and why.
	Ends []weights.End
	// DataType is the weights' type as the model card has it.
	DataType string

	write     writer
	quantiser *quantiser // nil: weights are computed with as they are
}

// Open opens a directory in Hugging Face format or a .gguf file.
func Open(path string) (*Model, error) { return open(path, weights.Open) }

// OpenShape is Open for those who compute without weights, or not at all: a directory may have none, and Part must not be
// called.
func OpenShape(path string) (*Model, error) { return open(path, weights.OpenShape) }

func open(path string, openFiles func(path string) (*weights.Files, error)) (*Model, error) {
	files, err := openFiles(path)
	if err != nil {
		return nil, err
	}
	m, err := understand(files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// OpenFS opens a directory in Hugging Face format that is held in memory, such as an embedded one.
func OpenFS(dir fs.FS) (*Model, error) {
	files, err := weights.OpenFS(dir)
	if err != nil {
		return nil, err
	}
	return understand(files)
}

// understand finds the model's family and lets it read the files, which it closes if that fails.
func understand(files *weights.Files) (*Model, error) {
	m := &Model{Files: files}
	f, err := familyOf(files)
	if err == nil {
		m.Config, m.write, err = f.read(files)
	}
	if err == nil {
		err = m.Config.validate()
	}
	if err == nil && files.GGUF != nil {
		err = files.GGUF.Err()
	}
	if err != nil {
		files.Close()
		if files.GGUF == nil {
			err = fmt.Errorf("config.json: %w", err)
		}
		return nil, err
	}
	m.Ends = files.Ends(m.Config.Vocabulary)
	for _, end := range m.Ends {
		m.Config.EOSTokenIDs = append(m.Config.EOSTokenIDs, end.ID)
	}
	m.DataType = files.DataType(m.Config.Embedding)
	return m, nil
}

// Close closes the model's files.
func (m *Model) Close() { m.Files.Close() }

// Part is what one rank of a group computes of a model.
type Part struct {
	Config Config
	Partition
	Stages    []Stage
	Rotations []*Rotation // by Project.Rotation
	// AttentionColumns is the range of columns of the attention's output matrices that this rank computes: its heads, widened
	// to whole blocks of the encoding. The columns of other ranks' heads in it are zero.
	AttentionColumns Span
	// Uneven says that sums over ranks do not continue those of a single one: the bits depend on the number of ranks (law 3 in
	// docs/architecture.md).
	Uneven bool
	// Unused lists the tensors of the model's files that no rank computes with, in order, but those that follow from others or
	// from the configuration, and those of parts that read other than text, of which there are OtherParts.
	Unused     []string
	OtherParts int
}

// Part returns a rank's part of the model and of adapters, whose tensors belong to their files.
func (m *Model) Part(rank, ranks int, adapters ...*Adapter) (*Part, error) {
	if len(adapters) > 0 && m.Files.GGUF != nil {
		return nil, errors.New("adapters are served on models in Hugging Face format, whose names of tensors they have: give the model's " +
			"directory in that format")
	}
	r := &recipe{Part: &Part{Config: m.Config}, files: m.Files, used: map[string]bool{}, adapters: adapters, quantiser: m.quantiser}
	for range adapters {
		r.adapted = append(r.adapted, map[string]bool{})
	}
	r.Rank, r.Ranks = rank, ranks
	m.write(r)
	r.quantiseHead()
	r.checkAdapters()
	if r.err != nil {
		return nil, r.err
	}
	r.Unused = slices.DeleteFunc(m.Files.Names(), func(name string) bool { return r.used[name] || follows(name) })
	if m.Files.GGUF != nil && len(r.Unused) > 0 {
		// llama.cpp takes no file with tensors that its architecture does not have, while transformers ignores them and says so.
		return nil, fmt.Errorf("tensor %s (one of %d such) is in the file, and architecture %q of %d layers does not compute with it: "+
			"it is another model than its metadata say; convert it anew",
			r.Unused[0], len(r.Unused), m.Files.Architecture, m.Config.Layers)
	}
	if m.Files.GGUF == nil {
		all := len(r.Unused)
		r.Unused = slices.DeleteFunc(r.Unused, readsOther)
		r.OtherParts = all - len(r.Unused)
	}
	return r.Part, nil
}

// readsOther reports whether a tensor belongs to a part of a model that reads images or sounds.
func readsOther(name string) bool {
	part, rest, _ := strings.Cut(name, ".")
	if part == "model" {
		part, _, _ = strings.Cut(rest, ".")
	}
	return slices.Contains([]string{"visual", "vision_tower", "vision_model", "vision_encoder", "vision_adapter", "multi_modal_projector",
		"audio_tower", "embed_vision", "embed_audio", "patch_merger"}, part)
}

// follows reports whether a tensor says nothing that others or the configuration do not say.
func follows(name string) bool {
	for _, suffix := range []string{".rotary_emb.inv_freq", ".attn_rot_embd.weight", ".attn_rot_embd"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// AllKVHeads is how many KV heads all ranks together hold: those that two hold count twice.
func (p *Part) AllKVHeads() (heads int) {
	for rank := range p.Ranks {
		if part, err := Split(&p.Config, rank, p.Ranks); err == nil {
			heads += part.KVHeads.Size()
		}
	}
	return heads
}

// Describe writes rotations and stages as text, a line each, without the tensors' numbers.
func (p *Part) Describe() string {
	var text strings.Builder
	line := func(name string, value any) {
		data, err := json.Marshal(value)
		if err != nil {
			panic(err) // they hold nothing that JSON cannot say
		}
		fmt.Fprintf(&text, "%s %s\n", name, data)
	}
	for _, rotation := range p.Rotations {
		line("rotation", rotation.Rope)
	}
	for _, stage := range p.Stages {
		line(strings.ToLower(reflect.TypeOf(stage).Elem().Name()), stage)
	}
	return text.String()
}

// Fingerprint is a digest of all that the model's tokens follow from, but the arithmetic: its configuration, its recipe, and
// its tensors (of which it reads samples). It is for telling models apart, not against forgery. What recipes say only of
// other families leaves it as it is.
func (m *Model) Fingerprint() (string, error) {
	part, err := m.Part(0, 1)
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(m.Config)
	if err != nil {
		return "", err
	}
	description := append(config, part.Describe()...)
	if m.quantiser != nil {
		description = append(description, "quantised to "+m.quantiser.name...)
	}
	return m.Files.Fingerprint(description), nil
}

// FingerprintOfShape is the digest for backends that compute without weights.
func (m *Model) FingerprintOfShape() (string, error) {
	config, err := json.Marshal(m.Config)
	sum := sha256.Sum256(config)
	return hex.EncodeToString(sum[:16]), err
}

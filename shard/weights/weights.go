// Package weights reads models: directories in Hugging Face format (safetensors, also over several files) and GGUF
// files. Files are mapped, not read: a rank touches only the rows and columns that it holds. Whatever the file, tensors
// have Hugging Face's names, shapes and row order.
package weights

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lockstep/protocol"
	"lockstep/protocol/regular"
)

// Model is an open model. It is immutable; Close unmaps its files.
type Model struct {
	Config    Config
	Tokenizer protocol.TokenizerSource
	Chat      protocol.ChatSource
	// Ends are Config.EOSTokenIDs, and why.
	Ends []End
	// Doubts are sentences on what the files say and is not taken as they say it, for the log.
	Doubts []string
	// DataType is the weights' type as the model card has it.
	DataType string
	// WeightBytes is the size of all tensors.
	WeightBytes int64

	tensors  map[string]Tensor
	unusable map[string]error // the tensors that are there and cannot be computed with, and why
	mapped   [][]byte
}

// Tensor is a matrix (or, with one row, a vector) in its file's layout.
type Tensor struct {
	Encoding      Encoding
	Rows, Columns int
	data          []byte
	// interleavedHead is the head dimension if the rows of each head are stored as rotation pairs (2i, 2i+1), as
	// llama.cpp stores queries and keys; Row and, of their biases, Vector give them as (i, i+half).
	interleavedHead int
	// groups says where the rows are if data holds others too; stride 0: it does not.
	groups rowGroups
}

// Row returns the bytes of a row; they belong to the mapped file.
func (t Tensor) Row(row int) []byte {
	if t.interleavedHead > 0 && t.Rows > 1 {
		row = t.stored(row)
	}
	if g := t.groups; g.stride > 0 {
		row = row/g.rows*g.stride + g.offset + row%g.rows
	}
	size := t.Encoding.RowBytes(t.Columns)
	return t.data[row*size : (row+1)*size]
}

// stored returns where an output of queries or keys lies in the file: a row of the matrix, a column of the bias.
func (t Tensor) stored(output int) int {
	half := t.interleavedHead / 2
	head, i := output/t.interleavedHead, output%t.interleavedHead
	return head*t.interleavedHead + i%half*2 + i/half
}

// Floats returns the exact values of a row; dst is used if it is large enough.
func (t Tensor) Floats(row int, dst []float32) []float32 {
	dst = append(dst[:0], make([]float32, t.Columns)...)
	t.Encoding.Decode(dst, t.Row(row))
	return dst
}

// Open opens a directory or a .gguf file. Its errors name the file that is wrong.
func Open(path string) (*Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	m := &Model{}
	switch {
	case info.IsDir():
		var named error // of a file that could not be mapped: it has the whole path
		err = m.openDirectory(os.DirFS(path), func(name string) (data []byte, err error) {
			data, named = m.mapFile(filepath.Join(path, name))
			return data, named
		})
		if err != nil && named == nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	case strings.HasSuffix(strings.ToLower(path), ".gguf"):
		err = m.openGGUF(path, m.mapFile)
	default:
		err = fmt.Errorf("%s is neither a directory nor a .gguf file", path)
	}
	return m.finish(err)
}

// OpenFS opens a directory in Hugging Face format that is held in memory, such as an embedded one.
func OpenFS(dir fs.FS) (*Model, error) {
	m := &Model{}
	return m.finish(m.openDirectory(dir, func(name string) ([]byte, error) { return regular.ReadFS(dir, name, math.MaxInt64-1) }))
}

func (m *Model) finish(err error) (*Model, error) {
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close unmaps the files. Tensors must not be used afterwards.
func (m *Model) Close() {
	for _, data := range m.mapped {
		unix.Munmap(data)
	}
	m.mapped = nil
}

// mapFile maps a regular file. Its errors name it.
func (m *Model) mapFile(path string) ([]byte, error) {
	if err := regular.Check(path); err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%s is empty: fetch it anew", path)
	}
	data, err := unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	m.mapped = append(m.mapped, data)
	if err := regular.CheckContent(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// Has reports whether the model's files have a tensor of this name, be it one that can be used or not.
func (m *Model) Has(name string) bool {
	_, usable := m.tensors[name]
	return usable || m.unusable[name] != nil
}

// Tensor returns the tensor of this name and checks its shape. A vector has one row.
func (m *Model) Tensor(name string, rows, columns int) (Tensor, error) {
	t, ok := m.tensors[name]
	switch {
	case m.unusable[name] != nil:
		return Tensor{}, fmt.Errorf("tensor %s: %w", name, m.unusable[name])
	case !ok:
		return Tensor{}, fmt.Errorf("tensor %s is missing: see whether all files of the model are there and belong together", name)
	case t.Rows != rows || t.Columns != columns:
		return Tensor{}, fmt.Errorf("tensor %s is %d x %d, and the configuration wants %d x %d: see whether all files are of one model", name, t.Rows, t.Columns, rows, columns)
	}
	return t, nil
}

// Names lists all tensors in order, also those that cannot be used.
func (m *Model) Names() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(m.tensors)), maps.Keys(m.unusable))
	slices.Sort(names)
	return names
}

// Encoding returns the encoding of a tensor, F32 if there is none of this name.
func (m *Model) Encoding(name string) Encoding { return m.tensors[name].Encoding }

// Vector returns a tensor of one row as float32.
func (m *Model) Vector(name string, columns int) ([]float32, error) {
	t, err := m.Tensor(name, 1, columns)
	if err != nil {
		return nil, err
	}
	stored := t.Floats(0, nil)
	if t.interleavedHead == 0 {
		return stored, nil
	}
	vector := make([]float32, columns)
	for i := range vector {
		vector[i] = stored[t.stored(i)]
	}
	return vector, nil
}

// add adds a tensor, or one that cannot be used for the reason unusable.
func (m *Model) add(name string, t Tensor, unusable error) error {
	if m.tensors == nil {
		m.tensors, m.unusable = make(map[string]Tensor), make(map[string]error)
	}
	if m.Has(name) {
		return fmt.Errorf("tensor %s is there twice: take away the file that does not belong to the model, or fetch it anew", name)
	}
	if unusable != nil {
		m.unusable[name] = unusable
		return nil
	}
	m.tensors[name] = t
	m.WeightBytes += int64(len(t.data))
	return nil
}

// Fingerprint is a digest of the configuration and of every tensor's name, shape, format and a sample of its bytes. It is
// for telling models apart, not against forgery.
func (m *Model) Fingerprint() string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%+v\n", m.Config)
	for _, name := range slices.Sorted(maps.Keys(m.tensors)) {
		t := m.tensors[name]
		fmt.Fprintf(hash, "%s %v %d %d\n", name, t.Encoding, t.Rows, t.Columns)
		for i := range 16 {
			at := len(t.data) / 16 * i
			hash.Write(t.data[at:min(at+64, len(t.data))])
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

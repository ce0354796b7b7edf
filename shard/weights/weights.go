// Package weights reads the files of models: directories in Hugging Face format (safetensors, also over several files) and
// GGUF files. It says what lies in them, tensors by name and encoding, configuration, tokenizer, ends of a sequence, and not
// what a model computes with it; package model does. Files are mapped, not read: a rank touches only the rows and columns
// that it holds.
package weights

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"lockstep/protocol"
	"lockstep/protocol/regular"
	"lockstep/shard/codes"
)

// Files are the open files of a model. Close unmaps them.
type Files struct {
	// Architecture is what the files call the kind of model: config.json's model_type, or general.architecture.
	Architecture string
	// GGUF are a GGUF file's metadata; nil for a directory in Hugging Face format.
	GGUF      *Metadata
	Tokenizer protocol.TokenizerSource
	Chat      protocol.ChatSource
	// Defaults are the sampling parameters that the files recommend.
	Defaults protocol.SamplingDefaults
	// Doubts are sentences on what the files say and is not taken as they say it, for the log.
	Doubts []string
	// QuantMethod is the format of quantised weights in a directory, as its configuration calls it; "": they are not said to be.
	QuantMethod string

	quantisation *quantisation // what QuantMethod is a part of
	// WeightBytes is the size of all tensors.
	WeightBytes int64

	config   []byte // config.json
	ends     endSources
	tensors  map[string]Tensor
	unusable map[string]error // the tensors that are there and cannot be computed with, and why
	vain     map[string]bool  // the tensors that are there and say nothing
	mapped   [][]byte
	identity []byte // of the mapped files
}

// Identity names the files as they lie on the disk: it is another one once any of them is replaced or written.
func (f *Files) Identity() []byte { return f.identity }

// MaxDimension is the largest dimension of a model that is believed; more is damage or attack.
const MaxDimension = 1 << 24

// Tensor is a matrix (or, with one row, a vector) in its file's layout. One of more dimensions, such as the experts' matrices, is
// the matrix of all its rows: [experts][outputs][inputs] has Rows = experts * outputs, row expert*outputs + output.
type Tensor struct {
	Encoding      Encoding
	Rows, Columns int
	data          []byte
	transposed    *transposed // of Transposed
	quantised     *quantised  // of Quantised
	made          *requantise // of As
	pages         [][]byte    // of mapped files that hold the tensor; nil where it is in memory of another kind
}

// stacked is the number of rows of a tensor whose dimensions but the columns these are; 0: there is none, or too many.
func stacked(sizes []int) int {
	rows := 1
	for _, size := range sizes {
		if size < 1 || size > MaxDimension/rows {
			return 0
		}
		rows *= size
	}
	return rows
}

// Row returns the bytes of a row; they belong to the mapped file, but for a transposed tensor, whose rows are gathered. Tensors of
// As have none.
func (t Tensor) Row(row int) []byte {
	if t.transposed != nil {
		return t.transposed.row(t, row)
	}
	size := t.Encoding.RowBytes(t.Columns)
	return t.data[row*size : (row+1)*size]
}

// Scheme says what Codes gives; nil: the tensor holds plain numbers.
func (t Tensor) Scheme() *codes.Scheme {
	if t.quantised != nil {
		return t.quantised.scheme
	}
	return encodings[t.Encoding].scheme
}

// Codes sets codes to the columns [from, to) of a row of a quantised tensor. What codes held is overwritten.
func (t Tensor) Codes(codes *codes.Row, row, from, to int) {
	if t.quantised != nil {
		t.quantised.spread(codes, row, from, to)
		return
	}
	d := &encodings[t.Encoding]
	if t.made == nil {
		d.spread(codes, t.Row(row), from, to)
		return
	}
	var blocks []byte
	first := from / d.blockColumns * d.blockColumns
	end := (to + d.blockColumns - 1) / d.blockColumns * d.blockColumns
	d.spread(codes, t.Bytes(&blocks, row, first, end), from-first, to-first)
}

// Floats returns the exact values of a row; dst is used if it is large enough.
func (t Tensor) Floats(row int, dst []float32) []float32 {
	dst = append(dst[:0], make([]float32, t.Columns)...)
	t.Decode(dst, row)
	return dst
}

// Bytes returns the columns [from, to) of a row, whole blocks, in a form other than FormCodes: as they lie in the mapped file, or
// made in *buffer, which grows as needed.
func (t Tensor) Bytes(buffer *[]byte, row, from, to int) []byte {
	if t.made != nil {
		return t.made.bytes(buffer, t.Encoding, row, from, to)
	}
	return t.Row(row)[t.Encoding.RowBytes(from):t.Encoding.RowBytes(to)]
}

// Decode sets values, of Columns, to the exact values of a row.
func (t Tensor) Decode(values []float32, row int) {
	if t.quantised == nil {
		var buffer []byte
		t.Encoding.Decode(values, t.Bytes(&buffer, row, 0, t.Columns))
		return
	}
	var spread codes.Row
	t.Codes(&spread, row, 0, t.Columns)
	t.Scheme().Values(values, &spread, 0)
}

// Release gives the memory back in which the tensor's rows were read, for those who have read what they need. It can be read
// again: the kernel then maps its pages anew. Rows that were given out stay valid. Others may read it, or what lies beside it,
// at the same time.
func (t Tensor) Release() {
	if t.made != nil {
		t.made.source.Release()
	}
	for _, pages := range t.pages {
		unix.Madvise(pages, unix.MADV_DONTNEED) // pages of a file that is mapped to be shared and read: nothing is lost
	}
}

// parts are the bytes of the files that make the tensor.
func (t Tensor) parts() [][]byte {
	if t.quantised == nil {
		return [][]byte{t.data}
	}
	var parts [][]byte
	for _, part := range t.quantised.parts {
		parts = append(parts, part.data)
	}
	return parts
}

// Open opens a directory or a .gguf file. Its errors name the file that is wrong.
func Open(path string) (*Files, error) { return open(path, true) }

// OpenShape is Open for those who need no weights: a directory may have none, and they are not looked at.
func OpenShape(path string) (*Files, error) { return open(path, false) }

func open(path string, tensors bool) (*Files, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	f := &Files{}
	switch {
	case info.IsDir():
		var named error // of a file that could not be mapped: it has the whole path
		err = f.openDirectory(os.DirFS(path), tensors, func(name string) (data []byte, err error) {
			data, named = f.mapFile(filepath.Join(path, name))
			return data, named
		})
		if err != nil && named == nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	case strings.HasSuffix(strings.ToLower(path), ".gguf"):
		err = f.openGGUF(path, f.mapFile)
	default:
		err = fmt.Errorf("%s is neither a directory nor a .gguf file", path)
	}
	return f.finish(err)
}

// OpenFS opens a directory in Hugging Face format that is held in memory, such as an embedded one.
func OpenFS(dir fs.FS) (*Files, error) {
	f := &Files{}
	return f.finish(f.openDirectory(dir, true, func(name string) ([]byte, error) { return regular.ReadFS(dir, name, math.MaxInt64-1) }))
}

func (f *Files) finish(err error) (*Files, error) {
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close unmaps the files. Tensors must not be used afterwards.
func (f *Files) Close() {
	for _, data := range f.mapped {
		unix.Munmap(data)
	}
	f.mapped = nil
}

// mapFile maps a regular file. Its errors name it.
func (f *Files) mapFile(path string) ([]byte, error) {
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
	f.mapped = append(f.mapped, data)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		f.identity = fmt.Appendf(f.identity, "%d:%d %d %v\n", stat.Dev, stat.Ino, stat.Size, stat.Mtim)
	}
	if err := regular.CheckContent(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// Has reports whether the model's files have a tensor of this name, be it one that can be used or not.
func (f *Files) Has(name string) bool {
	_, usable := f.tensors[name]
	return usable || f.unusable[name] != nil
}

// Tensor returns the tensor of this name and checks its shape. A vector has one row.
func (f *Files) Tensor(name string, rows, columns int) (Tensor, error) {
	t, ok := f.tensors[name]
	switch {
	case f.unusable[name] != nil:
		return Tensor{}, fmt.Errorf("tensor %s: %w", name, f.unusable[name])
	case !ok:
		return Tensor{}, fmt.Errorf("tensor %s is missing: see whether all files of the model are there and belong together", name)
	case t.Rows != rows || t.Columns != columns:
		return Tensor{}, fmt.Errorf("tensor %s is %d x %d, and the configuration wants %d x %d: see whether all files are of one model",
			name, t.Rows, t.Columns, rows, columns)
	}
	return t, nil
}

// Transposed returns a matrix of so many rows, of which each of so many equal parts is stored as [columns][rows of the part], as
// Tensor does. Of one in blocks, which cannot be transposed, the numbers are those that it stands for, in F32. GPTQ and AWQ store
// every matrix as if it were a linear layer's.
func (f *Files) Transposed(name string, parts, rows, columns int) (Tensor, error) {
	if q := f.quantisation; q != nil && f.tensors[name].quantised != nil && (q.Method == "gptq" || q.Method == "awq") {
		return f.Tensor(name, rows, columns)
	}
	t, err := f.Tensor(name, parts*columns, rows/parts)
	if err != nil {
		return t, err
	}
	if t.quantised != nil {
		return t, fmt.Errorf("tensor %s: a transposed matrix in %v is not served", name, t.Encoding)
	}
	source := t
	if t.Encoding.BlockColumns() > 1 {
		t.Encoding = F32
	}
	t.Rows, t.Columns, t.transposed = rows, columns, &transposed{source, parts}
	return t, nil
}

// transposed says how a matrix is stored.
type transposed struct {
	source Tensor // of rows of columns
	parts  int
}

// row gathers a row of t.
func (s *transposed) row(t Tensor, row int) []byte {
	size, blockColumns := t.Encoding.RowBytes(1), s.source.Encoding.BlockColumns()
	part, at := row/s.source.Columns, row%s.source.Columns
	block, gathered := at/blockColumns*blockColumns, make([]byte, t.Columns*size)
	values := make([]float32, blockColumns)
	for i := range t.Columns {
		stored := s.source.Row(part*t.Columns + i)
		if blockColumns == 1 {
			copy(gathered[i*size:][:size], stored[at*size:])
			continue
		}
		s.source.Encoding.Decode(values, stored[s.source.Encoding.RowBytes(block):s.source.Encoding.RowBytes(block+blockColumns)])
		binary.LittleEndian.PutUint32(gathered[i*size:], math.Float32bits(values[at-block]))
	}
	return gathered
}

// Config parses config.json into a struct; keys that it does not have are passed over. Its errors name the key, not the
// file, which was found to be JSON when it was opened.
func (f *Files) Config(into any) error { return parseJSON("", f.config, into) }

// ConfigPart parses a part of config.json, found under a key, likewise.
func (f *Files) ConfigPart(key string, part []byte, into any) error {
	return parseJSON(key, part, into)
}

// DataType is the weights' type as the model card has it; table is the name of the embedding.
func (f *Files) DataType(table string) string {
	if f.GGUF == nil {
		return torchTypes[f.tensors[table].Encoding]
	}
	return "gguf." + cmp.Or(fileTypes[f.GGUF.Count("general.file_type")], "mixed")
}

// Names lists all tensors in order, also those that cannot be used, but no biases of zero that old tools have written for every
// quantised matrix.
func (f *Files) Names() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(f.tensors)), maps.Keys(f.unusable))
	names = slices.DeleteFunc(names, func(name string) bool { return f.vain[name] })
	slices.Sort(names)
	return names
}

// Encoding returns the encoding of a tensor, F32 if there is none of this name.
func (f *Files) Encoding(name string) Encoding { return f.tensors[name].Encoding }

// Vector returns a tensor of one row as float32.
func (f *Files) Vector(name string, columns int) ([]float32, error) {
	t, err := f.Tensor(name, 1, columns)
	if err != nil {
		return nil, err
	}
	return t.Floats(0, nil), nil
}

// add adds a tensor, or one that cannot be used for the reason unusable.
func (f *Files) add(name string, t Tensor, unusable error) error {
	if f.tensors == nil {
		f.tensors, f.unusable, f.vain = make(map[string]Tensor), make(map[string]error), make(map[string]bool)
	}
	if f.Has(name) {
		return fmt.Errorf("tensor %s is there twice: take away the file that does not belong to the model, or fetch it anew", name)
	}
	if unusable != nil {
		f.unusable[name] = unusable
		return nil
	}
	for _, part := range t.parts() {
		f.WeightBytes += int64(len(part))
		if pages := f.pagesOf(part); pages != nil {
			t.pages = append(t.pages, pages)
		}
	}
	f.tensors[name] = t
	return nil
}

// mappedAround is how much the kernel may map around what is read, in bytes: large pages at most.
const mappedAround = 2 << 20

// pagesOf returns the part of a mapped file that data lies in, with what the kernel maps around it when it is read; nil: it lies in
// none.
func (f *Files) pagesOf(data []byte) []byte {
	if len(data) == 0 {
		return nil
	}
	at := uintptr(unsafe.Pointer(&data[0]))
	for _, mapped := range f.mapped {
		start := uintptr(unsafe.Pointer(&mapped[0]))
		if at >= start && at < start+uintptr(len(mapped)) {
			from, end := int(at-start), int(at-start)+len(data)
			return mapped[max(0, from-mappedAround)/mappedAround*mappedAround : min(len(mapped), end+mappedAround)]
		}
	}
	return nil
}

// Fingerprint is a digest of description and of every tensor's name, shape, encoding and a sample of its bytes. It is for
// telling models apart, not against forgery.
func (f *Files) Fingerprint(description []byte) string {
	hash := sha256.New()
	hash.Write(description)
	if f.quantisation != nil { // the same bytes are other numbers under another one
		says, err := json.Marshal(f.quantisation)
		if err != nil {
			panic(err) // it was read as JSON
		}
		hash.Write(says)
	}
	for _, name := range slices.Sorted(maps.Keys(f.tensors)) {
		t := f.tensors[name]
		fmt.Fprintf(hash, "%s %v %d %d\n", name, t.Encoding, t.Rows, t.Columns)
		for _, data := range t.parts() {
			for i := range 16 {
				at := len(data) / 16 * i
				hash.Write(data[at:min(at+64, len(data))])
			}
		}
		t.Release() // the kernel maps many times as much around each place
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

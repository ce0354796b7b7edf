package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"lockstep/protocol"
)

// ggmlTypes are names of types of tensors (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) for the error of those that are
// not served.
var ggmlTypes = map[uint32]string{9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S",
	22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8",
	34: "TQ1_0", 35: "TQ2_0", 40: "NVFP4", 41: "Q1_0"}

// servedGGUF lists, for errors, the encodings of GGUF files that are served.
var servedGGUF = served(func(e encoding) bool { return e.gguf != 0 || e.name == "F32" })

// ggufReader reads a mapped file; after the first error every read gives zeros, and err says what it was.
type ggufReader struct {
	data []byte
	at   int
	err  error
}

func (r *ggufReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *ggufReader) bytes(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.data)-r.at) {
		r.fail("the file ends within its header: it was cut off; fetch it anew")
		return make([]byte, 8)[:min(n, 8)]
	}
	part := r.data[r.at : r.at+int(n)]
	r.at += int(n)
	return part
}

func (r *ggufReader) u32() uint32 { return binary.LittleEndian.Uint32(r.bytes(4)) }
func (r *ggufReader) u64() uint64 { return binary.LittleEndian.Uint64(r.bytes(8)) }
func (r *ggufReader) text() string {
	return string(r.bytes(r.u64()))
}

// value reads a metadata value: int64, float64, bool, string, []string or []float64.
func (r *ggufReader) value(kind uint32) any {
	little := binary.LittleEndian
	switch kind {
	case 0:
		return int64(r.bytes(1)[0])
	case 1:
		return int64(int8(r.bytes(1)[0]))
	case 2:
		return int64(little.Uint16(r.bytes(2)))
	case 3:
		return int64(int16(little.Uint16(r.bytes(2))))
	case 4:
		return int64(r.u32())
	case 5:
		return int64(int32(r.u32()))
	case 6:
		return float64(math.Float32frombits(r.u32()))
	case 7:
		return r.bytes(1)[0] != 0
	case 8:
		return r.text()
	case 9:
		return r.array(r.u32(), r.u64())
	case 10, 11:
		return int64(r.u64())
	case 12:
		return math.Float64frombits(r.u64())
	}
	r.fail("metadata type %d is unknown", kind)
	return nil
}

func (r *ggufReader) array(kind uint32, count uint64) any {
	switch {
	case count > uint64(len(r.data)-r.at):
		r.fail("an array of %d values exceeds the file", count)
		return nil
	case kind == 9: // they could be nested as deeply as the file is long
		r.fail("an array of arrays is not understood")
		return nil
	}
	if kind == 8 {
		values := make([]string, 0, min(count, 1<<20))
		for range count {
			if values = append(values, r.text()); r.err != nil {
				return nil
			}
		}
		return values
	}
	values := make([]float64, 0, min(count, 1<<20))
	for range count {
		switch v := r.value(kind).(type) {
		case int64:
			values = append(values, float64(v))
		case float64:
			values = append(values, v)
		case bool:
			values = append(values, 0)
			if v {
				values[len(values)-1] = 1
			}
		default:
			r.fail("an array of type %d is not understood", kind)
		}
		if r.err != nil {
			return nil
		}
	}
	return values
}

// ggufFile is what the header of one file says.
type ggufFile struct {
	meta    *Metadata
	split   ggufSplit
	tensors []ggufTensor
	payload []byte // where the tensors' offsets begin
}

type ggufTensor struct {
	name       string
	dimensions []uint64 // the fastest first
	kind       uint32
	offset     uint64
}

func (f *ggufFile) has(name string) bool {
	return slices.ContainsFunc(f.tensors, func(t ggufTensor) bool { return t.name == name })
}

// readGGUF reads a file's header.
func readGGUF(data []byte) (*ggufFile, error) {
	r := &ggufReader{data: data}
	if string(r.bytes(4)) != "GGUF" {
		return nil, errors.New("this is no GGUF file: fetch it anew, or convert the model with llama.cpp")
	}
	switch version := r.u32(); {
	case version == 2, version == 3:
	case slices.Contains([]uint32{1, 2, 3}, bits.ReverseBytes32(version)):
		return nil, errors.New("this GGUF file is big-endian, and little-endian ones are served: fetch such a one, or convert it with " +
			"llama.cpp's gguf_convert_endian.py")
	default:
		return nil, fmt.Errorf("GGUF version %d is not served; 2 and 3 of little-endian files are", version)
	}
	tensors, pairs := r.u64(), r.u64()
	f := &ggufFile{meta: &Metadata{values: map[string]any{}}}
	for i := uint64(0); i < pairs && r.err == nil; i++ {
		key := r.text()
		if _, twice := f.meta.values[key]; twice {
			r.fail("its metadata has %s twice: fetch it anew, or convert the model anew", key)
		}
		f.meta.values[key] = r.value(r.u32())
	}
	for i := uint64(0); i < tensors && r.err == nil; i++ {
		t := ggufTensor{name: r.text()}
		dimensions := r.u32()
		if dimensions < 1 || dimensions > 4 {
			r.fail("tensor %s has %d dimensions", t.name, dimensions)
		}
		for range min(dimensions, 4) {
			t.dimensions = append(t.dimensions, r.u64())
		}
		t.kind, t.offset = r.u32(), r.u64()
		f.tensors = append(f.tensors, t)
	}
	if r.err != nil {
		return nil, r.err
	}
	alignment := uint64(32)
	if n := f.meta.Count("general.alignment"); n > 0 {
		alignment = uint64(n)
	}
	start := (uint64(r.at) + alignment - 1) / alignment * alignment
	if start > uint64(len(r.data)) {
		if len(f.tensors) > 0 {
			return nil, errors.New("the file ends within its header: it was cut off; fetch it anew")
		}
		start = uint64(len(r.data)) // a first part with metadata only
	}
	f.payload = r.data[start:]
	f.split = f.meta.split()
	return f, f.meta.err
}

// fromGGUF takes the model from its parts, of which the first has the metadata.
func (f *Files) fromGGUF(parts []*ggufFile) error {
	meta := parts[0].meta
	f.GGUF, f.Architecture = meta, meta.Text("general.architecture")
	if kind := meta.Text("general.type"); kind != "" && kind != "model" {
		return fmt.Errorf("this GGUF file holds no model, but (general.type) %q: give the model's own file", kind)
	} else if meta.err == nil && f.Architecture == "" {
		return errors.New("its metadata names no architecture (general.architecture): it is a part of a model, or none")
	}
	for _, part := range parts {
		if err := f.ggufTensors(part); err != nil {
			return err
		}
	}
	f.Tokenizer.GGUF, f.Chat = ggufTokenizer(meta), chatOfGGUF(meta)
	f.ends = endsOfGGUF(meta)
	f.defaultsOfGGUF(meta)
	markControl(f.Tokenizer.GGUF, endsSpelled(f.ends.tokens.all))
	f.DataType("") // what is wrong with its key is told here
	return meta.err
}

// ggufTensors adds the tensors of one part.
func (f *Files) ggufTensors(part *ggufFile) error {
	for _, entry := range part.tensors {
		t, unusable := entry.tensor()
		if unusable == nil {
			size := uint64(t.Rows * t.Encoding.RowBytes(t.Columns))
			if entry.offset > uint64(len(part.payload)) || size > uint64(len(part.payload))-entry.offset {
				return fmt.Errorf("tensor %s lies outside the file, which was cut off: fetch it anew", entry.name)
			}
			t.data = part.payload[entry.offset : entry.offset+size]
		}
		if err := f.add(entry.name, t, unusable); err != nil {
			return err
		}
	}
	return nil
}

// tensor returns the tensor without its data, or why it cannot be used.
func (e *ggufTensor) tensor() (Tensor, error) {
	encoding, ok := ofGGUF(e.kind)
	if !ok {
		return Tensor{}, fmt.Errorf("GGUF type %s (%d) is not served yet; %s are", ggmlTypes[e.kind], e.kind, servedGGUF)
	}
	sizes := make([]int, len(e.dimensions))
	for i, size := range e.dimensions {
		sizes[i] = int(min(size, math.MaxInt32))
	}
	t := Tensor{Encoding: encoding, Rows: stacked(sizes[1:]), Columns: sizes[0]}
	if t.Rows < 1 || t.Columns < 1 || t.Columns > MaxDimension || t.Columns%encoding.BlockColumns() != 0 {
		return Tensor{}, fmt.Errorf("%v is no size of a tensor in %v", e.dimensions, encoding)
	}
	return t, nil
}

func ggufTokenizer(meta *Metadata) *protocol.GGUFTokenizer {
	id := func(name string) int32 { return meta.ID("tokenizer.ggml." + name) }
	flag := func(name string) *bool {
		if _, there := meta.values["tokenizer.ggml."+name]; !there {
			return nil
		}
		return new(meta.Flag("tokenizer.ggml." + name))
	}
	t := &protocol.GGUFTokenizer{Model: meta.Text("tokenizer.ggml.model"), Pre: meta.Text("tokenizer.ggml.pre"),
		Tokens: meta.Texts("tokenizer.ggml.tokens"), Merges: meta.Texts("tokenizer.ggml.merges"), BOSTokenID: id("bos_token_id"),
		EOSTokenID: id("eos_token_id"), UnknownTokenID: max(0, id("unknown_token_id")), AddBOS: flag("add_bos_token"),
		AddEOS: meta.Flag("tokenizer.ggml.add_eos_token"), AddSpacePrefix: flag("add_space_prefix"),
		RemoveExtraWhitespaces: meta.Flag("tokenizer.ggml.remove_extra_whitespaces")}
	for _, v := range meta.Numbers("tokenizer.ggml.token_type") {
		t.TokenTypes = append(t.TokenTypes, int32(v))
	}
	if t.Model != "gpt2" { // byte-level files have scores at times, which say nothing
		const scores = "tokenizer.ggml.scores"
		for _, v := range meta.Numbers(scores) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				meta.refuse(scores, v, "finite numbers")
				break
			}
			t.Scores = append(t.Scores, float32(v))
		}
		// llama.cpp goes by the model's name too.
		name := strings.ToLower(meta.Text("general.name"))
		t.SpecialsTakeSpaces = strings.Contains(name, "phi-3") || strings.Contains(name, "phi3")
	}
	return t
}

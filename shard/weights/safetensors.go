package weights

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"lockstep/protocol"
	"lockstep/protocol/regular"
)

// maxHeaderBytes bounds the JSON header of a safetensors file, as the format's reference implementation does.
const maxHeaderBytes = 100 << 20

func (f *Files) openDirectory(dir fs.FS, tensors bool, open func(name string) ([]byte, error)) error {
	eos, err := f.readConfig(dir)
	if err != nil {
		return err
	}
	if err = noAdapter(dir); err != nil {
		return err
	}
	if f.Tokenizer.HuggingFace, err = regular.ReadFS(dir, "tokenizer.json", protocol.MaxCardBytes); errors.Is(err, fs.ErrNotExist) {
		return errors.New("tokenizer.json is not there: fetch it with the model, or make it from the model's other tokenizer files with " +
			"transformers")
	} else if err != nil {
		return err
	}
	f.Tokenizer.HuggingFace = bytes.TrimPrefix(f.Tokenizer.HuggingFace, byteOrderMark)
	if f.Chat, err = chatOfDirectory(dir); err != nil {
		return err
	}
	if f.ends, err = endsOfDirectory(dir, f.Tokenizer.HuggingFace, eos, f.Chat.SpecialTokens); err != nil {
		return err
	}
	if err := f.defaultsOfDirectory(dir); err != nil {
		return err
	}
	if !tensors {
		return nil
	}
	quantisation, err := readQuantisation(dir, f.config)
	if err != nil {
		return err
	}
	if quantisation != nil {
		f.QuantMethod, f.quantisation = quantisation.Method, quantisation
	}
	files, err := safetensorsFiles(dir)
	if err != nil {
		return err
	}
	all := map[string]*stored{}
	for _, file := range files {
		data, err := open(file.name)
		if err != nil {
			return err
		}
		if err := f.addSafetensors(data, file.tensors, all); err != nil {
			return fmt.Errorf("%s: %w", file.name, err)
		}
	}
	return f.assemble(quantisation, all)
}

// readConfig reads config.json and returns its eos_token_id.
func (f *Files) readConfig(dir fs.FS) (eos json.RawMessage, err error) {
	data, err := regular.ReadFS(dir, "config.json", maxJSONBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no config.json: a directory in Hugging Face format has one")
	} else if err != nil {
		return nil, err
	}
	f.config = asGoReadsIt(data)
	var config struct {
		ModelType string          `json:"model_type"`
		EOS       json.RawMessage `json:"eos_token_id"`
	}
	err = parseJSON("config.json", f.config, &config)
	f.Architecture = config.ModelType
	return config.EOS, err
}

// noAdapter refuses a directory that transformers would serve with an adapter's weights added.
func noAdapter(dir fs.FS) error {
	const name = "adapter_config.json"
	if _, err := fs.Lstat(dir, name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: the directory has an adapter besides the model: give it a directory of its own and name that with "+
			"--lora-adapters, or take its files out", name)
	}
	return nil
}

// shardFile is a safetensors file of a directory, and the tensors that the index promises in it.
type shardFile struct {
	name    string
	tensors []string
}

const indexName = "model.safetensors.index.json"

// safetensorsFiles lists model.safetensors, or the files that the index names, or all that there are. It is the
// reference's order.
func safetensorsFiles(dir fs.FS) ([]shardFile, error) {
	if _, err := fs.Lstat(dir, "model.safetensors"); !errors.Is(err, fs.ErrNotExist) { // whatever it is, opening it tells
		return []shardFile{{name: "model.safetensors"}}, nil
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if found, err := readJSON(dir, indexName, &index); err != nil {
		return nil, err
	} else if found {
		return indexedFiles(dir, index.WeightMap)
	}
	names, err := fs.Glob(dir, "*.safetensors")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("there is no .safetensors file in the directory: fetch the model's weights in this format")
	}
	var files []shardFile
	for _, name := range names {
		stem, _, count, suffix := part(name)
		for number := 1; number <= count; number++ {
			if other := fmt.Sprintf("%s-%05d-of-%05d%s", stem, number, count, suffix); !slices.Contains(names, other) {
				return nil, fmt.Errorf("%s is missing, of which the name of %s tells: fetch all files of the model", other, name)
			}
		}
		files = append(files, shardFile{name: name})
	}
	return files, nil
}

// indexedFiles finds out which files of the index are missing.
func indexedFiles(dir fs.FS, files map[string]string) ([]shardFile, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no weight_map: fetch it anew", indexName)
	}
	promised := map[string][]string{}
	for tensor, name := range files {
		promised[name] = append(promised[name], tensor)
	}
	var list []shardFile
	for _, name := range slices.Sorted(maps.Keys(promised)) {
		if name == "" || name == ".." || strings.ContainsAny(name, "/\\") {
			return nil, fmt.Errorf("%s names %q outside the directory", indexName, name)
		}
		if _, err := fs.Lstat(dir, name); errors.Is(err, fs.ErrNotExist) {
			others, _ := fs.Glob(dir, "*.safetensors")
			others = slices.DeleteFunc(others, func(other string) bool { return promised[other] != nil })
			cure := ""
			if len(others) > 0 {
				cure = fmt.Sprintf("; or, if %s holds all of it, take the index away", strings.Join(others[:min(len(others), 3)], ", "))
			}
			return nil, fmt.Errorf("%s is missing, which %s names: fetch all files of the model%s", name, indexName, cure)
		}
		slices.Sort(promised[name])
		list = append(list, shardFile{name: name, tensors: promised[name]})
	}
	return list, nil
}

// tensorHeader describes a tensor of a safetensors file.
type tensorHeader struct {
	DataType string   `json:"dtype"`
	Shape    []int    `json:"shape"`
	Offsets  []uint64 `json:"data_offsets"`
}

var servedSafetensors = served(func(e encoding) bool { return e.safetensors != "" })

// torchTypes are PyTorch's names of encodings, which clients of its servers know.
var torchTypes = map[Encoding]string{F32: "torch.float32", F16: "torch.float16", BF16: "torch.bfloat16"}

// addSafetensors reads the header of a file (8 bytes length, JSON, data; https://github.com/huggingface/safetensors) and
// adds its tensors, among which the promised ones must be, also to all as they lie there.
func (f *Files) addSafetensors(data []byte, promised []string, all map[string]*stored) error {
	if len(data) < 8 {
		return errors.New("no safetensors header: fetch the file anew")
	}
	length := binary.LittleEndian.Uint64(data)
	if length > maxHeaderBytes || length > uint64(len(data)-8) {
		return fmt.Errorf("header of %d bytes in a file of %d: it is no safetensors file, or was cut off; fetch it anew", length, len(data))
	}
	var header map[string]json.RawMessage
	if err := parseJSON("its header", data[8:8+length], &header); err != nil {
		return err
	}
	payload := data[8+length:]
	places := map[string][2]uint64{}
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		var entry tensorHeader
		if err := parseJSON("tensor "+name, raw, &entry); err != nil {
			return err
		}
		if len(entry.Offsets) != 2 || entry.Offsets[0] > entry.Offsets[1] {
			return fmt.Errorf("tensor %s: %v are no places of its data", name, entry.Offsets)
		}
		if entry.Offsets[1] > uint64(len(payload)) {
			return fmt.Errorf("tensor %s ends at byte %d of the data, of which there are %d: the file was cut off; fetch it anew", name,
				entry.Offsets[1], len(payload))
		}
		places[name] = [2]uint64(entry.Offsets)
		tensor, err := entry.tensor(payload[entry.Offsets[0]:entry.Offsets[1]])
		all[name] = entry.stored(payload[entry.Offsets[0]:entry.Offsets[1]])
		if err := f.add(name, tensor, err); err != nil {
			return err
		}
	}
	if err := apart(places); err != nil {
		return err
	}
	for _, name := range promised {
		if _, ok := header[name]; !ok {
			return fmt.Errorf("tensor %s is missing, which %s promises in this file: fetch both anew; or, if the file is whole without "+
				"it, take the index away",
				name, indexName)
		}
	}
	return nil
}

// apart refuses tensors that share bytes.
func apart(places map[string][2]uint64) error {
	names := slices.SortedFunc(maps.Keys(places), func(a, b string) int {
		return cmp.Or(cmp.Compare(places[a][0], places[b][0]), cmp.Compare(places[a][1], places[b][1]), cmp.Compare(a, b))
	})
	for i, name := range names[min(1, len(names)):] {
		if before := names[i]; places[name][0] < places[before][1] {
			return fmt.Errorf("tensors %s and %s lie in the same bytes: fetch the file anew", before, name)
		}
	}
	return nil
}

// tensor returns the tensor, or why it cannot be used.
func (h *tensorHeader) tensor(data []byte) (Tensor, error) {
	encoding, ok := ofSafetensors(h.DataType)
	if !ok {
		return Tensor{}, fmt.Errorf("type %s is not served; %s are", h.DataType, servedSafetensors)
	}
	rows, columns := h.size()
	if rows < 1 || columns < 1 || len(data) != rows*encoding.RowBytes(columns) {
		return Tensor{}, fmt.Errorf("shape %v does not fit its %d bytes", h.Shape, len(data))
	}
	return Tensor{Encoding: encoding, Rows: rows, Columns: columns, data: data}, nil
}

// size returns the rows and columns; less than 1: it has no such size.
func (h *tensorHeader) size() (rows, columns int) {
	last := len(h.Shape) - 1
	if last < 0 {
		return 1, 1
	}
	if h.Shape[last] > MaxDimension {
		return 0, 0
	}
	return stacked(h.Shape[:last]), h.Shape[last]
}

// stored returns the tensor as it lies in the file; nil: its size is not that of its bytes.
func (h *tensorHeader) stored(data []byte) *stored {
	rows, columns := h.size()
	if rows < 1 || columns < 1 || len(data) != rows*columns*dataTypeBytes[h.DataType] {
		return nil
	}
	return &stored{h.DataType, rows, columns, data}
}

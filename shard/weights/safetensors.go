package weights

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"lockstep/shard/cpu"
)

// maxHeaderBytes bounds the JSON header of a safetensors file, as the format's reference implementation does.
const maxHeaderBytes = 100 << 20

func (m *Model) openDirectory(dir fs.FS, open func(name string) ([]byte, error)) error {
	var err error
	if m.Config, err = readHFConfig(dir); err != nil {
		return err
	}
	if m.Tokenizer.HuggingFace, err = fs.ReadFile(dir, "tokenizer.json"); err != nil {
		return err
	}
	if m.Chat, err = chatOfDirectory(dir); err != nil {
		return err
	}
	files, err := safetensorsFiles(dir)
	if err != nil {
		return err
	}
	for _, name := range files {
		data, err := open(name)
		if err == nil {
			err = m.addSafetensors(data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	m.DataType = map[cpu.Format]string{cpu.F32: "torch.float32", cpu.F16: "torch.float16", cpu.BF16: "torch.bfloat16"}[m.tensors["model.embed_tokens.weight"].Format]
	if m.Config.Architecture == "internlm2" {
		return m.splitQKV()
	}
	return nil
}

// safetensorsFiles lists the files that the index names, or model.safetensors, or all that there are.
func safetensorsFiles(dir fs.FS) ([]string, error) {
	if data, err := fs.ReadFile(dir, "model.safetensors.index.json"); err == nil {
		var index struct {
			WeightMap map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(data, &index); err != nil {
			return nil, fmt.Errorf("model.safetensors.index.json: %w", err)
		}
		seen := map[string]bool{}
		var files []string
		for _, name := range index.WeightMap {
			if strings.ContainsAny(name, "/\\") {
				return nil, fmt.Errorf("model.safetensors.index.json names %q outside the directory", name)
			}
			if !seen[name] {
				seen[name] = true
				files = append(files, name)
			}
		}
		sort.Strings(files)
		return files, nil
	}
	if _, err := fs.Stat(dir, "model.safetensors"); err == nil {
		return []string{"model.safetensors"}, nil
	}
	files, err := fs.Glob(dir, "*.safetensors")
	if err == nil && len(files) == 0 {
		err = errors.New("no .safetensors file in the directory")
	}
	return files, err
}

// addSafetensors reads the header of a file (8 bytes length, JSON, data; https://github.com/huggingface/safetensors) and
// adds its tensors.
func (m *Model) addSafetensors(data []byte) error {
	if len(data) < 8 {
		return errors.New("no safetensors header")
	}
	length := binary.LittleEndian.Uint64(data)
	if length > maxHeaderBytes || length > uint64(len(data)-8) {
		return fmt.Errorf("header of %d bytes in a file of %d", length, len(data))
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(data[8:8+length], &header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	payload := data[8+length:]
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		var entry struct {
			DataType string   `json:"dtype"`
			Shape    []int    `json:"shape"`
			Offsets  []uint64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &entry); err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
		format, ok := map[string]cpu.Format{"F32": cpu.F32, "F16": cpu.F16, "BF16": cpu.BF16}[entry.DataType]
		if !ok {
			if strings.HasSuffix(name, "rotary_emb.inv_freq") {
				continue
			}
			return fmt.Errorf("tensor %s: type %s is not served; F32, F16 and BF16 are", name, entry.DataType)
		}
		t := Tensor{Format: format, Rows: 1}
		switch len(entry.Shape) {
		case 1:
			t.Columns = entry.Shape[0]
		case 2:
			t.Rows, t.Columns = entry.Shape[0], entry.Shape[1]
		default:
			return fmt.Errorf("tensor %s has %d dimensions", name, len(entry.Shape))
		}
		if t.Rows < 1 || t.Columns < 1 || t.Rows > maxDimension || t.Columns > maxDimension || len(entry.Offsets) != 2 ||
			entry.Offsets[1] > uint64(len(payload)) || entry.Offsets[0] > entry.Offsets[1] ||
			entry.Offsets[1]-entry.Offsets[0] != uint64(t.Rows*format.RowBytes(t.Columns)) {
			return fmt.Errorf("tensor %s: shape %v does not fit its bytes %v of %d", name, entry.Shape, entry.Offsets, len(payload))
		}
		t.data = payload[entry.Offsets[0]:entry.Offsets[1]]
		if err := m.add(m.llamaName(name), t); err != nil {
			return err
		}
	}
	return nil
}

package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lockstep/protocol/regular"
)

// The files of a LoRA adapter in PEFT's format (https://huggingface.co/docs/peft/developer_guides/checkpoint).
const (
	AdapterConfigName  = "adapter_config.json"
	AdapterWeightsName = "adapter_model.safetensors"
)

// OpenAdapter opens a directory in PEFT's format. What its configuration says is read by Config. Its errors name the file that
// is wrong.
func OpenAdapter(path string) (*Files, error) {
	f := &Files{}
	return f.finish(f.openAdapter(os.DirFS(path), path, func(name string) ([]byte, error) { return f.mapFile(filepath.Join(path, name)) }))
}

// OpenAdapterFS opens an adapter that is held in memory.
func OpenAdapterFS(dir fs.FS) (*Files, error) {
	f := &Files{}
	return f.finish(f.openAdapter(dir, "", func(name string) ([]byte, error) { return regular.ReadFS(dir, name, maxJSONBytes<<10) }))
}

func (f *Files) openAdapter(dir fs.FS, path string, open func(name string) ([]byte, error)) error {
	data, err := regular.ReadFS(dir, AdapterConfigName, maxJSONBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there is no %s: an adapter is a directory in PEFT's format", path, AdapterConfigName)
	} else if err != nil {
		return err
	}
	f.config = asGoReadsIt(data)
	var anything map[string]json.RawMessage
	if err := parseJSON(filepath.Join(path, AdapterConfigName), f.config, &anything); err != nil {
		return err
	}
	if _, err := fs.Lstat(dir, AdapterWeightsName); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there is no %s: save the adapter in this format (peft's save_pretrained does)", path, AdapterWeightsName)
	}
	if data, err = open(AdapterWeightsName); err != nil {
		return err
	}
	if err := f.addSafetensors(data, nil, map[string]*stored{}); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(path, AdapterWeightsName), err)
	}
	return nil
}

// Size returns a tensor's rows and columns, 0 if there is none of this name.
func (f *Files) Size(name string) (rows, columns int) {
	return f.tensors[name].Rows, f.tensors[name].Columns
}

// Every returns those columns of a matrix of so many rows and columns that are step apart, from one on, as a matrix in memory.
func (f *Files) Every(name string, rows, columns, step, from int) (Tensor, error) {
	t, err := f.Tensor(name, rows, columns)
	if err != nil {
		return t, err
	}
	if !t.Encoding.Plain() {
		return t, fmt.Errorf("tensor %s: a matrix in %v cannot be cut by columns", name, t.Encoding)
	}
	size := t.Encoding.RowBytes(1)
	data := make([]byte, 0, rows*(columns/step)*size)
	for row := range rows {
		for column := from; column < columns; column += step {
			data = append(data, t.Row(row)[column*size:][:size]...)
		}
	}
	return Tensor{Encoding: t.Encoding, Rows: rows, Columns: columns / step, data: data}, nil
}

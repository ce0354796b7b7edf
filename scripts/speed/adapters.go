package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lockstep/shard/model"
	"lockstep/shard/weights"
)

const (
	adapterCount = 10
	adapterRank  = 16
)

// randomAdapters makes adapters for all projections of a made-up model's layers, in a folder.
func randomAdapters(dir string, source *model.Model) ([]*model.Adapter, error) {
	var adapters []*model.Adapter
	for i := range adapterCount {
		path := filepath.Join(dir, fmt.Sprint("adapter", i))
		if err := writeAdapter(path, source.Files, rand.New(rand.NewPCG(uint64(i), 1))); err != nil {
			return nil, err
		}
		adapter, err := model.OpenAdapter(fmt.Sprint("adapter", i), path)
		if err != nil {
			return nil, err
		}
		adapters = append(adapters, adapter)
	}
	return adapters, nil
}

func writeAdapter(path string, files *weights.Files, random *rand.Rand) error {
	header, payload := map[string]any{}, []byte(nil)
	add := func(name string, rows, columns int) {
		from := len(payload)
		for range rows * columns {
			payload = binary.LittleEndian.AppendUint16(payload, uint16(math.Float32bits(float32(random.NormFloat64()/64))>>16))
		}
		header[name] = map[string]any{"dtype": "BF16", "shape": []int{rows, columns}, "data_offsets": []int{from, len(payload)}}
	}
	for _, name := range files.Names() {
		rows, columns := files.Size(name)
		projection, found := strings.CutSuffix(name, "_proj.weight")
		if !found {
			continue
		}
		add("base_model.model."+projection+"_proj.lora_A.weight", adapterRank, columns)
		add("base_model.model."+projection+"_proj.lora_B.weight", rows, adapterRank)
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	config := fmt.Appendf(nil, `{"peft_type":"LORA","r":%d,"lora_alpha":%d}`, adapterRank, adapterRank)
	if err := os.WriteFile(filepath.Join(path, weights.AdapterConfigName), config, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(path, weights.AdapterWeightsName),
		slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, payload), 0o644)
}

package backendtest

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/model/modeltest"
)

// GPTQForm is how a matrix is quantised: to codes of so many bits, 0: not at all; Ordered says that the groups of its columns lie in any
// order, as desc_act has them.
type GPTQForm struct {
	Bits    int
	Ordered bool
}

// RandomGPTQ puts random matrices in GPTQ, in groups of so many columns, in the place of a model's projections: form says how that of a
// name, without .weight, is. Numbers of outputs and inputs must be multiples of 8.
func RandomGPTQ(t testing.TB, dir fstest.MapFS, group int, form func(name string) GPTQForm, random *rand.Rand) fstest.MapFS {
	t.Helper()
	tensors, all := FloatTensors(t, modeltest.OpenFS(t, dir).Files), map[string]StoredTensor{}
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		all[name] = tensors[name].Stored()
		stem := strings.TrimSuffix(name, ".weight")
		if f := form(stem); f.Bits > 0 && adaptable(name, tensors[name]) {
			delete(all, name)
			addGPTQ(all, stem, tensors[name].Shape, group, f, random)
		}
	}
	var config map[string]any
	if err := json.Unmarshal(dir["config.json"].Data, &config); err != nil {
		t.Fatal(err)
	}
	config["quantization_config"] = map[string]any{"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": true,
		"dynamic": map[string]any{"the sizes of tensors tell": map[string]any{}}}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	quantised := maps.Clone(dir)
	quantised["config.json"], quantised["model.safetensors"] = &fstest.MapFile{Data: text}, &fstest.MapFile{Data: SafetensorsOf(t, all)}
	return quantised
}

// addGPTQ adds the tensors of a matrix, whose values are of the size of a small model's.
func addGPTQ(all map[string]StoredTensor, stem string, shape []int, group int, form GPTQForm, random *rand.Rand) {
	rows, columns := shape[0], shape[1]
	groups := (columns-1)/group + 1
	words := func(suffix string, shape ...int) {
		tensor := StoredTensor{DataType: "I32", Shape: shape}
		for range shape[0] * shape[1] {
			tensor.Data = binary.LittleEndian.AppendUint32(tensor.Data, random.Uint32())
		}
		all[stem+suffix] = tensor
	}
	words(".qweight", columns*form.Bits/32, rows)
	words(".qzeros", groups, rows*form.Bits/32)
	scales := StoredTensor{DataType: "F16", Shape: []int{groups, rows}}
	least := 0x2000 - form.Bits/8*0x1000 // 2^-7 or, for codes of 8 bits, 2^-11
	for range groups * rows {
		scales.Data = binary.LittleEndian.AppendUint16(scales.Data, uint16(least+random.IntN(0x400)))
	}
	order := StoredTensor{DataType: "I32", Shape: []int{columns}}
	places := random.Perm(columns)
	for column := range columns {
		if form.Ordered {
			column = places[column]
		}
		order.Data = binary.LittleEndian.AppendUint32(order.Data, uint32(column/group))
	}
	all[stem+".scales"], all[stem+".g_idx"] = scales, order
}

package backendtest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights"
)

// FloatTensor is a tensor in float32.
type FloatTensor struct {
	Shape  []int
	Values []float32
}

// FloatTensors widens tensors. Vectors have one row.
func FloatTensors(t testing.TB, files *weights.Files) map[string]FloatTensor {
	t.Helper()
	all := map[string]FloatTensor{}
	for _, name := range files.Names() {
		rows, columns := files.Size(name)
		tensor, err := files.Tensor(name, rows, columns)
		if err != nil {
			t.Fatal(err)
		}
		wide := FloatTensor{Shape: []int{rows, columns}}
		for row := range rows {
			wide.Values = append(wide.Values, tensor.Floats(row, nil)...)
		}
		all[name] = wide
	}
	return all
}

// StoredTensor is a tensor as a file of safetensors has it.
type StoredTensor struct {
	DataType string
	Shape    []int
	Data     []byte
}

// Stored is a tensor as a file has it.
func (f FloatTensor) Stored() StoredTensor {
	s := StoredTensor{DataType: "F32", Shape: f.Shape}
	for _, v := range f.Values {
		s.Data = binary.LittleEndian.AppendUint32(s.Data, math.Float32bits(v))
	}
	return s
}

// Safetensors writes tensors in float32.
func Safetensors(t testing.TB, tensors map[string]FloatTensor) []byte {
	t.Helper()
	all := map[string]StoredTensor{}
	for name, tensor := range tensors {
		all[name] = tensor.Stored()
	}
	return SafetensorsOf(t, all)
}

// SafetensorsOf writes tensors of any types.
func SafetensorsOf(t testing.TB, tensors map[string]StoredTensor) []byte {
	t.Helper()
	header, payload := map[string]any{}, []byte(nil)
	for name, tensor := range tensors {
		header[name] = map[string]any{"dtype": tensor.DataType, "shape": tensor.Shape,
			"data_offsets": []int{len(payload), len(payload) + len(tensor.Data)}}
		payload = append(payload, tensor.Data...)
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, payload)
}

// adaptable reports whether a tensor is a projection of a layer.
func adaptable(name string, tensor FloatTensor) bool {
	layer := strings.Contains(name, "layers.") || strings.Contains(name, ".h.")
	return layer && tensor.Shape[0] > 1 && strings.HasSuffix(name, ".weight")
}

// AdapterAlpha is the lora_alpha of random adapters.
const AdapterAlpha = 3

const adapterConfig = `{"peft_type":"LORA","r":%d,"lora_alpha":%d,"bias":"none"}`

// RandomAdapter makes an adapter for all projections of a model whose names hold a text.
func RandomAdapter(t testing.TB, dir fstest.MapFS, rank int, only string, random *rand.Rand) fstest.MapFS {
	t.Helper()
	tensors, adapter := FloatTensors(t, modeltest.OpenFS(t, dir).Files), map[string]FloatTensor{}
	matrix := func(rows, columns int) FloatTensor {
		tensor := FloatTensor{Shape: []int{rows, columns}}
		for range rows * columns {
			tensor.Values = append(tensor.Values, float32(random.NormFloat64()*0.15))
		}
		return tensor
	}
	var names []string
	for name, tensor := range tensors {
		if adaptable(name, tensor) && strings.Contains(name, only) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		outputs, inputs := tensors[name].Shape[0], tensors[name].Shape[1]
		if Transposed(name) {
			outputs, inputs = inputs, outputs
		}
		projection := "base_model.model." + strings.TrimSuffix(name, ".weight")
		adapter[projection+".lora_A.weight"], adapter[projection+".lora_B.weight"] = matrix(rank, inputs), matrix(outputs, rank)
	}
	return fstest.MapFS{"adapter_config.json": {Data: fmt.Appendf(nil, adapterConfig, rank, AdapterAlpha)},
		"adapter_model.safetensors": {Data: Safetensors(t, adapter)}}
}

// Transposed reports whether a tensor is stored as [inputs][outputs], as GPT-2's are.
func Transposed(name string) bool { return strings.HasPrefix(name, "transformer.h.") }

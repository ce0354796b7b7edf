package host_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights/weightstest"
)

// directory collects the tensors of a directory in Hugging Face format.
type directory struct {
	header  []string
	payload []byte
}

func (d *directory) add(name, dataType string, data []byte, shape ...int) {
	d.header = append(d.header, fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, dataType,
		strings.ReplaceAll(fmt.Sprint(shape), " ", ","), len(d.payload), len(d.payload)+len(data)))
	d.payload = append(d.payload, data...)
}

// open opens a Llama of the sizes of openTensors, with more keys in its configuration.
func (d *directory) open(t *testing.T, keys string) *model.Model {
	config := fmt.Sprintf(`{"model_type":"llama","hidden_size":%d,"intermediate_size":%d,"num_hidden_layers":1,"num_attention_heads":8,
		"vocab_size":%d,"max_position_embeddings":64%s}`, hidden, intermediate, vocabulary, keys)
	file := append(weightstest.Safetensors("{"+strings.Join(d.header, ",")+"}", 0), d.payload...)
	return modeltest.OpenFS(t, weightstest.Directory(config, map[string][]byte{"model.safetensors": file}))
}

// projections are the quantised matrices of a layer.
var projections = map[string][2]int{"self_attn.q_proj": {hidden, hidden}, "self_attn.k_proj": {hidden, hidden},
	"self_attn.v_proj": {hidden, hidden}, "self_attn.o_proj": {hidden, hidden}, "mlp.gate_proj": {intermediate, hidden},
	"mlp.up_proj": {intermediate, hidden}, "mlp.down_proj": {hidden, intermediate}}

// gptqModels writes a model in GPTQ, and one with its values in float32.
func gptqModels(t *testing.T, bits, group int, symmetric, ordered bool) (quantised, plain *model.Model) {
	rng := rand.New(rand.NewPCG(uint64(bits), uint64(group)))
	var q, p directory
	float := func(name string, deviation float64, shape ...int) {
		count := 1
		for _, n := range shape {
			count *= n
		}
		values := make([]float32, count)
		for i := range values {
			values[i] = float32(rng.NormFloat64() * deviation)
		}
		q.add(name, "F32", floats(values), shape...)
		p.add(name, "F32", floats(values), shape...)
	}
	float("model.embed_tokens.weight", 1, vocabulary, hidden)
	float("lm_head.weight", 0.1, vocabulary, hidden)
	for _, name := range []string{"model.norm.weight", "model.layers.0.input_layernorm.weight",
		"model.layers.0.post_attention_layernorm.weight"} {
		float(name, 1, hidden)
	}
	words := func(count int) (data []byte) {
		for range count {
			data = binary.LittleEndian.AppendUint32(data, rng.Uint32())
		}
		return data
	}
	for _, projection := range slices.Sorted(maps.Keys(projections)) {
		name, rows, columns := "model.layers.0."+projection, projections[projection][0], projections[projection][1]
		q.add(name+".qweight", "I32", words(rows*columns*bits/32), columns*bits/32, rows)
		groups := columns / group
		zeros := words(groups * rows * bits / 32)
		if symmetric {
			for i := range zeros {
				zeros[i] = map[int]byte{4: 0x77, 8: 0x7f}[bits]
			}
		}
		q.add(name+".qzeros", "I32", zeros, groups, rows*bits/32)
		var scales []byte
		for range groups * rows {
			scales = binary.LittleEndian.AppendUint16(scales, uint16(0x1400+rng.IntN(0x400)))
		}
		q.add(name+".scales", "F16", scales, groups, rows)
		order := make([]byte, 0, 4*columns)
		perm := rng.Perm(columns)
		for column := range columns {
			at := column
			if !ordered {
				at = perm[column]
			}
			order = binary.LittleEndian.AppendUint32(order, uint32(at/group))
		}
		q.add(name+".g_idx", "I32", order, columns)
	}
	quantised = q.open(t, fmt.Sprintf(`,"quantization_config":{"quant_method":"gptq","bits":%d,"group_size":%d}`, bits, group))
	for name, size := range projections {
		name := "model.layers.0." + name + ".weight"
		tensor, err := quantised.Files.Tensor(name, size[0], size[1])
		if err != nil {
			t.Fatal(err)
		}
		var values []float32
		for row := range size[0] {
			values = append(values, tensor.Floats(row, nil)...)
		}
		p.add(name, "F32", floats(values), size[0], size[1])
	}
	return quantised, p.open(t, "")
}

// Quantised safetensors compute the bits of their weights in float32 on any number of shards, whether their codes are brought
// into blocks, have zero points, or have columns whose groups lie in any order.
func TestGPTQ(t *testing.T) {
	for _, c := range []struct {
		bits, group        int
		symmetric, ordered bool
	}{{4, 32, true, true}, {4, 128, true, true}, {4, 64, false, true}, {4, 32, false, false}, {4, 256, true, true}, {8, 128, true, true},
		{8, 32, false, true}, {8, 64, true, false}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			quantised, plain := gptqModels(t, c.bits, c.group, c.symmetric, c.ordered)
			equalLogits(t, quantised, plain)
		})
	}
}

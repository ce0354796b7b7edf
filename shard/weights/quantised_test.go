package weights_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// weightsCheck are values of some tensors of a reference checkpoint.
type weightsCheck struct {
	Tensors []struct {
		Name   string    `json:"name"`
		Shape  []int     `json:"shape"`
		First  []float32 `json:"first16"`
		Last   []float32 `json:"last16"`
		Sum    float64   `json:"sum"`
		AbsSum float64   `json:"abs_sum"`
	} `json:"tensors"`
}

// Every published format of quantised safetensors gives the weights that its own library makes of it, exactly.
func TestQuantisedGolden(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(outside.Shared(t, "golden", "quant"), "*", "weights_check.json"))
	if err != nil || len(paths) < 20 {
		t.Fatalf("got %d checkpoints, %v", len(paths), err)
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var want weightsCheck
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			files, err := weights.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer files.Close()
			for _, tensor := range want.Tensors {
				rows := 1
				for _, size := range tensor.Shape[:len(tensor.Shape)-1] {
					rows *= size
				}
				columns := tensor.Shape[len(tensor.Shape)-1]
				name := strings.TrimSuffix(tensor.Name, ".weight") + ".weight" // gpt_oss names experts without
				got, err := files.Tensor(name, rows, columns)
				if err != nil {
					t.Fatal(err)
				}
				var all []float32
				sum, absSum := 0.0, 0.0
				for row := range rows {
					all = append(all, got.Floats(row, nil)...)
				}
				for _, v := range all {
					sum, absSum = sum+float64(v), absSum+math.Abs(float64(v))
				}
				for i, v := range tensor.First {
					near(t, tensor.Name+" begins", all[i], v)
				}
				for i, v := range tensor.Last {
					near(t, tensor.Name+" ends", all[len(all)-len(tensor.Last)+i], v)
				}
				if math.Abs(sum-tensor.Sum) > 1e-8*tensor.AbsSum || math.Abs(absSum-tensor.AbsSum) > 1e-8*tensor.AbsSum {
					t.Errorf("%s: the sums are %v and %v, want %v and %v", tensor.Name, sum, absSum, tensor.Sum, tensor.AbsSum)
				}
			}
			for _, name := range files.Names() {
				for _, part := range []string{"qweight", "scale", "zero", "g_idx", "packed", "shape", "blocks"} {
					if strings.Contains(name, part) {
						t.Errorf("%s is listed, and is a part of a matrix", name)
					}
				}
			}
		})
	}
}

// near compares with a number that is written with 9 digits.
func near(t *testing.T, what string, got, want float32) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// part is a tensor of a quantised checkpoint.
type part struct {
	name, dataType string
	shape          string
	data           []byte
}

// words are little-endian 32-bit numbers.
func words(values ...uint32) (data []byte) {
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, v)
	}
	return data
}

// checkpoint opens a directory with a quantization_config and these tensors.
func checkpoint(quantisation string, parts ...part) (*weights.Files, error) {
	header, payload := []string{}, []byte{}
	for _, p := range parts {
		header = append(header, fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, p.name, p.dataType, p.shape, len(payload),
			len(payload)+len(p.data)))
		payload = append(payload, p.data...)
	}
	file := weightstest.Safetensors("{"+strings.Join(header, ",")+"}", len(payload))
	copy(file[len(file)-len(payload):], payload)
	config := weightstest.Config
	if quantisation != "" {
		config = weightstest.With("llama", `"quantization_config":`+quantisation)
	}
	return weights.OpenFS(weightstest.Directory(config, map[string][]byte{"model.safetensors": file}))
}

// gptqParts are a matrix of 8 outputs and 8 inputs, every code 9, in two groups whose scales are 1 and whose zero points are 8
// and 7 in the format with one added.
func gptqParts() []part {
	scales := bytes.Repeat([]byte{0x00, 0x3c}, 16)
	return []part{
		{"a.qweight", "I32", "[1,8]", words(slices.Repeat([]uint32{0x99999999}, 8)...)},
		{"a.qzeros", "I32", "[2,1]", words(0x77777777, 0x66666666)},
		{"a.scales", "F16", "[2,8]", scales},
		{"a.g_idx", "I32", "[8]", words(1, 0, 1, 0, 0, 0, 1, 1)},
		{"a.bias", "F16", "[8]", make([]byte, 16)},
	}
}

const gptqConfig = `{"quant_method":"gptq","bits":4,"group_size":4}`

func TestGPTQ(t *testing.T) {
	m, err := checkpoint(gptqConfig, gptqParts()...)
	if err != nil {
		t.Fatal(err)
	}
	tensor, err := m.Tensor("a.weight", 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	if got := tensor.Floats(7, nil); !slices.Equal(got, []float32{2, 1, 2, 1, 1, 1, 2, 2}) {
		t.Errorf("got %v", got)
	}
	if names := m.Names(); !slices.Equal(names, []string{"a.weight"}) || !m.Has("a.bias") {
		t.Errorf("got %v; a bias of zeros is there, and not worth a word", names)
	}
	before := m.Fingerprint(nil)
	for i := range gptqParts()[:4] {
		parts := gptqParts()
		parts[i].data[0] ^= 1
		if parts[i].name == "a.g_idx" {
			parts[i].data[4] = 1
		}
		if other, err := checkpoint(gptqConfig, parts...); err != nil || other.Fingerprint(nil) == before {
			t.Errorf("%s counts nothing in the fingerprint (%v)", parts[i].name, err)
		}
	}
	parts := gptqParts()
	parts[4].data[3] = 0x3c
	if m, err := checkpoint(gptqConfig, parts...); err != nil || !slices.Contains(m.Names(), "a.bias") {
		t.Errorf("a bias that is not zero is not listed (%v)", err)
	}
}

// A matrix that cannot be put together does not keep a model from being opened; whoever needs it learns why.
func TestQuantisedParts(t *testing.T) {
	without := func(parts []part, i int) []part { return slices.Delete(parts, i, i+1) }
	change := func(i int, p part) []part {
		parts := gptqParts()
		parts[i] = p
		return parts
	}
	float8 := part{"a.weight", "F8_E4M3", "[8,8]", make([]byte, 64)}
	const fp8, packed = `{"quant_method":"fp8"}`, `{"quant_method":"compressed-tensors","format":"pack-quantized"}`
	for name, c := range map[string]struct {
		config string
		parts  []part
		want   string
	}{
		"no zero points":    {gptqConfig, without(gptqParts(), 1), "it lacks a.qzeros"},
		"no scales":         {gptqConfig, without(gptqParts(), 2), "it lacks a.scales"},
		"short zero points": {gptqConfig, change(1, part{"a.qzeros", "I32", "[1,1]", words(0)}), "do not fit each other"},
		"other scales": {gptqConfig, change(2, part{"a.scales", "I32", "[2,8]", words(make([]uint32, 16)...)}),
			"do not fit each other"},
		"absent group": {gptqConfig, change(3, part{"a.g_idx", "I32", "[8]", words(0, 1, 2, 0, 0, 0, 0, 0)}), "column 2 into group 2"},
		"negative group": {gptqConfig, change(3, part{"a.g_idx", "I32", "[8]", words(0, 0xffffffff, 0, 0, 0, 0, 0, 0)}),
			"into group -1"},
		"other group size": {`{"quant_method":"gptq","bits":4,"group_size":8}`, without(gptqParts(), 3),
			"2 groups of 8 columns are not those of group_size 8"},
		"no scale":     {fp8, []part{float8}, "it lacks a.weight_scale"},
		"three scales": {fp8, []part{float8, {"a.weight_scale", "F32", "[3]", make([]byte, 12)}}, "1 x 3 scales do not fit"},
		"scales of scales": {fp8, []part{float8, {"a.weight_scale", "U8", "[8]", make([]byte, 8)}},
			"scales of type U8 are not served"},
		"no shape": {packed, []part{{"a.weight_packed", "I32", "[8,1]", words(make([]uint32, 8)...)},
			{"a.weight_scale", "BF16", "[8,1]", make([]byte, 16)}}, "it lacks a.weight_shape"},
		"other shape": {packed, []part{{"a.weight_packed", "I32", "[8,1]", words(make([]uint32, 8)...)},
			{"a.weight_scale", "BF16", "[8,1]", make([]byte, 16)},
			{"a.weight_shape", "I64", "[2]", words(8, 0, 99, 0)}}, "do not fit weight_shape"},
		"uneven groups": {packed, []part{{"a.weight_packed", "I32", "[8,1]", words(make([]uint32, 8)...)},
			{"a.weight_scale", "BF16", "[8,3]", make([]byte, 48)},
			{"a.weight_shape", "I64", "[2]", words(8, 0, 8, 0)}}, "not shared evenly by 3 scales"},
	} {
		m, err := checkpoint(c.config, c.parts...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := m.Tensor("a.weight", 8, 8); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}

// bfloats are numbers in BF16.
func bfloats(values ...float32) (data []byte) {
	for _, v := range values {
		data = binary.LittleEndian.AppendUint16(data, uint16(math.Float32bits(v)>>16))
	}
	return data
}

// Modules of one checkpoint may differ in the sizes of codes, groups and blocks, and scales and zero points lie in several shapes.
func TestModulesThatDiffer(t *testing.T) {
	packed := func(groups string) string {
		return `{"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{` + groups + `}}`
	}
	const five, two = `"a":{"weights":{"group_size":5,"num_bits":4,"strategy":"group"}}`,
		`"b":{"weights":{"group_size":2,"strategy":"group"}}`
	nines := part{"a.weight_packed", "I32", "[8,1]", words(slices.Repeat([]uint32{0x99999999}, 8)...)}
	shape := part{"a.weight_shape", "I64", "[2]", words(8, 0, 8, 0)}
	pairs := part{"a.weight_scale", "BF16", "[8,2]", bfloats(slices.Repeat([]float32{1, 2}, 8)...)}
	const float8 = `{"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{` +
		`"a":{"weights":{"strategy":"block","block_structure":[4,8]}},"b":{"weights":{"strategy":"block","block_structure":"2x3"}}}}`
	bytes8 := part{"a.weight", "F8_E4M3", "[8,8]", bytes.Repeat([]byte{0x38}, 64)} // ones
	integers := part{"a.weight", "I8", "[8,8]", bytes.Repeat([]byte{3}, 64)}
	for name, c := range map[string]struct {
		config string
		parts  []part
		row    int
		want   []float32
	}{
		"codes of 8 bits among those of 4": {`{"quant_method":"gptq","bits":4,"group_size":8,"dynamic":{"+:a":{"bits":8,"group_size":4}}}`,
			[]part{{"a.qweight", "I32", "[2,8]", words(slices.Repeat([]uint32{0x84838281}, 16)...)},
				{"a.qzeros", "I32", "[2,2]", words(0x7f7f7f7f, 0x7f7f7f7f, 0x7e7e7e7e, 0x7e7e7e7e)},
				{"a.scales", "BF16", "[2,8]", bfloats(slices.Repeat([]float32{1}, 16)...)}},
			3, []float32{1, 2, 3, 4, 2, 3, 4, 5}},
		"last group cut": {packed(five + "," + `"b":{"weights":{"group_size":null}}`), []part{nines, shape, pairs}, 0,
			[]float32{1, 1, 1, 1, 1, 2, 2, 2}},
		"groups of other sizes": {packed(five + "," + two), []part{nines, shape,
			{"a.weight_scale", "BF16", "[8,4]", bfloats(slices.Repeat([]float32{1, 2, 3, 4}, 8)...)}}, 7,
			[]float32{1, 1, 2, 2, 3, 3, 4, 4}},
		"one scale for all": {packed(five), []part{nines, shape, {"a.weight_scale", "BF16", "[1]", bfloats(3)}}, 2,
			[]float32{3, 3, 3, 3, 3, 3, 3, 3}},
		"zero points in bytes": {packed(five), []part{nines, shape, pairs,
			{"a.weight_zero_point", "I8", "[8,2]", slices.Repeat([]byte{0xfe, 1}, 8)}}, 1, []float32{3, 3, 3, 3, 3, 0, 0, 0}},
		"one zero point in a byte": {packed(five), []part{nines, shape, {"a.weight_scale", "BF16", "[1]", bfloats(2)},
			{"a.weight_zero_point", "I8", "[1]", []byte{0xff}}}, 5, []float32{4, 4, 4, 4, 4, 4, 4, 4}},
		"one zero point of integers": {`{"quant_method":"compressed-tensors"}`, []part{integers,
			{"a.weight_scale", "BF16", "[1]", bfloats(2)}, {"a.weight_zero_point", "I8", "[1]", []byte{0xff}}}, 5,
			[]float32{8, 8, 8, 8, 8, 8, 8, 8}},
		"blocks of the first size": {float8, []part{bytes8, {"a.weight_scale", "F32", "[2,1]", words(0x3f800000, 0x40000000)}}, 4,
			[]float32{2, 2, 2, 2, 2, 2, 2, 2}},
		"blocks of the second size": {float8, []part{bytes8, {"a.weight_scale", "BF16", "[4,3]",
			bfloats(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)}}, 3, []float32{4, 4, 4, 5, 5, 5, 6, 6}},
		"AutoRound's GPTQ": {`{"quant_method":"auto-round","packing_format":"auto_round:auto_gptq","bits":4,"group_size":4}`, gptqParts(),
			0,
			[]float32{2, 1, 2, 1, 1, 1, 2, 2}},
		"AutoRound's own": {`{"quant_method":"auto-round","packing_format":"auto_round","bits":4,"group_size":8,"extra_config":` +
			`{"a":{"bits":4,"group_size":4}}}`, slices.Delete(gptqParts(), 3, 4), 0, []float32{2, 2, 2, 2, 3, 3, 3, 3}},
		"GPTQModel's names": {`{"method":"gptq","bits":4,"group_size":4,"format":"gptq_v2"}`, gptqParts(), 0,
			[]float32{3, 2, 3, 2, 2, 2, 3, 3}},
	} {
		m, err := checkpoint(c.config, c.parts...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		tensor, err := m.Tensor("a.weight", 8, 8)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := tensor.Floats(c.row, nil); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// Groups whose size the configuration leaves open are not guessed.
func TestGroupsThatMayBeTwo(t *testing.T) {
	m, err := checkpoint(`{"quant_method":"compressed-tensors","config_groups":{"a":{"weights":{"group_size":5}},`+
		`"b":{"weights":{"group_size":6}}}}`, part{"a.weight_packed", "I32", "[8,1]", words(make([]uint32, 8)...)},
		part{"a.weight_shape", "I64", "[2]", words(8, 0, 8, 0)}, part{"a.weight_scale", "BF16", "[8,2]", make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	const want = "2 groups of 8 columns may be of 5 or 6 columns"
	if _, err := m.Tensor("a.weight", 8, 8); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v", err)
	}
}

// What says how weights are quantised stands in other places too.
func TestPlacesOfQuantisation(t *testing.T) {
	file := weightstest.OneTensor("a")
	for _, keys := range []string{`"quantization_config":{"quant_method":"fp8"}`, `"compression_config":{"quant_method":"fp8"}`,
		`"text_config":{"quantization_config":{"quant_method":"fp8"}}`} {
		m, err := weights.OpenFS(weightstest.Directory(weightstest.With("llama", keys), map[string][]byte{"model.safetensors": file}))
		if err != nil || m.QuantMethod != "fp8" {
			t.Errorf("%s: got %v", keys, err)
		}
	}
}

// ModelOpt says it in config.json or in a file of its own; of its formats fp8 by tensor is served.
func TestModelOpt(t *testing.T) {
	file := weightstest.OneTensor("a")
	for _, c := range []struct{ keys, own, want string }{
		{`"quantization_config":{"quant_method":"modelopt","quant_algo":"FP8"}`, "", ""},
		{`"quantization_config":{"quant_method":"modelopt","quant_algo":"NVFP4"}`, "",
			"quantization_config: quant_algo NVFP4 is not served"},
		{`"use_cache":true`, `{"producer":{"name":"modelopt"},"quantization":{"quant_algo":"FP8","kv_cache_quant_algo":"FP8"}}`, ""},
		{`"use_cache":true`, `{"quantization":{"quant_algo":"W4A8_AWQ"}}`, "hf_quant_config.json: quant_algo W4A8_AWQ is not served"},
		{`"use_cache":true`, `{"quantization":4}`, "hf_quant_config.json: quantization is a JSON number"},
	} {
		files := map[string][]byte{"model.safetensors": file}
		if c.own != "" {
			files["hf_quant_config.json"] = []byte(c.own)
		}
		m, err := weights.OpenFS(weightstest.Directory(weightstest.With("llama", c.keys), files))
		if c.want == "" && (err != nil || m.QuantMethod != "modelopt") || c.want != "" &&
			(err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: got error %v", c.keys, c.own, err)
		}
	}
	m, err := checkpoint(`{"quant_method":"modelopt","quant_algo":"FP8"}`, part{"a.weight", "F8_E4M3", "[8,8]",
		bytes.Repeat([]byte{0x38}, 64)}, part{"a.weight_scale", "F32", "[]", words(0x40400000)}, part{"a.k_scale", "F32", "[]", words(0)})
	if err != nil {
		t.Fatal(err)
	}
	tensor, err := m.Tensor("a.weight", 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	if got := tensor.Floats(3, nil)[3]; got != 3 || !slices.Equal(m.Names(), []string{"a.weight"}) {
		t.Errorf("got %v and %v", got, m.Names())
	}
}

// GPTQ stores the transposed matrices of GPT-2 as it does all others.
func TestTransposedGPTQ(t *testing.T) {
	m, err := checkpoint(gptqConfig, gptqParts()...)
	if err != nil {
		t.Fatal(err)
	}
	tensor, err := m.Transposed("a.weight", 1, 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	if got := tensor.Floats(7, nil); !slices.Equal(got, []float32{2, 1, 2, 1, 1, 1, 2, 2}) {
		t.Errorf("got %v", got)
	}
}

// What a configuration says and is not served is refused in one sentence that tells what is.
func TestQuantisationErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"bits":4}`: "it names no quant_method; gptq (4 and 8 " +
			"bits)",
		`{"quant_method":"bitsandbytes"}`:                                                                                  `quant_method "bitsandbytes" is not served; gptq`,
		`{"quant_method":"gptq","bits":2}`:                                                                                 "bits 2 is not served",
		`{"quant_method":"gptq","bits":4,"is_marlin_format":true}`:                                                         "format marlin is not served",
		`{"quant_method":"gptq","bits":4,"checkpoint_format":"bitblas"}`:                                                   "format bitblas is not served",
		`{"quant_method":"awq","bits":4,"version":"gemv"}`:                                                                 "version gemv is not served",
		`{"quant_method":"awq","bits":4,"checkpoint_format":"gemv_fast"}`:                                                  "version gemv_fast is not served",
		`{"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"a":{"weights":{"num_bits":7}}}}`: "num_bits 7",
		`{"quant_method":"compressed-tensors","sparsity_config":{"format":"sparse-24-bitmask"}}`:                           "sparsity_config of format sparse-24-bitmask",
		`{"quant_method":"fp8","fmt":"e5m2"}`:                                                                              "fmt e5m2 is not served",
		`{"quant_method":"compressed-tensors","format":"marlin-24"}`:                                                       "format marlin-24 is not served",
		`{"quant_method":"compressed-tensors","transform_config":{"config_groups":{"a":1}}}`:                               "transform_config",
		`{"quant_method":4}`: "quant_method is a JSON number",
		"": "neither config.json " +
			"(quantization_config) nor quantize_config.json says how",
		`{"quant_method":"auto-round","bits":4,"packing_format":"auto_round:llm_compressor"}`:      `packing_format "auto_round:llm_compressor"`,
		`{"quant_method":"auto-round","bits":4,"packing_format":"auto_round","act_bits":8}`:        "act_bits 8 is not served",
		`{"quant_method":"auto-round","bits":4,"packing_format":"auto_round","data_type":"mx_fp"}`: `data_type "mx_fp" is not served`,
		`{"quant_method":"gptq","bits":4,"rotation":"hadamard"}`:                                   `rotation "hadamard" is not served`,
		`{"quant_method":"fp8","weight_scale_semantics":"inverse"}`: "weight_scale_semantics inverse is " +
			"not served",
	} {
		if _, err := checkpoint(config, gptqParts()...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", config, err, want)
		}
	}
}

// What says how others quantise activations is not listed as if the model lacked something.
func TestActivationScales(t *testing.T) {
	parts := []part{{"a.weight", "F8_E4M3", "[8,8]", bytes.Repeat([]byte{0x38}, 64)}, {"a.weight_scale_inv", "BF16", "[]", bfloats(2)}}
	for _, name := range []string{"activation_scale", "input_scale", "output_scale", "output_zero_point"} {
		parts = append(parts, part{"a." + name, "BF16", "[1]", bfloats(4)})
	}
	m, err := checkpoint(`{"quant_method":"fp8","activation_scheme":"static","weight_block_size":null}`, parts...)
	if err != nil {
		t.Fatal(err)
	}
	tensor, err := m.Tensor("a.weight", 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	if got := tensor.Floats(7, nil)[7]; got != 2 || !slices.Equal(m.Names(), []string{"a.weight"}) {
		t.Errorf("got %v and %v", got, m.Names())
	}
}

// AutoAWQ scales the activations of some families; without these scales others would be computed.
func TestScaledActivations(t *testing.T) {
	_, err := checkpoint(`{"quant_method":"awq","bits":4,"group_size":4}`, part{"model.layers.0.mlp.act.scales", "F16", "[8]",
		make([]byte, 16)})
	if err == nil || !strings.Contains(err.Error(), "model.layers.0.mlp.act.scales divides what an activation gives") {
		t.Errorf("got error %v", err)
	}
}

// No header of tensors and no bytes in them stop a reader of quantised matrices.
func FuzzQuantised(f *testing.F) {
	configs := []string{gptqConfig, `{"quant_method":"gptq","bits":8,"group_size":-1,"format":"gptq_v2"}`,
		`{"quant_method":"awq","bits":4,"group_size":4}`, `{"quant_method":"compressed-tensors"}`,
		`{"quant_method":"fp8","weight_block_size":[2,3]}`, `{"quant_method":"mxfp4"}`,
		`{"quant_method":"gptq","bits":4,"group_size":3,"dynamic":{"a":{"group_size":5}}}`, `{"quant_method":"compressed-tensors",` +
			`"config_groups":{"a":{"weights":{"group_size":5}},"b":{"weights":{"block_structure":"2x3"}}}}`}
	for i, header := range []string{
		`{"a.qweight":{"dtype":"I32","shape":[1,8],"data_offsets":[0,32]},"a.qzeros":{"dtype":"I32","shape":[2,1],"data_offsets":[32,40]},` +
			`"a.scales":{"dtype":"F16","shape":[2,8],"data_offsets":[40,72]},"a.g_idx":{"dtype":"I32","shape":[8],"data_offsets":[72,104]}}`,
		`{"a.weight_packed":{"dtype":"I32","shape":[8,1],"data_offsets":[0,32]},"a.weight_shape":{"dtype":"I64","shape":[2],` +
			`"data_offsets":[32,48]},"a.weight_scale":{"dtype":"F16","shape":[8,2],"data_offsets":[48,80]}}`,
		`{"a.weight":{"dtype":"F8_E4M3","shape":[8,8],"data_offsets":[0,64]},"a.weight_scale":{"dtype":"F32","shape":[],` +
			`"data_offsets":[64,68]}}`,
		`{"a_blocks":{"dtype":"U8","shape":[2,1,2,16],"data_offsets":[0,64]},"a_scales":{"dtype":"U8","shape":[2,1,2],` +
			`"data_offsets":[64,68]}}`,
	} {
		f.Add(uint8(i), header, []byte(strings.Repeat("\x01\x00", 60)))
	}
	f.Fuzz(func(t *testing.T, config uint8, header string, payload []byte) {
		file := append(weightstest.Safetensors(header, 0), payload...)
		m, err := weights.OpenFS(weightstest.Directory(weightstest.With("llama",
			`"quantization_config":`+configs[int(config)%len(configs)]),
			map[string][]byte{"model.safetensors": file}))
		if err != nil {
			return
		}
		for _, name := range m.Names() {
			rows, columns := m.Size(name)
			if rows*columns > 1<<16 {
				continue
			}
			if tensor, err := m.Tensor(name, rows, columns); err == nil {
				for row := range rows {
					tensor.Floats(row, nil)
				}
			}
		}
	})
}

package weights_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// Damaged and foreign directories get an error that names what is wrong; none crashes or allocates what a header claims.
func TestDirectoryErrors(t *testing.T) {
	good := weightstest.OneTensor("a")
	for name, c := range map[string]struct {
		config string
		files  map[string][]byte
		want   string
	}{
		"no weights": {weightstest.Config, nil, "no .safetensors"},
		"header too long": {weightstest.Config, map[string][]byte{"model.safetensors": binary.LittleEndian.AppendUint64(nil, 1<<62)},
			"header of"},
		"offsets outside": {weightstest.Config,
			map[string][]byte{"model.safetensors": weightstest.Safetensors(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]}}`,
				24)}, "cut off"},
		"adapter": {weightstest.Config, map[string][]byte{"model.safetensors": good, "adapter_config.json": []byte("{}")},
			"adapter_config.json: the directory has an adapter"},
		"index outside": {weightstest.Config, map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"../b"}}`)},
			"outside the directory"},
	} {
		_, err := weights.OpenFS(weightstest.Directory(c.config, c.files))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
	m, err := weights.OpenFS(weightstest.Directory(weightstest.Config, map[string][]byte{"model.safetensors": good}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Tensor("a", 3, 2); err == nil {
		t.Error("a tensor of another shape was accepted")
	}
	if _, err := m.Tensor("b", 1, 1); err == nil {
		t.Error("a missing tensor was accepted")
	}
}

// What cannot be computed with does not keep a model from being opened; whoever needs it learns why it cannot be used.
func TestUnusableTensors(t *testing.T) {
	for name, c := range map[string]struct{ header, want string }{
		"scalar of integers": {`{"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}`, "tensor a: type I64 is not served"},
		"too many rows": {`{"a":{"dtype":"F32","shape":[16777216,16777216,16777216,2],"data_offsets":[0,8]}}`,
			"does not fit"},
		"eight bits":        {`{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}`, "type F8_E4M3 is not served"},
		"nothing":           {`{"a":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}`, "does not fit"},
		"overflowing shape": {`{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,8]}}`, "does not fit"},
	} {
		m, err := weights.OpenFS(weightstest.Directory(weightstest.Config,
			map[string][]byte{"model.safetensors": weightstest.Safetensors(c.header, 8)}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := m.Tensor("a", 1, 2); err == nil || !strings.Contains(err.Error(), c.want) || !m.Has("a") {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}

// Of the version of a GGUF file it is said what it is.
func TestGGUFVersions(t *testing.T) {
	for version, want := range map[uint32]string{2: "", 3: "", 1: "GGUF version 1 is not served", 4: "GGUF version 4 is not served",
		0: "GGUF version 0 is not served", 3 << 24: "this GGUF file is big-endian"} {
		data := weightstest.TinyGGUF(nil, "output.weight")
		binary.LittleEndian.PutUint32(data[4:], version)
		if _, err := openGGUF(t, data); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("version %d: got error %v, want %q", version, err, want)
		}
	}
}

// A tensor of n dimensions is the matrix of all its rows, and a scalar is a vector of one.
func TestStackedRows(t *testing.T) {
	header := `{"experts":{"dtype":"F32","shape":[3,2,4],"data_offsets":[0,96]},"scalar":{"dtype":"F32","shape":[],"data_offsets":[96,100]}}`
	data := weightstest.Safetensors(header, 100)
	for i := range 25 {
		binary.LittleEndian.PutUint32(data[len(data)-100+4*i:], math.Float32bits(float32(i)))
	}
	m, err := weights.OpenFS(weightstest.Directory(weightstest.Config, map[string][]byte{"model.safetensors": data}))
	if err != nil {
		t.Fatal(err)
	}
	gguf, err := openGGUF(t, weightstest.GGUF(weightstest.Metadata{"general.architecture": "llama"}, []weightstest.GGUFTensor{
		{Name: "experts", Dimensions: []int{4, 2, 3}, Data: data[len(data)-100 : len(data)-4]}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []*weights.Files{m, gguf} {
		experts, err := files.Tensor("experts", 3*2, 4)
		if err != nil {
			t.Fatal(err)
		}
		if row := experts.Floats(2*2+1, nil); row[0] != 20 || row[3] != 23 {
			t.Errorf("got %v for the last row of the last expert", row)
		}
	}
	if scalar, err := m.Vector("scalar", 1); err != nil || scalar[0] != 24 {
		t.Errorf("got %v, %v for a scalar", scalar, err)
	}
}

func openGGUF(t testing.TB, data []byte) (*weights.Files, error) {
	t.Helper()
	m, err := weights.Open(weightstest.Write(t, data))
	if err == nil {
		t.Cleanup(m.Close)
	}
	return m, err
}

func TestGGUFCutAnywhere(t *testing.T) {
	data := weightstest.TinyGGUF(nil, "output.weight")
	for cut := 1; cut < len(data); cut++ {
		if _, err := openGGUF(t, data[:cut]); err == nil {
			t.Fatalf("a file cut at %d of %d bytes was accepted", cut, len(data))
		}
	}
}

func FuzzGGUF(f *testing.F) {
	f.Add(weightstest.TinyGGUF(nil, "output.weight"))
	f.Fuzz(func(t *testing.T, data []byte) {
		weights.ParseGGUF(data)
	})
}

func FuzzSafetensors(f *testing.F) {
	f.Add(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`, uint16(24))
	f.Fuzz(func(t *testing.T, header string, payload uint16) {
		weights.OpenFS(weightstest.Directory(weightstest.Config,
			map[string][]byte{"model.safetensors": weightstest.Safetensors(header, int(payload))}))
	})
}

func ExampleFiles_Tensor() {
	m, err := weights.OpenFS(weightstest.Directory(weightstest.Config,
		map[string][]byte{"model.safetensors": weightstest.Safetensors(`{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}`, 6)}))
	if err != nil {
		fmt.Println(err)
		return
	}
	vector, err := m.Vector("a", 3)
	fmt.Println(vector, err)
	// Output: [0 0 0] <nil>
}

// A matrix of parts that are stored as [columns][rows] has the numbers of the transposed parts, also where it is in blocks.
func TestTransposedParts(t *testing.T) {
	const parts, rows, columns = 2, 32, 3 // of a part
	var plain, blocks []byte
	value := func(part, row, column int) int { return 100*part + 3*row - 7*column }
	for part := range parts {
		for column := range columns {
			blocks = append(blocks, 0, 0x3c) // a scale of 1
			for row := range rows {
				v := value(part, row, column)
				plain = binary.LittleEndian.AppendUint32(plain, math.Float32bits(float32(v)))
				blocks = append(blocks, byte(int8(v%100)))
			}
		}
	}
	shape := []int{rows, columns, parts}
	file, err := weights.Open(weightstest.Write(t, weightstest.GGUF(weightstest.Metadata{"general.architecture": "llama"},
		[]weightstest.GGUFTensor{{Name: "plain", Dimensions: shape, Data: plain},
			{Name: "blocks", Kind: 8, Dimensions: shape, Data: blocks}})))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, of := range map[string]int{"plain": math.MaxInt, "blocks": 100} {
		m, err := file.Transposed(name, parts, parts*rows, columns)
		if err != nil {
			t.Fatal(err)
		}
		if m.Encoding != weights.F32 || m.Rows != parts*rows || m.Columns != columns {
			t.Errorf("%s: got %d x %d in %v", name, m.Rows, m.Columns, m.Encoding)
		}
		for row := range m.Rows {
			for column, got := range m.Floats(row, nil) {
				if want := value(row/rows, row%rows, column) % of; got != float32(want) {
					t.Fatalf("%s: row %d, column %d is %v, want %d", name, row, column, got, want)
				}
			}
		}
		if _, err := file.Transposed(name, parts, parts*rows+parts, columns); err == nil || !strings.Contains(err.Error(), "wants 6 x 33") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

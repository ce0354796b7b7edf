package host_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/codes"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// codeBlocks are the block types of GGUF files that hold codes: their numbers, and where a block of them has numbers in half
// precision.
var codeBlocks = map[weights.Encoding]struct {
	kind   uint32
	halves []int
}{
	weights.Q5_0: {6, []int{0}}, weights.Q5_1: {7, []int{0, 2}}, weights.Q2_K: {10, []int{80, 82}}, weights.Q3_K: {11, []int{108}},
	weights.Q4_K: {12, []int{0, 2}}, weights.Q5_K: {13, []int{0, 2}}, weights.Q6_K: {14, []int{208}}, weights.IQ4_NL: {20, []int{0}},
	weights.IQ4_XS: {23, []int{0}}, weights.MXFP4: {39, nil},
}

// codeRows returns random rows of blocks with small scales.
func codeRows(rng *rand.Rand, e weights.Encoding, rows, columns int) []byte {
	data := make([]byte, rows*e.RowBytes(columns))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	size := e.RowBytes(e.BlockColumns())
	for at := 0; at < len(data); at += size {
		for _, half := range codeBlocks[e].halves {
			binary.LittleEndian.PutUint16(data[at+half:], uint16(0x0400+rng.IntN(0x1000)|rng.IntN(2)<<15))
		}
		if e == weights.MXFP4 {
			data[at] = byte(120 + rng.IntN(6))
		}
	}
	return data
}

// The sizes of the models below, of one layer with an MLP of 3 superblocks.
const hidden, intermediate, vocabulary = 256, 768, 40

// openTensors opens a GGUF file of the tensors.
func openTensors(t *testing.T, tensors []weightstest.GGUFTensor) *model.Model {
	m, err := model.Open(weightstest.Write(t, weightstest.GGUF(weightstest.Metadata{"general.architecture": "llama",
		"llama.embedding_length": uint32(hidden), "llama.feed_forward_length": uint32(intermediate), "llama.block_count": uint32(1),
		"llama.attention.head_count": uint32(8), "llama.context_length": uint32(64), "llama.vocab_size": uint32(vocabulary)}, tensors)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// floats are numbers as a tensor of float32 has them.
func floats(values []float32) (data []byte) {
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return data
}

// codesTensors are those of a model, once in an encoding and once with their values in float32.
func codesTensors(e weights.Encoding) (coded, plain []weightstest.GGUFTensor) {
	rng := rand.New(rand.NewPCG(uint64(e), 1))
	vector := func(name string) {
		values := make([]float32, hidden)
		for i := range values {
			values[i] = float32(1 + rng.NormFloat64()/8)
		}
		tensor := weightstest.GGUFTensor{Name: name, Dimensions: []int{hidden}, Data: floats(values)}
		coded, plain = append(coded, tensor), append(plain, tensor)
	}
	matrix := func(name string, rows, columns int) {
		data := codeRows(rng, e, rows, columns)
		coded = append(coded,
			weightstest.GGUFTensor{Name: name, Kind: codeBlocks[e].kind, Dimensions: []int{columns, rows}, Data: data})
		values := make([]float32, rows*columns)
		e.Decode(values, data)
		plain = append(plain, weightstest.GGUFTensor{Name: name, Dimensions: []int{columns, rows}, Data: floats(values)})
	}
	vector("output_norm.weight")
	vector("blk.0.attn_norm.weight")
	vector("blk.0.ffn_norm.weight")
	matrix("token_embd.weight", vocabulary, hidden)
	matrix("output.weight", vocabulary, hidden)
	for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
		matrix("blk.0."+name+".weight", hidden, hidden)
	}
	matrix("blk.0.ffn_gate.weight", intermediate, hidden)
	matrix("blk.0.ffn_up.weight", intermediate, hidden)
	matrix("blk.0.ffn_down.weight", hidden, intermediate)
	return coded, plain
}

// A model in codes computes the bits of the same weights in float32, on any number of shards that it divides into, though
// they cut superblocks.
func TestCodes(t *testing.T) {
	for e := range codeBlocks {
		t.Run(e.String(), func(t *testing.T) {
			coded, plain := codesTensors(e)
			equalLogits(t, openTensors(t, coded), openTensors(t, plain))
		})
	}
}

// equalLogits compares the logits of a model on 1, 2, 4 and 8 shards with those of another one.
func equalLogits(t *testing.T, got, want *model.Model) {
	t.Helper()
	prompt := []int32{3, 1, 4, 15, 9, 26, 5, 35, 8, 9, 7, 9, 3, 2, 38, 4, 6}
	rows := newGroup(t, want, 1, 1, cpu.Best()).Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
	if v := rows[0][0]; v != v || v-v != 0 {
		t.Fatalf("got a logit of %v", v)
	}
	for _, ranks := range []int{1, 2, 4, 8} {
		if ranks == 4 && !outside.All() {
			continue
		}
		s := newGroup(t, got, ranks, 1, cpu.Best()).Sequence(len(prompt))
		pieces := append(s.Compute(prompt[:5], model.LogitsAll), s.Compute(prompt[5:6], model.LogitsAll)...)
		pieces = append(pieces, s.Compute(prompt[6:], model.LogitsAll)...)
		if row := backendtest.FirstDifference(pieces, rows); row >= 0 {
			t.Errorf("%d shards: other logits behind token %d", ranks, row)
		}
	}
}

// Weights that are quantised while they are packed are those of the blocks, wherever shards cut them.
func TestQuantise(t *testing.T) {
	for name, encodings := range map[string][2]weights.Encoding{
		"int8": {weights.Q8_0, weights.Q8_0}, "int4": {weights.Q4_1, weights.Q8_0}} {
		coded, plain := codesTensors(weights.Q6_K)
		already := openTensors(t, coded)
		if _, err := already.Quantise(name); err != nil {
			t.Fatal(err)
		}
		if _, err := already.Part(0, 1); err == nil || !strings.Contains(err.Error(), "is quantised already (Q6_K)") {
			t.Errorf("%s of a model in Q6_K: got %v", name, err)
		}
		quantised := openTensors(t, plain)
		if _, err := quantised.Quantise(name); err != nil {
			t.Fatal(err)
		}
		files := openTensors(t, plain).Files
		for i, tensor := range plain {
			if len(tensor.Dimensions) < 2 || tensor.Name == "token_embd.weight" {
				continue
			}
			e := encodings[0]
			if tensor.Name == "output.weight" {
				e = encodings[1]
			}
			columns, rows := tensor.Dimensions[0], tensor.Dimensions[1]
			source, err := files.Tensor(tensor.Name, rows, columns)
			if err != nil {
				t.Fatal(err)
			}
			plain[i].Data = nil
			for row := range rows {
				plain[i].Data = append(plain[i].Data, floats(source.As(e).Floats(row, nil))...)
			}
		}
		equalLogits(t, quantised, openTensors(t, plain))
	}
}

// Packed, a matrix takes at most 1.1 times the bytes that it has in its file, also where a rank has a part of its columns.
func TestCodesMemory(t *testing.T) {
	const columns = 19 * 256
	for e := range codeBlocks {
		scheme := weights.Tensor{Encoding: e}.Scheme()
		for shards := 1; shards <= 8; shards *= 2 {
			packed := 0
			for rank := range shards {
				packed += cpu.CodedBytes(scheme, rank*columns/shards, 16, columns/shards)
			}
			if ratio := float64(packed) / float64(16*e.RowBytes(columns)); !(ratio >= 1 && ratio <= 1.1) {
				t.Errorf("%v on %d shards: packed is %.3f times the file", e, shards, ratio)
			}
		}
	}
	half, upper, whole := &codes.Scheme{Kind: codes.F16}, &codes.Scheme{Kind: codes.BF16}, &codes.Scheme{Kind: codes.F32}
	mixed := make([]int32, 4096)
	for i := range mixed {
		mixed[i] = int32(i * 7 % 32)
	}
	for name, c := range map[string]struct {
		scheme codes.Scheme
		bytes  float64 // of a row of 4096 columns in the file
	}{
		"int4 in groups of 128": {codes.Scheme{Kind: codes.Bits4, Group: 128, Scale: upper, Bias: -8}, 2048 + 32*2},
		"with zero points":      {codes.Scheme{Kind: codes.Bits4, Group: 128, Scale: half, Offset: half, Zero: true}, 2048 + 32*2.5},
		"in groups of 32":       {codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: half, Offset: half, Zero: true}, 2048 + 128*2.5},
		"in any order": {codes.Scheme{Kind: codes.Bits4, Index: mixed, Groups: 32, Scale: half, Offset: half, Zero: true},
			2048 + 32*2.5},
		"int4 by rows":          {codes.Scheme{Kind: codes.Bits4, Group: 4096, Scale: half, Bias: -8}, 2048 + 2},
		"int8 by rows":          {codes.Scheme{Kind: codes.Bits8, Group: 4096, Scale: upper, Bias: -128}, 4096 + 2},
		"int8, zero points, 32": {codes.Scheme{Kind: codes.Bits8, Group: 32, Scale: half, Offset: half, Zero: true}, 4096 + 128*3},
		"float8 with one scale": {codes.Scheme{Kind: codes.E4M3, Group: 4096, Scale: whole}, 4096},
		"float8 in blocks":      {codes.Scheme{Kind: codes.E4M3, Group: 128, Scale: whole}, 4096 + 32*4/128},
		"microscaled":           {codes.Scheme{Kind: codes.FP4, Group: 32, Scale: upper}, 2048 + 128},
	} {
		ratio := float64(cpu.CodedBytes(&c.scheme, 0, 16, 4096)) / (16 * c.bytes)
		if !(ratio >= 1 && ratio <= 1.1) {
			t.Errorf("%s: packed is %.3f times the file", name, ratio)
		}
	}
}

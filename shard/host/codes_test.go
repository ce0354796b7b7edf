package host_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

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

// codesModel writes a model of one layer with an MLP of 3 superblocks, once in an encoding and once with its values in float32.
func codesModel(t *testing.T, e weights.Encoding) (coded, plain *model.Model) {
	const hidden, intermediate, vocabulary = 256, 768, 40
	rng := rand.New(rand.NewPCG(uint64(e), 1))
	meta := weightstest.Metadata{"general.architecture": "llama", "llama.embedding_length": uint32(hidden),
		"llama.feed_forward_length": uint32(intermediate), "llama.block_count": uint32(1), "llama.attention.head_count": uint32(8),
		"llama.context_length": uint32(64), "llama.vocab_size": uint32(vocabulary)}
	var tensors, floats []weightstest.GGUFTensor
	vector := func(name string) {
		data := make([]byte, 0, 4*hidden)
		for range hidden {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(1+rng.NormFloat64()/8)))
		}
		tensor := weightstest.GGUFTensor{Name: name, Dimensions: []int{hidden}, Data: data}
		tensors, floats = append(tensors, tensor), append(floats, tensor)
	}
	matrix := func(name string, rows, columns int) {
		data := codeRows(rng, e, rows, columns)
		tensors = append(tensors,
			weightstest.GGUFTensor{Name: name, Kind: codeBlocks[e].kind, Dimensions: []int{columns, rows}, Data: data})
		values := make([]float32, rows*columns)
		e.Decode(values, data)
		var wide []byte
		for _, v := range values {
			wide = binary.LittleEndian.AppendUint32(wide, math.Float32bits(v))
		}
		floats = append(floats, weightstest.GGUFTensor{Name: name, Dimensions: []int{columns, rows}, Data: wide})
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
	open := func(tensors []weightstest.GGUFTensor) *model.Model {
		m, err := model.Open(weightstest.Write(t, weightstest.GGUF(meta, tensors)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
	return open(tensors), open(floats)
}

// A model in codes computes the bits of the same weights in float32, on any number of shards that it divides into, though
// they cut superblocks.
func TestCodes(t *testing.T) {
	prompt := []int32{3, 1, 4, 15, 9, 26, 5, 35, 8, 9, 7, 9, 3, 2, 38, 4, 6}
	for e := range codeBlocks {
		t.Run(e.String(), func(t *testing.T) {
			coded, plain := codesModel(t, e)
			want := newGroup(t, plain, 1, 1, cpu.Best()).sequence(len(prompt)).compute(prompt, model.LogitsAll)
			if v := want[0][0]; v != v || v-v != 0 {
				t.Fatalf("got a logit of %v", v)
			}
			for _, ranks := range []int{1, 2, 4, 8} {
				s := newGroup(t, coded, ranks, 1, cpu.Best()).sequence(len(prompt))
				got := append(s.compute(prompt[:5], model.LogitsAll), s.compute(prompt[5:6], model.LogitsAll)...)
				got = append(got, s.compute(prompt[6:], model.LogitsAll)...)
				if row := firstDifference(got, want); row >= 0 {
					t.Errorf("%d shards: other logits behind token %d", ranks, row)
				}
			}
		})
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
}

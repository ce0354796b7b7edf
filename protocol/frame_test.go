package protocol_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"lockstep/protocol"
)

func sampleFrame(rows, parts int, random *rand.Rand) *protocol.Frame {
	f := &protocol.Frame{
		Group:  protocol.GroupRef{Group: "node-1", Incarnation: random.Uint64()},
		Number: random.Uint64(), Step: random.Uint64(),
		Load:    protocol.Load{HeldTokens: 4096, CachedTokens: 64, Running: 3, Waiting: 2, Parked: 5},
		Account: protocol.Account{Requests: 3, Tokens: 77, Cancels: random.Uint64()},
	}
	for range rows {
		f.Add(random.Uint64(), random.IntN(1000), random.Int32N(50000), random.Float32(), protocol.Finish(random.IntN(3)))
		for range random.IntN(3) {
			f.AddAlternative(random.Int32N(50000), -random.Float32())
		}
	}
	for range parts {
		f.Begun = append(f.Begun, protocol.Begun{Request: random.Uint64(), Tokens: 100, Cached: 64})
	}
	for range parts {
		part := protocol.PromptPart{Request: random.Uint64(), Start: 1, Logprob: make([]float32, random.IntN(5))}
		for i := range part.Logprob {
			part.Logprob[i] = -random.Float32()
		}
		for range part.Logprob {
			if part.Request%2 == 0 {
				break
			}
			part.Alternatives = append(part.Alternatives, uint8(random.IntN(3)))
			for range part.Alternatives[len(part.Alternatives)-1] {
				part.TopToken, part.TopLogprob = append(part.TopToken, random.Int32N(50000)), append(part.TopLogprob, -random.Float32())
			}
		}
		f.Prompt = append(f.Prompt, part)
	}
	return f
}

func TestFrameRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var got protocol.Frame // reused, as a router does
	for rows := range 20 {
		want := sampleFrame(rows, rows%4, random)
		if err := protocol.DecodeFrame(&got, want.AppendTo(nil)); err != nil {
			t.Fatalf("rows %d: %v", rows, err)
		}
		if string(got.AppendTo(nil)) != string(want.AppendTo(nil)) || got.Group != want.Group {
			t.Fatalf("rows %d: got %+v, want %+v", rows, got, want)
		}
	}
}

// The bytes are the contract between processes of different builds: they change only together with Version.
func TestFrameGoldenBytes(t *testing.T) {
	f := protocol.Frame{Group: protocol.GroupRef{Group: "g", Incarnation: 7}, Number: 1, Step: 2,
		Load:    protocol.Load{HeldTokens: 16, CachedTokens: 48, Running: 1, Parked: 3},
		Account: protocol.Account{Requests: 2, Tokens: 40, Cancels: 5}}
	f.Add(9, 3, 42, -0.5, protocol.FinishEOS)
	f.AddAlternative(43, -0.25)
	f.Prompt = []protocol.PromptPart{{Request: 9, Start: 1, Logprob: []float32{-1, -2}, Alternatives: []uint8{0, 1}, TopToken: []int32{44},
		TopLogprob: []float32{-0.25}}}
	f.Begun = []protocol.Begun{{Request: 9, Tokens: 20, Cached: 16}}
	want := "4c4b5346" + "0400" + "0100" + "0700000000000000" + "0100000000000000" + "0200000000000000" +
		"10000000" + "30000000" + "01000000" + "00000000" + "03000000" + "01000000" +
		"02000000" + "28000000" + "0500000000000000" + "01000000" + "02000000" + "01000000" + "01000000" + "01000000" + "00000000" +
		"6700000000000000" + "0900000000000000" + "03000000" + "2a000000" + "000000bf" + "02" + "01" + "0000" +
		"0900000000000000" + "01000000" + "02000000" + "000080bf" + "000000c0" + "2c000000" + "000080be" + "0001" + "000000000000" +
		"0900000000000000" + "14000000" + "10000000" +
		"2b000000" + "000080be"
	got := hex.EncodeToString(f.AppendTo(nil))
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// A key names a block and all before it, under a salt.
func TestBlockKeys(t *testing.T) {
	tokens := []int32{1, 2, 3, 4, 5, 6, 7, 8, 9}
	under := func(adapter, salt string, tokens ...int32) []protocol.BlockKey {
		chain := protocol.NewKeyChain(adapter, salt)
		return chain.Keys(nil, tokens, 4)
	}
	keys := func(salt string, tokens ...int32) []protocol.BlockKey { return under("", salt, tokens...) }
	plain := keys("", tokens...)
	if len(plain) != 2 || plain[0] == plain[1] {
		t.Fatalf("got %x", plain)
	}
	if other := keys("", 1, 2, 3, 4, 5, 6, 7, 0); other[0] != plain[0] || other[1] == plain[1] {
		t.Errorf("a change in the second block: got %x, was %x", other, plain)
	}
	if other := keys("", 0, 2, 3, 4, 5, 6, 7, 8); other[1] == plain[1] {
		t.Error("the second key does not depend on the first block")
	}
	salted, again := keys("tenant", tokens...), keys("tenant", tokens...)
	if salted[0] == plain[0] || salted[0] != again[0] {
		t.Error("salts do not part keys, or not always alike")
	}
	seen := map[protocol.BlockKey]string{}
	for _, name := range [][2]string{{"", ""}, {"", "a"}, {"a", ""}, {"b", ""}, {"a", "b"}, {"ab", ""}, {"b", "a"}, {"", "ab"},
		{"a", "a"}} {
		key := under(name[0], name[1], tokens...)[0]
		if other, ok := seen[key]; ok {
			t.Errorf("adapter and salt %q share blocks with %s", name, other)
		}
		seen[key] = fmt.Sprintf("%q", name)
	}
	chain := protocol.NewKeyChain("", "")
	if chain.Next(tokens[:4]) != plain[0] || chain.Next(tokens[4:8]) != plain[1] {
		t.Error("block by block gives other keys")
	}
}

func TestSamplingValidate(t *testing.T) {
	nan := float32(math.NaN())
	for name, bad := range map[string]protocol.Sampling{
		"temperature NaN": {Temperature: nan}, "min_p above 1": {MinP: 1.5}, "negative minimum": {MinNewTokens: -1},
		"bias twice":      {LogitBias: []protocol.TokenBias{{ID: 1, Bias: 1}, {ID: 1, Bias: 2}}},
		"bias outside":    {LogitBias: []protocol.TokenBias{{ID: 9}}},
		"allowed outside": {AllowedTokenIDs: []int32{-1}}, "nothing left": {AllowedTokenIDs: []int32{3}, BannedTokenIDs: []int32{3}},
		"all banned": {BannedTokenIDs: []int32{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		"too many":   {BannedTokenIDs: make([]int32, protocol.MaxTokenList+1)},
	} {
		if bad.Validate(9) == nil {
			t.Errorf("%s was not refused", name)
		}
	}
	good := protocol.Sampling{Sample: true, Temperature: 0.7, FrequencyPenalty: -2, PresencePenalty: 2, AllowedTokenIDs: []int32{3, 4},
		BannedTokenIDs: []int32{3}}
	if err := good.Validate(9); err != nil {
		t.Error(err)
	}
}

func TestFrameRefusesEveryCut(t *testing.T) {
	data := sampleFrame(5, 2, rand.New(rand.NewPCG(3, 4))).AppendTo(nil)
	for cut := range data {
		var f protocol.Frame
		if err := protocol.DecodeFrame(&f, data[:cut]); !errors.Is(err, protocol.ErrFrame) {
			t.Fatalf("cut at %d: got %v, want ErrFrame", cut, err)
		}
	}
}

func TestDecodeAllocatesNothingWhenReused(t *testing.T) {
	data := sampleFrame(64, 0, rand.New(rand.NewPCG(5, 6))).AppendTo(nil)
	var f protocol.Frame
	allocations := testing.AllocsPerRun(100, func() {
		if err := protocol.DecodeFrame(&f, data); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 0 {
		t.Errorf("got %v allocations, want none", allocations)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	random := rand.New(rand.NewPCG(7, 8))
	for rows := range 4 {
		f.Add(sampleFrame(rows, rows, random).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second protocol.Frame
		if protocol.DecodeFrame(&first, data) != nil {
			return
		}
		if err := protocol.DecodeFrame(&second, first.AppendTo(nil)); err != nil {
			t.Fatalf("encoding of a decoded frame does not decode: %v", err)
		}
		if len(first.Request) != len(second.Request) || !reflect.DeepEqual(first.Token, second.Token) {
			t.Fatal("round trip changed the frame")
		}
	})
}

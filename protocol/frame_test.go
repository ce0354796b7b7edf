package protocol_test

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"lockstep/protocol"
)

func sampleFrame(rows, parts int, random *rand.Rand) *protocol.Frame {
	f := &protocol.Frame{
		Group:  protocol.GroupRef{Group: "node-1", Incarnation: random.Uint64()},
		Number: random.Uint64(), Step: random.Uint64(),
		Load: protocol.Load{HeldTokens: 4096, Running: 3, Waiting: 2},
	}
	for range rows {
		f.Add(random.Uint64(), random.IntN(1000), random.Int32N(50000), random.Float32(), protocol.Finish(random.IntN(3)))
	}
	for range parts {
		part := protocol.PromptPart{Request: random.Uint64(), Start: 1, Logprob: make([]float32, random.IntN(5))}
		for i := range part.Logprob {
			part.Logprob[i] = -random.Float32()
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
	f := protocol.Frame{Group: protocol.GroupRef{Group: "g", Incarnation: 7}, Number: 1, Step: 2, Load: protocol.Load{HeldTokens: 16, Running: 1}}
	f.Add(9, 3, 42, -0.5, protocol.FinishEOS)
	f.Prompt = []protocol.PromptPart{{Request: 9, Start: 1, Logprob: []float32{-1}}}
	want := "4c4b534601000100070000000000000001000000000000000200000000000000100000000100000000000000010000000100000001000000" +
		"6700000000000000" + "0900000000000000" + "03000000" + "2a000000" + "000000bf" + "02000000" +
		"0900000000000000" + "01000000" + "01000000" + "000080bf"
	got := hex.EncodeToString(f.AppendTo(nil))
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
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

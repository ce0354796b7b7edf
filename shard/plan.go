package shard

import (
	"encoding/binary"
	"errors"

	"lockstep/shard/model"
)

// A plan is what rank 0 tells the other ranks, over shared memory: the number of KV blocks once, then the work of each
// step. Followers keep block tables by slot and learn only what changed.
//
// Bytes, little-endian: kind u32; for planSetup: blocks u32; for planStep: count u32, then for each chunk: slot, start,
// prompt tokens, logits, new blocks b, tokens t (u32 each), b block ids and t token ids (i32 each). A chunk with start 0
// begins its slot anew.
const (
	planSetup = 1
	planStep  = 2
	planStop  = 3

	planHeaderBytes = 8
	chunkHeaderInts = 6
)

// planBytes bounds the size of a plan.
func planBytes(stepTokens, maxSequences int) int {
	blocks := stepTokens/model.BlockTokens + 2*maxSequences
	return planHeaderBytes + 4*(chunkHeaderInts*maxSequences+blocks+stepTokens)
}

// slotChunk is a chunk and the slot of its sequence; newBlocks is the part of its block table that this step adds.
type slotChunk struct {
	slot int
	model.Chunk
	newBlocks []int32
}

func appendStep(plan []byte, chunks []slotChunk) []byte {
	le := binary.LittleEndian
	plan = le.AppendUint32(plan, planStep)
	plan = le.AppendUint32(plan, uint32(len(chunks)))
	for _, c := range chunks {
		for _, v := range [chunkHeaderInts]int{c.slot, c.Start, c.PromptTokens, int(c.Logits), len(c.newBlocks), len(c.Tokens)} {
			plan = le.AppendUint32(plan, uint32(v))
		}
		for _, ids := range [][]int32{c.newBlocks, c.Tokens} {
			for _, id := range ids {
				plan = le.AppendUint32(plan, uint32(id))
			}
		}
	}
	return plan
}

var errPlan = errors.New("malformed step plan: a bug of rank 0")

// tables are a follower's block tables by slot.
type tables [][]int32

// decodeStep reads the chunks of a step and updates the tables. What it returns is valid until the next call.
func (t tables) decodeStep(plan []byte, chunks []slotChunk) ([]slotChunk, error) {
	chunks = chunks[:0]
	at := planHeaderBytes
	next := func() int {
		v := int(int32(binary.LittleEndian.Uint32(plan[at:])))
		at += 4
		return v
	}
	count := int(binary.LittleEndian.Uint32(plan[4:]))
	for range count {
		if len(plan)-at < 4*chunkHeaderInts {
			return nil, errPlan
		}
		c := slotChunk{slot: next()}
		c.Start, c.PromptTokens, c.Logits = next(), next(), model.Logits(next())
		blocks, tokens := next(), next()
		if c.slot < 0 || c.slot >= len(t) || blocks < 0 || tokens < 1 || blocks+tokens > (len(plan)-at)/4 {
			return nil, errPlan
		}
		if c.Start == 0 {
			t[c.slot] = t[c.slot][:0]
		}
		for range blocks {
			t[c.slot] = append(t[c.slot], int32(next()))
		}
		c.Blocks = t[c.slot]
		c.newBlocks = c.Blocks[len(c.Blocks)-blocks:]
		for range tokens {
			c.Tokens = append(c.Tokens, int32(next()))
		}
		chunks = append(chunks, c)
	}
	return chunks, nil
}

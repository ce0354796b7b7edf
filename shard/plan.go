package shard

import (
	"encoding/binary"
	"errors"

	"lockstep/shard/model"
)

// A plan is what rank 0 tells the other ranks, over shared memory: the number of KV blocks once, then the work of each
// step. Followers keep block tables by slot and learn only what changed.
//
// Bytes, little-endian: kind u32; for planSetup: blocks u32; for planStep: count u32, then for each chunk: slot, 1 if the
// slot's block table begins anew, start, prompt tokens, logits, added blocks b, how many of them are fresh, tokens t (u32
// each), b block ids and t token ids (i32 each).
const (
	planSetup = 1
	planStep  = 2
	planStop  = 3

	planHeaderBytes = 8
	chunkHeaderInts = 8
)

// planBytes bounds the size of a plan: at worst every sequence begins, with a whole block table out of the prefix cache.
func planBytes(c Config, blockTokens int) int {
	blocks := (c.MaxSequenceTokens + blockTokens - 1) / blockTokens
	return planHeaderBytes + 4*(c.MaxSequences*(chunkHeaderInts+blocks)+c.rows())
}

// slotChunk is a chunk and the slot of its sequence. The last added blocks of its table are new with this step.
type slotChunk struct {
	slot int
	model.Chunk
	begins bool
	added  int
}

func (c *slotChunk) addedBlocks() []int32 { return c.Blocks[len(c.Blocks)-c.added:] }

func appendStep(plan []byte, chunks []slotChunk) []byte {
	le := binary.LittleEndian
	plan = le.AppendUint32(plan, planStep)
	plan = le.AppendUint32(plan, uint32(len(chunks)))
	for i := range chunks {
		c := &chunks[i]
		begins := 0
		if c.begins {
			begins = 1
		}
		for _, v := range [chunkHeaderInts]int{c.slot, begins, c.Start, c.PromptTokens, int(c.Logits), c.added, c.Fresh, len(c.Tokens)} {
			plan = le.AppendUint32(plan, uint32(v))
		}
		for _, ids := range [][]int32{c.addedBlocks(), c.Tokens} {
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
		c := slotChunk{slot: next(), begins: next() != 0}
		c.Start, c.PromptTokens, c.Logits = next(), next(), model.Logits(next())
		c.added, c.Fresh = next(), next()
		tokens := next()
		if c.slot < 0 || c.slot >= len(t) || c.Fresh < 0 || c.added < c.Fresh || tokens < 1 || c.added+tokens > (len(plan)-at)/4 {
			return nil, errPlan
		}
		if c.begins {
			t[c.slot] = t[c.slot][:0]
		}
		for range c.added {
			t[c.slot] = append(t[c.slot], int32(next()))
		}
		c.Blocks = t[c.slot]
		for range tokens {
			c.Tokens = append(c.Tokens, int32(next()))
		}
		chunks = append(chunks, c)
	}
	return chunks, nil
}

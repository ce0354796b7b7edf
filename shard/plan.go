package shard

import (
	"encoding/binary"
	"errors"

	"lockstep/shard/model"
)

// A plan is what rank 0 tells the other ranks, over shared memory: the number of KV blocks once, then the work of each
// step. Followers keep block tables by slot and learn only what changed.
//
// Bytes, little-endian: kind u32; for planSetup: blocks u32; for steps: count u32, then for each chunk: slot, 1 if the
// slot's block table begins anew, start, prompt tokens, adapter, logits, added blocks b, how many of them are fresh, tokens t,
// how many of them are drafted (u32 each), b block ids and t token ids (i32 each).
const (
	planSetup = 1
	planStep  = 2
	planStop  = 3
	// planFollowed is a step that is collected behind the launch of the next, whose plan comes without delay.
	planFollowed = 4

	planHeaderBytes = 8
	chunkHeaderInts = 10
)

// planBytes bounds the size of a plan: at worst every sequence begins, with a whole block table out of the prefix cache.
func planBytes(c Config, blockTokens int) int {
	blocks := (c.MaxSequenceTokens + blockTokens - 1) / blockTokens
	return planHeaderBytes + 4*(c.MaxSequences*(chunkHeaderInts+blocks)+c.rows())
}

// stepPlan is what a step computes, and of each chunk what its sequence's slot is and what of it is new.
type stepPlan struct {
	chunks   []model.Chunk
	slots    []slotUse
	followed bool
}

// slotUse is how a chunk uses the slot of its sequence: whether the slot's block table begins anew, and how many of the last
// blocks in it are new with this step.
type slotUse struct {
	slot   int
	begins bool
	added  int
}

func (p *stepPlan) reset() { p.chunks, p.slots = p.chunks[:0], p.slots[:0] }

func (p *stepPlan) add(chunk model.Chunk, use slotUse) {
	p.chunks, p.slots = append(p.chunks, chunk), append(p.slots, use)
}

func (p *stepPlan) appendTo(plan []byte) []byte {
	le := binary.LittleEndian
	kind := uint32(planStep)
	if p.followed {
		kind = planFollowed
	}
	plan = le.AppendUint32(plan, kind)
	plan = le.AppendUint32(plan, uint32(len(p.chunks)))
	for i := range p.chunks {
		c, use, begins := &p.chunks[i], p.slots[i], 0
		if use.begins {
			begins = 1
		}
		for _, v := range [chunkHeaderInts]int{use.slot, begins, c.Start, c.PromptTokens, c.Adapter, int(c.Logits), use.added,
			c.Fresh, len(c.Tokens), c.Drafted} {
			plan = le.AppendUint32(plan, uint32(v))
		}
		for _, ids := range [][]int32{c.Blocks[len(c.Blocks)-use.added:], c.Tokens} {
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

// decode reads a step into p and updates the tables, to which its chunks refer: they are valid until the next call.
func (t tables) decode(plan []byte, p *stepPlan) error {
	p.reset()
	p.followed = binary.LittleEndian.Uint32(plan) == planFollowed
	at := planHeaderBytes
	next := func() int {
		v := int(int32(binary.LittleEndian.Uint32(plan[at:])))
		at += 4
		return v
	}
	count := int(binary.LittleEndian.Uint32(plan[4:]))
	for range count {
		if len(plan)-at < 4*chunkHeaderInts {
			return errPlan
		}
		use := slotUse{slot: next(), begins: next() != 0}
		c := model.Chunk{Start: next(), PromptTokens: next(), Adapter: next(), Logits: model.Logits(next())}
		use.added, c.Fresh = next(), next()
		tokens := next()
		c.Drafted = next()
		if use.slot < 0 || use.slot >= len(t) || c.Fresh < 0 || use.added < c.Fresh || tokens < 1 || c.Drafted < 0 || c.Drafted >= tokens ||
			use.added+tokens > (len(plan)-at)/4 {
			return errPlan
		}
		if use.begins {
			t[use.slot] = t[use.slot][:0]
		}
		for range use.added {
			t[use.slot] = append(t[use.slot], int32(next()))
		}
		c.Blocks = t[use.slot]
		c.Tokens = make([]int32, tokens)
		for i := range c.Tokens {
			c.Tokens[i] = int32(next())
		}
		p.add(c, use)
	}
	return nil
}

package schedule

import (
	"fmt"

	"lockstep/protocol"
)

// blockTable owns the KV blocks. Each is in one of three states: free, held by one or more sequences, or cached: held by
// nobody, but found by the key of its content until it is taken for something else, the one unused longest first.
//
// A key is in the table once: a second block of the same content stays without a key and is free when it is let go, so
// block tables of sequences never change under them.
type blockTable struct {
	holders []int32
	keys    []protocol.BlockKey
	keyed   []bool
	byKey   map[protocol.BlockKey]int32
	free    []int32

	// The cached blocks as a ring of indices, the longest unused behind the sentinel, which is index len(holders).
	next, previous []int32
	cached, held   int
}

func newBlockTable(count int) *blockTable {
	t := &blockTable{holders: make([]int32, count), keys: make([]protocol.BlockKey, count), keyed: make([]bool, count),
		byKey: make(map[protocol.BlockKey]int32), next: make([]int32, count+1), previous: make([]int32, count+1)}
	for block := count - 1; block >= 0; block-- {
		t.free = append(t.free, int32(block))
	}
	t.next[count], t.previous[count] = int32(count), int32(count)
	return t
}

// available is how many blocks can be taken.
func (t *blockTable) available() int { return len(t.free) + t.cached }

// take gives a block without content to a sequence, forgetting the longest unused cached one when none is free. One must
// be available.
func (t *blockTable) take() int32 {
	var block int32
	if last := len(t.free) - 1; last >= 0 {
		block = t.free[last]
		t.free = t.free[:last]
	} else {
		block = t.next[len(t.holders)]
		t.unlink(block)
		delete(t.byKey, t.keys[block])
		t.keyed[block] = false
	}
	t.holders[block] = 1
	t.held++
	return block
}

// share gives a block that find returned to one more sequence.
func (t *blockTable) share(block int32) {
	if t.holders[block] == 0 {
		t.unlink(block)
		t.held++
	}
	t.holders[block]++
}

// release takes a block from one sequence. Blocks are released from the end of a sequence to its beginning, so that of a
// chain the last link is forgotten first.
func (t *blockTable) release(block int32) {
	if t.holders[block]--; t.holders[block] > 0 {
		return
	}
	t.held--
	if !t.keyed[block] {
		t.free = append(t.free, block)
		return
	}
	end := int32(len(t.holders))
	last := t.previous[end]
	t.next[last], t.previous[block], t.next[block], t.previous[end] = block, last, end, block
	t.cached++
}

func (t *blockTable) unlink(block int32) {
	t.next[t.previous[block]], t.previous[t.next[block]] = t.next[block], t.previous[block]
	t.cached--
}

// name makes the content of a held block known under its key, unless another block has it already.
func (t *blockTable) name(block int32, key protocol.BlockKey) {
	if _, known := t.byKey[key]; !known {
		t.byKey[key], t.keys[block], t.keyed[block] = block, key, true
	}
}

// find returns the block that holds the content of a key.
func (t *blockTable) find(key protocol.BlockKey) (block int32, ok bool) {
	block, ok = t.byKey[key]
	return block, ok
}

// check counts everything anew: free + held + cached = all, and each block is where its state says.
func (t *blockTable) check() error {
	state := make([]int, len(t.holders)) // how many lists have the block
	for _, block := range t.free {
		state[block]++
		if t.keyed[block] || t.holders[block] != 0 {
			return fmt.Errorf("block %d is free, but has a key or %d holders", block, t.holders[block])
		}
	}
	cached, held := 0, 0
	for block := t.next[len(t.holders)]; block != int32(len(t.holders)) && cached <= len(t.holders); block = t.next[block] {
		cached++
		state[block]++
		if !t.keyed[block] || t.holders[block] != 0 {
			return fmt.Errorf("block %d is cached, but has no key or %d holders", block, t.holders[block])
		}
	}
	keyed := 0
	for block := range state {
		if t.holders[block] > 0 {
			held++
			state[block]++
		}
		if t.keyed[block] {
			keyed++
			if found, ok := t.byKey[t.keys[block]]; !ok || found != int32(block) {
				return fmt.Errorf("block %d is not found by its key", block)
			}
		}
		if state[block] != 1 {
			return fmt.Errorf("block %d is in %d states", block, state[block])
		}
	}
	if cached != t.cached || held != t.held || keyed != len(t.byKey) {
		return fmt.Errorf("counted %d cached and %d held blocks and %d keys, noted %d, %d and %d", cached, held, keyed, t.cached, t.held,
			len(t.byKey))
	}
	return nil
}

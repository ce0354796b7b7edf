package protocol

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// BlockKey names the content of a full KV block and of everything before it: a chained SHA-256, cut to 16 bytes. Equal
// keys mean equal keys and values, so groups find prefixes by them, and routers guess from them where a prefix is cached.
type BlockKey [16]byte

// KeyChain makes the keys of a sequence block by block. The zero value is a chain without salt; a copy of a chain
// continues on its own.
type KeyChain struct{ last BlockKey }

// NewKeyChain returns a chain for what adapter and salt tell apart: tokens under different ones never share blocks.
func NewKeyChain(adapter, salt string) KeyChain {
	seed := []byte("lockstep block salt\x00" + salt)
	switch {
	case adapter != "":
		seed = fmt.Appendf(nil, "lockstep block adapter\x00%d\x00%s%s", len(adapter), adapter, salt)
	case salt == "":
		return KeyChain{}
	}
	sum := sha256.Sum256(seed)
	return KeyChain{last: BlockKey(sum[:16])}
}

// Next returns the key of the block that these tokens fill.
func (c *KeyChain) Next(block []int32) BlockKey {
	var buffer [512]byte
	data := append(buffer[:0], c.last[:]...)
	for _, token := range block {
		data = binary.LittleEndian.AppendUint32(data, uint32(token))
	}
	sum := sha256.Sum256(data)
	c.last = BlockKey(sum[:16])
	return c.last
}

// Keys appends the keys of all full blocks of tokens to keys.
func (c *KeyChain) Keys(keys []BlockKey, tokens []int32, blockTokens int) []BlockKey {
	for ; len(tokens) >= blockTokens; tokens = tokens[blockTokens:] {
		keys = append(keys, c.Next(tokens[:blockTokens]))
	}
	return keys
}

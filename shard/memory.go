package shard

import (
	"cmp"
	"fmt"
)

const (
	// usualTokens is what a sequence holds, of prompt and answer together, for which a KV cache that nobody has sized has room.
	// Chats hold some 300 in the mean, and where all that run at once do, more of them would hardly be computed faster.
	usualTokens = 256
	// longestSequences is for how many of the longest sequences it has room in any case.
	longestSequences = 2
)

// cacheBlocks chooses the size of the KV cache, and says what bounds it: what was asked for, in tokens or as a share of the
// free memory; else what as many sequences as may run at once need when they are of a usual length, but no more than a share
// of the free memory. A device that serves nothing else gives that share whole. After a restart it is what it was, so that the
// streams of before find room, as long as so much is free at all.
func cacheBlocks(c Config, b backend) (blocks int, reason string, err error) {
	device := b.Describe()
	inBlocks := func(tokens int) int { return (tokens + device.BlockTokens - 1) / device.BlockTokens }
	if c.CacheTokens > 0 {
		return inBlocks(c.CacheTokens), "as configured", nil
	}
	free, of, err := b.FreeBytes()
	if err != nil {
		return 0, "", err
	}
	if blocks := inBlocks(c.PriorCacheTokens); blocks > 0 && int64(blocks)*int64(device.BlockBytes) < free {
		return blocks, "as before the restart", nil
	}
	fraction := cmp.Or(c.CacheMemoryFraction, TraitsOf(c.Backend).MemoryFraction, DefaultMemoryFraction)
	blocks = int(float64(free) * fraction / float64(device.BlockBytes))
	reason = fmt.Sprintf("%.0f%% of %.1f GiB free memory of %s", 100*fraction, float64(free)/(1<<30), of)
	if blocks < 1 {
		return 0, "", fmt.Errorf("no memory for a KV block of %d bytes (%s): free some, or raise the limit or --cpu-memory-fraction",
			device.BlockBytes, reason)
	}
	if usable := c.MaxSequences * inBlocks(c.MaxSequenceTokens); usable < blocks {
		blocks, reason = usable, "all that the sequences that may run at once can use"
	}
	if c.CacheMemoryFraction > 0 || !TraitsOf(c.Backend).SharedMemory {
		return blocks, reason, nil
	}
	usual, longest := c.MaxSequences*inBlocks(usualTokens), longestSequences*inBlocks(c.MaxSequenceTokens)
	if usual = max(usual, longest); usual < blocks {
		blocks, reason = usual, fmt.Sprintf("%d sequences of %d tokens", c.MaxSequences, usualTokens)
		if usual == longest {
			reason = fmt.Sprintf("%d of the longest sequences", longestSequences)
		}
	}
	return blocks, reason, nil
}

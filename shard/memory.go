package shard

import (
	"fmt"
	"os"
)

// cacheBlocks chooses the size of the KV cache: what was asked for, or a share of the free memory, but no more than the
// sequences that may run at once can use.
func cacheBlocks(c Config, blockTokens, blockBytes int) (blocks int, explanation string, err error) {
	if c.CacheTokens > 0 {
		blocks = c.CacheTokens / blockTokens
		explanation = "as configured"
	} else {
		free, bound, err := freeMemory(os.DirFS("/"))
		if err != nil {
			return 0, "", err
		}
		blocks = int(float64(free) * c.CacheMemoryFraction / float64(blockBytes))
		explanation = fmt.Sprintf("%.0f%% of %.1f GiB free memory of %s", 100*c.CacheMemoryFraction, float64(free)/(1<<30), bound)
		if usable := c.MaxSequences * ((c.MaxSequenceTokens + blockTokens - 1) / blockTokens); usable < blocks {
			blocks, explanation = usable, "all that the sequences that may run at once can use"
		}
	}
	if blocks < 1 {
		return 0, "", fmt.Errorf("no memory for a KV block of %d bytes (%s): free some, or raise the limit or --cpu-memory-fraction", blockBytes, explanation)
	}
	return blocks, explanation, nil
}

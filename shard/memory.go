package shard

import "fmt"

// cacheBlocks chooses the size of the KV cache: what was asked for, or a share of the free memory, but no more than the
// sequences that may run at once can use.
func cacheBlocks(c Config, b backend) (blocks int, explanation string, err error) {
	device := b.Describe()
	if c.CacheTokens > 0 {
		blocks = c.CacheTokens / device.BlockTokens
		explanation = "as configured"
	} else {
		free, of, err := b.FreeBytes()
		if err != nil {
			return 0, "", err
		}
		blocks = int(float64(free) * c.CacheMemoryFraction / float64(device.BlockBytes))
		explanation = fmt.Sprintf("%.0f%% of %.1f GiB free memory of %s", 100*c.CacheMemoryFraction, float64(free)/(1<<30), of)
		if usable := c.MaxSequences * ((c.MaxSequenceTokens + device.BlockTokens - 1) / device.BlockTokens); usable < blocks {
			blocks, explanation = usable, "all that the sequences that may run at once can use"
		}
	}
	if blocks < 1 {
		return 0, "", fmt.Errorf("no memory for a KV block of %d bytes (%s): free some, or raise the limit or --cpu-memory-fraction",
			device.BlockBytes, explanation)
	}
	return blocks, explanation, nil
}

package shard

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// freeMemoryBytes is the memory that can still be taken: what the kernel calls available, or what the control group
// leaves, whichever is less.
func freeMemoryBytes() (int64, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	free := int64(-1)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			if kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64); err == nil {
				free = kilobytes << 10
			}
		}
	}
	if free < 0 {
		return 0, fmt.Errorf("/proc/meminfo does not say what memory is available")
	}
	number := func(path string) (int64, bool) {
		data, err := os.ReadFile(path)
		if err != nil {
			return 0, false
		}
		value, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		return value, err == nil
	}
	if limit, ok := number("/sys/fs/cgroup/memory.max"); ok {
		if used, ok := number("/sys/fs/cgroup/memory.current"); ok {
			free = min(free, max(0, limit-used))
		}
	}
	return free, nil
}

// cacheBlocks chooses the size of the KV cache: what was asked for, or a share of the free memory, but no more than the
// sequences that may run at once can use.
func cacheBlocks(c Config, blockTokens, blockBytes int) (blocks int, explanation string, err error) {
	if c.CacheTokens > 0 {
		blocks = c.CacheTokens / blockTokens
		explanation = "as configured"
	} else {
		free, err := freeMemoryBytes()
		if err != nil {
			return 0, "", err
		}
		blocks = int(float64(free) * c.CacheMemoryFraction / float64(blockBytes))
		explanation = fmt.Sprintf("%.0f%% of %.1f GiB free memory", 100*c.CacheMemoryFraction, float64(free)/(1<<30))
		if usable := c.MaxSequences * ((c.MaxSequenceTokens + blockTokens - 1) / blockTokens); usable < blocks {
			blocks, explanation = usable, "all that the sequences that may run at once can use"
		}
	}
	if blocks < 1 {
		return 0, "", fmt.Errorf("no memory for a KV block of %d bytes", blockBytes)
	}
	return blocks, explanation, nil
}

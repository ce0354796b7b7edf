package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"lockstep/shard"
	"lockstep/shard/gpu/driver"
)

// What --kernels names: kernel paths of the CPU, the best of these, and backends of cards.
var (
	cpuKernels  = []string{"avx512", "avx512f", "avx2vnni", "avx2", "go"}
	cardKernels = []string{shard.CardBackend, "ptx"}
)

const anyCPUKernels = "cpu"

// chooseBackend takes the backend that --backend, --kernels or --devices name, and without them that of cards where there are some.
func (c *command) chooseBackend() error {
	named := "" // by --kernels
	switch {
	case slices.Contains(cardKernels, c.Kernels):
		named = c.Kernels
	case c.Kernels != "":
		named = shard.DefaultBackend
	}
	if c.Backend != "" && named != "" && c.Backend != named {
		if named == shard.DefaultBackend {
			return fmt.Errorf("--kernels %s chooses how the CPU computes, and --backend %s does not: leave one of them out", c.Kernels,
				c.Backend)
		}
		return fmt.Errorf("--kernels %s and --backend %s are two backends: leave one of them out", c.Kernels, c.Backend)
	}
	if !slices.Contains(cpuKernels, c.Kernels) {
		c.Kernels = ""
	}
	c.Backend = cmp.Or(c.Backend, named)
	if len(c.Devices) > 0 && c.Backend != "" && !shard.TraitsOf(c.Backend).Devices {
		return fmt.Errorf("--devices names cards, and %s computes on none: leave it out, or give --kernels %s", c.Backend,
			shard.CardBackend)
	}
	if c.Backend != "" && c.Backend != shard.CardBackend {
		return nil
	}
	cards, err := driver.Cards(c.CUDALibrary)
	if err == nil {
		c.cards, err = driver.Choose(cards, c.Devices)
	}
	switch {
	case err == nil:
		c.Backend = shard.CardBackend
	case c.Backend == shard.CardBackend:
		return fmt.Errorf("--kernels %s: %w", shard.CardBackend, err)
	case len(c.Devices) > 0:
		return fmt.Errorf("--devices: %w", err)
	default:
		c.Backend = shard.DefaultBackend
		if _, noCards := os.Stat(cardsDevice); !errors.Is(err, driver.ErrNotBuilt) {
			c.warnings = append(c.warnings, fmt.Sprintf("the CPU computes (--kernels cpu chooses it without this warning): %v", err))
		} else if noCards == nil {
			c.warnings = append(c.warnings, "the CPU computes, and there are NVIDIA cards here: lockstep-cuda (make build-cuda) takes "+
				"them; --kernels cpu chooses the CPU without this warning")
		}
	}
	return nil
}

// cardsDevice is there where the driver's kernel module is loaded.
var cardsDevice = "/dev/nvidiactl"

// chooseGraphs reads --cuda-graphs.
func (c *command) chooseGraphs() error {
	if c.CUDAGraphs == "" {
		return nil
	}
	c.graphs = nil
	for text := range strings.SplitSeq(c.CUDAGraphs, ",") {
		size, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || size < 0 || size > maxNumber || size == 0 && c.CUDAGraphs != "0" {
			return fmt.Errorf("--cuda-graphs: want batch sizes, as 1,2,4, or 0 for no graphs, got %q", c.CUDAGraphs)
		}
		c.graphs = append(c.graphs, size)
	}
	switch {
	case shard.TraitsOf(c.Backend).Cards || c.CUDAGraphs == "0":
	case c.CUDAGraphs == os.Getenv("CUDA_GRAPHS"):
		c.warnings = append(c.warnings, "CUDA_GRAPHS in the environment is ignored: it is of cards, and none computes here")
	default:
		return errors.New("--cuda-graphs is of cards: give --kernels cuda or ptx too, or leave it out")
	}
	return nil
}

// chooseShards settles how many shards there are: where cards compute, one for each.
func (c *command) chooseShards() error {
	least := 1
	switch strings.ToLower(c.Sharded) {
	case "":
	case "true":
		if c.NumShard == 1 {
			return errors.New("--sharded true asks for several shards, but --num-shard is 1")
		}
		least = 2
	case "false":
		if c.NumShard > 1 {
			return fmt.Errorf("--sharded false asks for one shard, but --num-shard is %d", c.NumShard)
		}
		c.NumShard = 1
	default:
		return fmt.Errorf("--sharded must be true or false, got %q", c.Sharded)
	}
	cards := shard.TraitsOf(c.Backend).Devices
	switch {
	case c.NumShard > 0:
	case cards:
		c.NumShard = max(least, len(c.cards))
	case least > 1:
		c.NumShard = least
	default:
		computer := thisComputer()
		c.NumShard = computer.sockets()
	}
	switch {
	case !cards:
		return nil
	case c.NumShard > len(c.cards):
		return fmt.Errorf("each shard takes a card, and for %d shards there are %s: lower --num-shard, name one card several times with "+
			"--devices, which is slow, or give --kernels %s", c.NumShard, names(c.cards), anyCPUKernels)
	case c.NumShard < len(c.cards) && len(c.Devices) > 0:
		return fmt.Errorf("--devices names %d cards, and there are %d shards (--num-shard, --sharded): each shard takes one card",
			len(c.cards), c.NumShard)
	}
	c.cards = c.cards[:c.NumShard]
	return nil
}

// names are cards as the log names them.
func names(cards []driver.Card) string {
	texts := make([]string, len(cards))
	for i, card := range cards {
		texts[i] = card.String()
	}
	return strings.Join(texts, ", ")
}

// devices are the cards as shards know them.
func (c *command) devices() (uuids []string) {
	for _, card := range c.cards {
		uuids = append(uuids, card.UUID)
	}
	return uuids
}

package main

import (
	"lockstep/shard/machine"
)

// computer is what of the machine the ranks share out: its cores, and how many of them a container's quota leaves them time of.
type computer struct {
	cores []machine.Core
	quota int // 0: none
}

func thisComputer() computer { return computer{machine.Cores(), machine.Quota()} }

// cpus are all that this process may run on.
func (c *computer) cpus() (all []int) {
	for _, core := range c.cores {
		all = append(all, core.CPUs...)
	}
	return all
}

// sockets counts the packages of the cores.
func (c *computer) sockets() int {
	packages := make(map[string]bool)
	for _, core := range c.cores {
		packages[core.Socket] = true
	}
	return len(packages)
}

// parts is what each rank gets.
type parts struct {
	threads int
	// cpus are those of each rank's cores, by rank; nil: there are not enough, or a quota bounds them, and any may serve.
	cpus [][]int
	// crowded says that the threads of all ranks are more than can run at once.
	crowded bool
}

// shareOut gives each rank so many threads, with 0 an equal share of the cores: one thread for each core, since a second thread of
// it would wait for the arithmetic or the memory that the first one keeps busy.
func (c *computer) shareOut(ranks, threads int) parts {
	usable, atOnce := len(c.cores), len(c.cpus())
	if c.quota > 0 {
		usable, atOnce = min(usable, c.quota), min(atOnce, c.quota)
	}
	if threads == 0 {
		threads = max(1, usable/ranks)
	}
	p := parts{threads: threads, crowded: threads*ranks > atOnce}
	if threads*ranks > usable || usable < len(c.cores) {
		return p
	}
	for rank := range ranks {
		own := computer{cores: c.cores[rank*threads : (rank+1)*threads]}
		p.cpus = append(p.cpus, own.cpus())
	}
	return p
}

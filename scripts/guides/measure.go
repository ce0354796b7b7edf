package main

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"runtime"

	"golang.org/x/sys/unix"

	"lockstep/protocol/guide"
	"lockstep/shard/masks"
	"lockstep/shard/sample"
)

// answers are of one engine.
type answers struct {
	name    string
	schemas []answer // one for each of work's
}

// answer is of one schema; peers write it as JSON. The masks are those before the first token and behind each token of each text.
type answer struct {
	Error     string     `json:"error"`
	CompileNS int64      `json:"compile_ns"`
	MaskNS    [][]int64  `json:"mask_ns"`
	Counts    [][]int    `json:"counts"`
	Sums      [][]uint32 `json:"sums"`
	Lost      int        `json:"lost"` // texts of which a token was not allowed
}

// measureOwn measures Lockstep, as its engine asks for masks. alone are the times of masks where each text has a guide of its own, which
// has found out nothing yet.
func (c *comparison) measureOwn() (all answers, alone []int64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all.name = "Lockstep"
	vocabulary := c.vocabulary()
	for _, s := range c.work.Schemas {
		runtime.GC() // what went before is not of this schema
		start := threadTime()
		program, err := guide.Compile(source(s))
		if err != nil {
			all.schemas = append(all.schemas, answer{Error: err.Error()})
			continue
		}
		g := masks.New(vocabulary, program)
		if _, err := g.Mask(&masks.Place{}, nil); err != nil {
			return all, nil, err
		}
		a := answer{CompileNS: threadTime() - start}
		for _, ids := range s.Texts {
			a.walk(g, ids, len(c.work.Vocabulary))
		}
		all.schemas = append(all.schemas, a)
		for _, ids := range s.Texts {
			var b answer
			b.walk(masks.New(vocabulary, program), ids, len(c.work.Vocabulary))
			alone = append(alone, b.MaskNS[0]...)
		}
	}
	return all, alone, nil
}

func (c *comparison) vocabulary() *masks.Vocabulary {
	return masks.NewVocabulary(len(c.work.Vocabulary), func(id int32) string { return string(c.work.Vocabulary[id]) }, c.work.Ends)
}

func source(s schema) guide.Source {
	return guide.Source{Kind: guide.Schema, Text: s.Text, WhiteSpace: guide.Any, Open: !s.Closed}
}

// walk follows a text.
func (a *answer) walk(g *masks.Guide, ids []int32, size int) {
	var place masks.Place
	var times []int64
	var counts []int
	var sums []uint32
	for n := range len(ids) + 1 {
		start := threadTime()
		mask, err := g.Mask(&place, ids[:n])
		took := threadTime() - start
		if err != nil {
			a.Lost++
			break
		}
		count, sum := fingerprint(mask, size)
		times, counts, sums = append(times, took), append(counts, count), append(sums, sum)
	}
	a.MaskNS, a.Counts, a.Sums = append(a.MaskNS, times), append(a.Counts, counts), append(a.Sums, sums)
}

// fingerprint counts a mask's tokens, and sums up its words of 32 bits.
func fingerprint(mask *sample.Mask, size int) (count int, sum uint32) {
	words := make([]uint64, (size+63)/64)
	copy(words, mask.Bits)
	for _, id := range mask.IDs {
		words[id>>6] |= 1 << (id & 63)
	}
	data := make([]byte, 0, 8*len(words))
	for _, word := range words {
		count += bits.OnesCount64(word)
		data = binary.LittleEndian.AppendUint64(data, word)
	}
	return count, crc32.ChecksumIEEE(data[:(size+31)/32*4])
}

// threadTime is the CPU time that this thread has had.
func threadTime() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		panic(err) // Linux has had it since 2.6
	}
	return now.Nano()
}

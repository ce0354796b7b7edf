package collective_test

import (
	"fmt"
	"testing"

	"lockstep/shard/collective"
	"lockstep/shard/workers"
)

// BenchmarkExchange is an all-reduce's meeting without its sums, between pinned threads of one process.
func BenchmarkExchange(b *testing.B) {
	for _, ranks := range []int{2, 4} {
		b.Run(fmt.Sprint(ranks), func(b *testing.B) {
			memory, err := collective.NewMemory("bench")
			if err != nil {
				b.Fatal(err)
			}
			defer memory.Close()
			done := make(chan error, ranks)
			for rank := range ranks {
				go func() {
					team := workers.New(1, []int{rank % 2})
					defer team.Close()
					g, err := collective.Open(memory, rank, collective.Sizes{Ranks: ranks, ReduceFloats: 1024})
					if err != nil {
						done <- err
						return
					}
					defer g.Close()
					for range b.N {
						g.Partial()[0] = 1
						if _, err := g.Exchange(); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range ranks {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

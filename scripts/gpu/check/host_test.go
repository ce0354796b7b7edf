package main

import (
	"fmt"
	"testing"

	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

// idle is a card that does at once what it is told, which is nothing.
type idle struct{ end gpu.Address }

func (d *idle) Describe() gpu.Description {
	return gpu.Description{Class: "h", Capability: 90, Processors: 132, Shared: 227 << 10}
}

func (d *idle) Alloc(bytes int) (at gpu.Address, err error) {
	at, d.end = d.end, d.end+(gpu.Address(bytes)+511)&^255
	return at + 256, nil
}

func (d *idle) FreeBytes() (int64, string, error)         { return 1 << 40, "the benchmark", nil }
func (d *idle) Free(gpu.Address)                          {}
func (d *idle) Upload(gpu.Address, []byte) error          { return nil }
func (d *idle) Download([]byte, gpu.Address) error        { return nil }
func (d *idle) Launch(*gpu.Launch) error                  { return nil }
func (d *idle) Close() error                              { return nil }
func (d *idle) Capture(f func() error) (gpu.Graph, error) { return d, f() }
func (d *idle) Replay(gpu.Graph) error                    { return nil }

// What a step of an 8B model takes of the host, beside the card and the driver: by graphs and kernel by kernel.
func BenchmarkHost(b *testing.B) {
	source, done, err := openShape("8B", "", 0)
	if err != nil {
		b.Fatal(err)
	}
	defer done()
	part, err := source.Part(0, 1)
	if err != nil {
		b.Fatal(err)
	}
	team := workers.New(1, nil)
	defer team.Close()
	for _, graphs := range [][]int{gpu.DefaultGraphs, nil} {
		backend, err := gpu.Load(part, &idle{}, team, gpu.Options{Numerics: "bf16", Unread: true, Graphs: graphs})
		if err != nil {
			b.Fatal(err)
		}
		m := &loaded{backend: backend, source: source, blocks: 1 << 15}
		detach, err := alone(backend, m.blocks, 2048)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range []struct {
			name string
			step []model.Chunk
		}{{"1 at 512", m.decodeStep(1, 512)}, {"64 at 512", m.decodeStep(64, 512)}, {"64 at 4096", m.decodeStep(64, 4096)},
			{"prefill of 2048", m.prefillStep(2048)}} {
			b.Run(fmt.Sprintf("graphs %v/%s", graphs != nil, c.name), func(b *testing.B) {
				for b.Loop() {
					if err := m.compute(c.step); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		detach()
		backend.Close()
	}
}

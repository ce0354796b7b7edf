package host_test

import (
	"testing"

	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

// newGroup is a group of exact numerics.
func newGroup(t testing.TB, source *model.Model, ranks, threads int, kernels *cpu.Kernels, adapters ...*model.Adapter) *backendtest.Group {
	return newGroupOf(t, host.Options{Kernels: kernels, Numerics: "f32"}, source, ranks, threads, adapters...)
}

func newGroupOf(t testing.TB, options host.Options, source *model.Model, ranks, threads int, adapters ...*model.Adapter,
) *backendtest.Group {
	options.Progress = func(float64) {}
	return backendtest.New(t, source, ranks, func(part *model.Part) (backendtest.Backend, error) {
		return backendtest.WithTeam(threads, func(team *workers.Team) (backendtest.Backend, error) {
			return host.Load(part, team, options)
		})
	}, adapters...)
}

package host_test

import (
	"testing"

	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

func newGroup(t testing.TB, source *model.Model, ranks, threads int, kernels *cpu.Kernels, adapters ...*model.Adapter) *backendtest.Group {
	return newGroupCaching(t, cpu.CacheF32, source, ranks, threads, kernels, adapters...)
}

func newGroupCaching(t testing.TB, cache cpu.CacheType, source *model.Model, ranks, threads int, kernels *cpu.Kernels,
	adapters ...*model.Adapter) *backendtest.Group {
	return backendtest.New(t, source, ranks, func(part *model.Part) (backendtest.Backend, error) {
		return backendtest.WithTeam(threads, func(team *workers.Team) (backendtest.Backend, error) {
			return host.Load(part, team, kernels, cache, func(float64) {})
		})
	}, adapters...)
}

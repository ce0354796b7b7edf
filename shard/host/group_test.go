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
		return loaded(part, threads, kernels, cache)
	}, adapters...)
}

// withTeam is a backend with threads of its own.
type withTeam struct {
	*host.Backend
	team *workers.Team
}

func (b withTeam) Close() {
	b.Backend.Close()
	b.team.Close()
}

// loaded packs one rank's part.
func loaded(part *model.Part, threads int, kernels *cpu.Kernels, cache cpu.CacheType) (withTeam, error) {
	team := workers.New(threads, nil)
	b, err := host.Load(part, team, kernels, cache, func(float64) {})
	if err != nil {
		team.Close()
	}
	return withTeam{b, team}, err
}

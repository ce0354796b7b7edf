package backendtest

import "lockstep/shard/workers"

// WithTeam loads a backend with threads of its own, which its Close ends.
func WithTeam(threads int, load func(team *workers.Team) (Backend, error)) (Backend, error) {
	team := workers.New(threads, nil)
	b, err := load(team)
	if err != nil {
		team.Close()
		return nil, err
	}
	return withTeam{b, team}, nil
}

type withTeam struct {
	Backend
	team *workers.Team
}

func (b withTeam) Close() {
	b.Backend.Close()
	b.team.Close()
}

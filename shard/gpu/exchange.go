package gpu

import (
	"errors"
	"fmt"

	"lockstep/shard/collective"
)

// fold adds the parts of a row-parallel product of rows, to [row][hidden]: the sum over ranks continues their tree.
func (b *Backend) fold(to, sums Address, m *matrix, rows, parts int) error {
	return b.launch("fold", [3]int{rows, 1, 1}, rowThreads, 0, to, sums, uint64(rows*m.outputs()), int32(m.outputs()), int32(parts),
		int32(b.config.Hidden))
}

// maxPeers is how many ranks exchange by the devices' own memory (kernels/exchange.cu).
const maxPeers = 8

// peers are what ranks exchange by, where they reach one another's memory.
type peers struct {
	told   Address // peerSettings; 0: they exchange through the host
	failed Address
	number uint32 // of the last exchange before the step
	place  int    // of the next among those of the step
}

// peerSettings are struct Peers of kernels/exchange.cu.
type peerSettings struct {
	ranks, rank, rows, _ int32
	floats               uint64
	abort, failed        Address
	flags, buffers       [maxPeers]Address
}

// meetPeers opens the other ranks' memory, if all devices can: they tell one another, and where one cannot all exchange through the host.
func (b *Backend) meetPeers() error {
	ranks := b.part.Ranks
	if ranks == 1 || ranks > maxPeers {
		return nil
	}
	rows, _ := b.ExchangeFloats(b.maxRows)
	s := peerSettings{ranks: int32(ranks), rank: int32(b.part.Rank), rows: int32(b.maxRows * b.need.parts), floats: uint64(rows)}
	flagBytes := (ranks*int(s.rows)*4 + 255) &^ 255
	device, able := b.device.(Peered)
	var handle []byte
	var own Address
	if able {
		var err error
		if own, handle, err = device.Export(flagBytes + 2*4*rows); err != nil {
			return fmt.Errorf("memory that ranks exchange by: %w", err)
		}
	}
	handles, err := b.group.Share(handle)
	if err != nil {
		return err
	}
	for rank, handle := range handles {
		at := own
		if rank != b.part.Rank && able && len(handle) > 0 {
			if at, err = device.Import(handle); err != nil {
				able = false
			}
		}
		able = able && len(handle) > 0
		s.flags[rank], s.buffers[rank] = at, at+Address(flagBytes)
	}
	said := []byte("no")
	if able {
		said = []byte("yes")
	}
	answers, err := b.group.Share(said)
	if err != nil {
		return err
	}
	for _, answer := range answers {
		able = able && string(answer) == "yes"
	}
	if !able {
		return nil
	}
	return b.tellPeers(device, &s)
}

func (b *Backend) tellPeers(device Peered, s *peerSettings) (err error) {
	if s.abort, err = device.Register(b.group.Header()); err != nil {
		return err
	}
	if b.peers.failed, err = b.tell(make([]byte, 4)); err != nil {
		return err
	}
	s.failed = b.peers.failed
	b.peers.told, err = b.tell(bytesOfStruct(s))
	return err
}

// exchange sums rows of n floats over the ranks.
func (b *Backend) exchange(at Address, rows, n int) error {
	if b.peers.told == 0 {
		return b.exchangeByHost(at, rows*n)
	}
	b.peers.place++
	return b.launch("exchange", [3]int{rows, 1, 1}, rowThreads, 0, at, b.peers.told, int32(n), b.inputs.exchange, int32(b.peers.place-1))
}

// errExchange says that an exchange between devices was given up.
var errExchange = errors.Join(collective.ErrAborted, errors.New("the devices' exchange"))

// checkExchange waits for what was launched, and tells whether all exchanges of a step have ended well.
func (b *Backend) checkExchange(f *flight) error {
	if !f.exchanged {
		return nil
	}
	failed := make([]byte, 4)
	if err := b.device.Download(failed, b.peers.failed); err != nil {
		return err
	}
	if failed[0] != 0 {
		return errExchange
	}
	return nil
}

// exchangeByHost sums so many floats over the ranks, through the group's memory.
func (b *Backend) exchangeByHost(at Address, size int) error {
	if err := b.device.Download(bytesOf(b.group.Partial()[:size]), at); err != nil {
		return err
	}
	parts, err := b.group.Exchange()
	if err != nil {
		return err
	}
	sum := make([]float32, size)
	collective.Sum(sum, parts, 0, func(dst, a, b []float32) {
		for i := range dst {
			dst[i] = a[i] + b[i]
		}
	})
	return b.device.Upload(at, bytesOf(sum))
}

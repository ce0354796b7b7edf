//go:build cuda && linux

package driver

import (
	"errors"

	"lockstep/shard/gpu"
)

// stagingBytes is the size of each half of the memory through which uploads go.
const stagingBytes = 8 << 20

// staging is memory of the host that uploads pass on their way: the card reads from it while the next ones are written. One half is
// written; the other may still be read, until its event has happened.
type staging struct {
	memory  []byte // two halves
	half    int    // that is written
	used    int    // bytes of it
	events  [2]uint64
	pending [2]bool // the event was recorded and not seen
}

// Upload copies to the card behind what was launched; data may be changed when it returns.
func (d *device) Upload(to gpu.Address, data []byte) error {
	if d.capturing != nil {
		return errCapturing
	}
	s := &d.staging
	for len(data) > 0 {
		if s.used == stagingBytes {
			if err := d.nextHalf(); err != nil {
				return err
			}
		}
		from := s.memory[s.half*stagingBytes:][:stagingBytes][s.used:]
		n := copy(from, data)
		if err := d.do("cuMemcpyHtoDAsync_v2", uintptr(to), address(from), uintptr(n), uintptr(d.stream)); err != nil {
			return err
		}
		s.used, to, data = s.used+n, to+gpu.Address(n), data[n:]
	}
	return nil
}

// nextHalf turns to the other half, as soon as the card has read it.
func (d *device) nextHalf() error {
	s := &d.staging
	if err := d.do("cuEventRecord", uintptr(s.events[s.half]), uintptr(d.stream)); err != nil {
		return err
	}
	s.pending[s.half] = true
	s.half, s.used = 1-s.half, 0
	if !s.pending[s.half] {
		return nil
	}
	s.pending[s.half] = false
	return d.wait("cuEventQuery", s.events[s.half])
}

// Download waits for all that was launched and copies from the card.
func (d *device) Download(data []byte, from gpu.Address) error {
	if d.capturing != nil {
		return errCapturing
	}
	for len(data) > 0 {
		n := min(len(data), len(d.landing))
		if err := d.do("cuMemcpyDtoHAsync_v2", address(d.landing), uintptr(from), uintptr(n), uintptr(d.stream)); err != nil {
			return err
		}
		if err := d.wait("cuStreamQuery", d.stream); err != nil {
			return err
		}
		copy(data, d.landing[:n])
		data, from = data[n:], from+gpu.Address(n)
	}
	d.staging.used, d.staging.pending = 0, [2]bool{} // all of it has been read
	return nil
}

// fetching is what Fetch copies to: two halves, in turn, until Await has seen the event of each.
type fetching struct {
	memory []byte
	reads  [2][]gpu.Read
	events [2]uint64
	begun  int // fetches so far
	ended  int
}

var errFetches = errors.New("two fetches are under way already, or more is fetched than there is room for")

// Fetch copies behind what was launched.
func (d *device) Fetch(reads ...gpu.Read) error {
	f := &d.fetching
	half, at := f.begun%2, 0
	for _, r := range reads {
		at += len(r.To)
	}
	if d.capturing != nil {
		return errCapturing
	} else if f.begun-f.ended == 2 || at > gpu.MaxFetch {
		return errFetches
	}
	at = half * gpu.MaxFetch
	for _, r := range reads {
		if err := d.do("cuMemcpyDtoHAsync_v2", address(f.memory[at:]), uintptr(r.From), uintptr(len(r.To)), uintptr(d.stream)); err != nil {
			return err
		}
		at += len(r.To)
	}
	f.reads[half] = reads
	f.begun++
	return d.do("cuEventRecord", uintptr(f.events[half]), uintptr(d.stream))
}

// Await waits for the oldest fetch.
func (d *device) Await() error {
	f := &d.fetching
	half := f.ended % 2
	if err := d.wait("cuEventQuery", f.events[half]); err != nil {
		return err
	}
	f.ended++
	at := half * gpu.MaxFetch
	for _, r := range f.reads[half] {
		at += copy(r.To, f.memory[at:])
	}
	return nil
}

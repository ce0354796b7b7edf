//go:build !cuda || !linux

package driver

import "lockstep/shard/gpu"

// Built says whether this binary can open the driver.
const Built = false

// Cards lists what the driver shows.
func Cards(library string) ([]Card, error) { return nil, ErrNotBuilt }

// Open takes a card.
func Open(options Options) (gpu.Device, error) { return nil, ErrNotBuilt }

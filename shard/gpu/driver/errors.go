//go:build cuda && linux

package driver

import (
	"fmt"
	"slices"
)

// Results of calls (https://docs.nvidia.com/cuda/cuda-driver-api, CUresult).
const (
	success              = 0
	outOfMemory          = 2
	stubLibrary          = 34
	deviceUnavailable    = 46
	noDevice             = 100
	invalidDevice        = 101
	invalidImage         = 200
	noBinary             = 209
	unsupportedPTX       = 222
	notFound             = 500
	notReady             = 600
	systemNotReady       = 802
	systemDriverMismatch = 803
	unknown              = 999
)

// minVersion is the oldest driver that takes the kernels' code, as cuDriverGetVersion says it: 12.0, since drivers take cubins of any
// compiler of their major version.
const (
	minVersion     = 12000
	minVersionText = "12.0 (525.60.13)"
)

// dead are results after which nothing works any more in this process: something of the card, or of a kernel, has failed.
var dead = []int32{214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719, unknown}

// callError is a call that failed.
type callError struct {
	call       string
	code       int32
	name, text string
}

func (e *callError) Error() string {
	return fmt.Sprintf("%s: %s (%d), %s", e.call, e.name, e.code, e.text)
}

func (e *callError) dead() bool { return slices.Contains(dead, e.code) }

// noLibrary says that there is no driver.
func noLibrary(path string, err error) error {
	if path != DefaultLibrary {
		return fmt.Errorf("--cuda-library cannot be opened: %w", err)
	}
	return fmt.Errorf("no NVIDIA driver, whose library cannot be opened (%w): install it; start a container with docker run --gpus all; "+
		"or name the library with --cuda-library if it lies elsewhere", err)
}

// tooOld says that the driver is older than the kernels; what is its version, or what it lacks.
func tooOld(what string) error {
	return fmt.Errorf("the NVIDIA driver is too old (%s): the kernels need one for CUDA %s or later", what, minVersionText)
}

// explainStart puts the failed start of the driver in words.
func explainStart(err *callError) error {
	switch err.code {
	case noDevice:
		return fmt.Errorf("the NVIDIA driver shows no card: there is none, or CUDA_VISIBLE_DEVICES or the container hides it: %w", err)
	case stubLibrary:
		return fmt.Errorf("the library is a toolkit's stub and no driver: install the driver, or name its library with --cuda-library: %w",
			err)
	case systemDriverMismatch:
		return fmt.Errorf("the NVIDIA driver's library and its kernel module are of two versions: restart the machine: %w", err)
	case systemNotReady:
		return fmt.Errorf("the cards are not ready: nvidia-fabricmanager must run where they are joined by switches: %w", err)
	}
	return fmt.Errorf("the NVIDIA driver does not start: %w", err)
}

// Compute modes of a card (CU_DEVICE_ATTRIBUTE_COMPUTE_MODE).
const (
	modeProhibited = 2
	modeExclusive  = 3
)

// explainOpen puts in words why a card in a compute mode was not to be had.
func explainOpen(card Card, mode int, err *callError) error {
	switch {
	case err.code == deviceUnavailable && mode == modeProhibited:
		return fmt.Errorf("%v lets nobody compute: its compute mode is prohibited (nvidia-smi --compute-mode=DEFAULT changes it): %w",
			card, err)
	case err.code == deviceUnavailable && mode == modeExclusive:
		return fmt.Errorf("%v is in use: its compute mode is exclusive, and another process has it: end that, or choose another card "+
			"with --devices: %w", card, err)
	case err.code == deviceUnavailable:
		return fmt.Errorf("%v is busy: choose another with --devices, or try again: %w", card, err)
	case err.code == outOfMemory:
		return fmt.Errorf("%v has not even the memory to begin: end what else computes on it, or choose another with --devices: %w",
			card, err)
	case err.dead(), err.code == noDevice, err.code == invalidDevice:
		return fmt.Errorf("%v does not answer (the kernel's log may say why: dmesg | grep -i nvrm): %w", card, err)
	}
	return fmt.Errorf("%v: %w", card, err)
}

// explainCode puts in words why a card did not take the kernels.
func explainCode(card Card, target string, err *callError) error {
	switch err.code {
	case unsupportedPTX:
		return tooOld(fmt.Sprintf("%v needs its kernels translated, and it does not know their language: %v", card, err))
	case noBinary, invalidImage:
		return fmt.Errorf("%v does not take the kernels for %s: %w", card, target, err)
	}
	return fmt.Errorf("%v: kernels for %s: %w", card, target, err)
}

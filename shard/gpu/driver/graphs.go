//go:build cuda && linux

package driver

import (
	"errors"
	"fmt"

	"lockstep/shard/gpu"
)

var _ gpu.Grapher = (*device)(nil)

// graph is an executable graph of the driver's, which goes with the context.
type graph struct {
	handle   uint64
	launches int
}

var errCapturing = errors.New("launches are captured, and this is none")

// Capture keeps what f launches. It was never run on a card.
func (d *device) Capture(f func() error) (gpu.Graph, error) {
	const ofThisThread = 1 // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
	if err := d.do("cuStreamBeginCapture_v2", uintptr(d.stream), ofThisThread); err != nil {
		return nil, err
	}
	g := &graph{}
	d.capturing = g
	err := f()
	d.capturing = nil
	if ended := d.do("cuStreamEndCapture", uintptr(d.stream), d.word(0)); ended != nil {
		return nil, errors.Join(err, ended)
	}
	captured := d.words[0]
	if err == nil {
		if err = d.do("cuGraphInstantiateWithFlags", d.word(0), uintptr(captured), 0); err == nil {
			g.handle = d.words[0]
		}
	}
	if captured != 0 {
		err = errors.Join(err, d.do("cuGraphDestroy", uintptr(captured)))
	}
	return g, err
}

// Replay launches what was captured.
func (d *device) Replay(kept gpu.Graph) error {
	g := kept.(*graph)
	d.lastGraph = g
	if err := d.do("cuGraphLaunch", uintptr(g.handle), uintptr(d.stream)); err != nil {
		return fmt.Errorf("launch of a graph: %w", err)
	}
	return nil
}

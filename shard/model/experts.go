package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// experts is what a decoder's layers of experts differ in.
type experts struct {
	of                  func(layer int) bool // whether a layer has experts in place of its MLP
	count, intermediate int
	routing             Routing
	// Names behind a layer's, without .weight and .bias. gate, up and down are formatted with the expert's number, or, where
	// stacked, they hold all experts, one behind the other.
	router             string
	gate, up, down     string
	stacked            bool
	gateOrder, upOrder Order // where a tensor holds both; else zero
	transposed         bool  // stacked matrices are stored as [inputs][outputs]
	routerBias, bias   bool
	correction         string // whole, of Routing.Correction; "": none
	// The shared expert has an intermediate size of sharedColumns; 0: there is none.
	sharedColumns                    int
	sharedGate, sharedUp, sharedDown string
}

// check refuses what cannot be.
func (e *experts) check() error {
	for name, value := range map[string]int{"number of experts": e.count, "intermediate size of experts": e.intermediate} {
		if value < 1 || value > weights.MaxDimension {
			return fmt.Errorf("%s is %d, want 1 to %d", name, value, weights.MaxDimension)
		}
	}
	r := e.routing
	switch {
	case e.count > maxExperts:
		return fmt.Errorf("%d experts are more than %d", e.count, maxExperts)
	case r.Chosen < 1 || r.Chosen > e.count:
		return fmt.Errorf("%d experts of %d are to be chosen for a token", r.Chosen, e.count)
	case r.Groups > 0 && (e.count%r.Groups != 0 || r.GroupsChosen < 1 || r.GroupsChosen > r.Groups ||
		r.Chosen > e.count/r.Groups*r.GroupsChosen):
		return fmt.Errorf("%d experts in %d groups, of which %d are chosen, do not give %d", e.count, r.Groups, r.GroupsChosen, r.Chosen)
	}
	return nil
}

// maxExperts bounds what a router's configuration may ask for, and maxAllExperts what all together may: each takes some kilobytes,
// however small it is.
const (
	maxExperts    = 4096
	maxAllExperts = 1 << 16
)

func everyLayer(int) bool { return true }

// mixture writes a layer's experts.
func (d *decoder) mixture(r *recipe, layer int) {
	c, e := &r.Config, d.experts
	if r.experts += e.count; r.experts > maxAllExperts {
		r.fail(fmt.Errorf("%d layers with %d experts each are more than %d experts", c.Layers, e.count, maxAllExperts))
		return
	}
	s := &Experts{Routing: e.routing, Activation: d.activation, PartNorm: d.layerNorm(r, layer, d.names.mlpPartNorm),
		Norm: d.next(r, layer)}
	s.Router = r.whole(d.tensor(layer, e.router), e.routerBias, e.count, c.Hidden)
	if e.correction != "" {
		s.Routing.CorrectionName = d.tensor(layer, e.correction)
		s.Routing.Correction = r.vector(s.Routing.CorrectionName, e.count)
	}
	columns := r.columns(e.intermediate, r.nameOf(d.tensor(layer, e.named(e.down, 0))))
	for i := range e.count {
		if r.err != nil {
			return
		}
		projection := func(name string) string { return d.tensor(layer, e.named(name, i)) }
		s.Experts = append(s.Experts, Expert{
			Gate: r.outputs(projection(e.gate), e.bias, e.intermediate, c.Hidden, columns, e.order(e.gateOrder, i, e.intermediate)),
			Up:   r.outputs(projection(e.up), e.bias, e.intermediate, c.Hidden, columns, e.order(e.upOrder, i, e.intermediate)),
			Down: r.inputs(projection(e.down), e.bias, c.Hidden, e.intermediate, e.intermediate, columns, e.order(Order{}, i, c.Hidden))})
	}
	r.adaptExperts(s, d.tensor(layer, ""), e)
	if e.sharedColumns > 0 {
		columns := r.columns(e.sharedColumns, d.tensor(layer, e.sharedDown)+".weight")
		s.Shared = &Expert{
			Gate: r.outputs(d.tensor(layer, e.sharedGate), false, e.sharedColumns, c.Hidden, columns, Order{}),
			Up:   r.outputs(d.tensor(layer, e.sharedUp), false, e.sharedColumns, c.Hidden, columns, Order{}),
			Down: r.inputs(d.tensor(layer, e.sharedDown), false, c.Hidden, e.sharedColumns, e.sharedColumns, columns, Order{})}
	}
	r.add(s)
}

// named is the name of an expert's projection.
func (e *experts) named(name string, expert int) string {
	if e.stacked {
		return name
	}
	return fmt.Sprintf(name, expert)
}

// order says where the rows of an expert's matrix of so many rows lie.
func (e *experts) order(order Order, expert, rows int) Order {
	if !e.stacked {
		return order
	}
	if order.Stride == 0 {
		order = Order{Group: rows, Stride: rows}
	}
	order.Offset += expert * (rows / order.Group * order.Stride)
	order.Stacked = e.count
	if e.transposed {
		order.Transposed, order.TransposedParts = true, e.count
	}
	return order
}

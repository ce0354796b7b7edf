package model

import (
	"fmt"
	"strings"

	"lockstep/shard/weights"
)

// expertsModule is the module that holds all experts of a layer, as transformers 5 names it, behind a layer's name.
const expertsModule = "mlp.experts"

// stackOf is the module of experts whose parameters a projection of an adapter stands for; "": it does for none. PEFT wraps a module
// once for each of its parameters.
func (c *adapterConfig) stackOf(projection string) string {
	for strings.HasSuffix(projection, ".base_layer") {
		projection = strings.TrimSuffix(projection, ".base_layer")
	}
	if len(c.Parameters) == 0 || !strings.HasSuffix(projection, "."+expertsModule) {
		return ""
	}
	return projection
}

// parameter is the name of a module's weight, where target_parameters names that; "": it does not.
func (c *adapterConfig) parameter(module string) string {
	weight := module + ".weight"
	for _, name := range c.Parameters {
		if weight == name || strings.HasSuffix(weight, "."+name) {
			return weight
		}
	}
	return ""
}

// adaptExperts finds what the adapters have for the parameters that hold all experts of a layer. Of each such A is
// [expert][rank][inputs] and B [outputs][rank][expert]; outputs of gate and up lie as they do in gate_up_proj.
func (r *recipe) adaptExperts(s *Experts, layer string, e *experts) {
	module := inLayers(layer + expertsModule)
	for i, adapter := range r.adapters {
		for _, m := range adapter.stacks[module] {
			if r.err == nil {
				r.adaptStack(s, i, m, e)
			}
			r.adapted[i][module] = true
		}
	}
}

// adaptStack does so with one parameter of an adapter.
func (r *recipe) adaptStack(s *Experts, adapter int, m *adapted, e *experts) {
	a, hidden := r.adapters[adapter], r.Config.Hidden
	outputs, _ := a.files.Size(m.b)
	_, inputs := a.files.Size(m.a)
	gate, up := e.gateOrder, e.upOrder
	if gate.Stride == 0 {
		gate = Order{Group: e.intermediate, Stride: 2 * e.intermediate}
		up = Order{Group: e.intermediate, Stride: 2 * e.intermediate, Offset: e.intermediate}
	}
	var parameter string
	switch {
	case inputs == hidden && outputs == 2*e.intermediate:
		parameter = "gate_up_proj"
	case inputs == e.intermediate && outputs == hidden:
		parameter = "down_proj"
	default:
		r.fail(fmt.Errorf("adapter %s: %s is for a matrix of %d x %d, and this model's experts have %d x %d and %d x %d: it was made for "+
			"another model", a.Name, m.module, outputs, inputs, 2*e.intermediate, hidden, hidden, e.intermediate))
		return
	}
	own := *m
	a.config.setScale(&own, m.module+"."+parameter)
	if err := own.check(a.files, e.count); err != nil {
		r.fail(fmt.Errorf("adapter %s: %s: %w", a.Name, m.module, err))
		return
	}
	for expert := range s.Experts {
		x := &s.Experts[expert]
		if parameter == "down_proj" {
			r.adaptExpert(&x.Down, adapter, &own, expert, e.count, inputs, hidden, Order{})
			continue
		}
		r.adaptExpert(&x.Gate, adapter, &own, expert, e.count, inputs, outputs, gate)
		r.adaptExpert(&x.Up, adapter, &own, expert, e.count, inputs, outputs, up)
	}
}

// adaptExpert sets what an adapter has for a projection of one of so many experts. order says where its rows lie in B.
func (r *recipe) adaptExpert(l *Linear, adapter int, m *adapted, expert, count, inputs, outputs int, order Order) {
	files := r.adapters[adapter].files
	down, err := files.Tensor(m.a, count*m.rank, inputs)
	var up weights.Tensor
	if err == nil {
		up, err = files.Every(m.b, outputs, count*m.rank, count, expert)
	}
	if err != nil {
		r.fail(fmt.Errorf("adapter %s: %w", r.adapters[adapter].Name, err))
		return
	}
	low := &LowRank{Scale: m.scale,
		A: Linear{Matrix: Matrix{Tensor: down, Name: m.a, Order: Order{Group: m.rank, Stride: m.rank, Offset: expert * m.rank}},
			Rows: Span{0, m.rank}, Columns: l.Columns, Chunks: 1},
		B: Linear{Matrix: Matrix{Tensor: up, Name: m.b, Order: order}, Rows: l.Rows, Columns: Span{0, m.rank}, Chunks: 1}}
	if order.Stride == 0 { // of a row-parallel projection
		r.chunk(&low.A, inputs, inputs)
	}
	if l.Low == nil {
		l.Low = make([]*LowRank, len(r.adapters))
	}
	if l.Low[adapter] != nil {
		r.fail(fmt.Errorf("adapter %s has %s more than once: fetch it anew", r.adapters[adapter].Name, m.module))
		return
	}
	l.Low[adapter] = low
}

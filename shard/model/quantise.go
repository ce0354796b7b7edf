package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lockstep/shard/weights"
)

// quantiser says into which encodings plain weights are brought while they are packed: those of a layer's projections, and that
// of a head of its own. Embeddings, norms and whatever is small stay as they are.
type quantiser struct {
	name         string
	layers, head weights.Encoding
}

var quantisers = map[string]quantiser{
	"int8": {"int8", weights.Q8_0, weights.Q8_0},
	"int4": {"int4", weights.Q4_1, weights.Q8_0},
}

// quantiseAliases are TGI's names of what is near, which it computes with libraries of CUDA.
var quantiseAliases = map[string]string{"bitsandbytes": "int8", "eetq": "int8", "bitsandbytes-nf4": "int4", "bitsandbytes-fp4": "int4"}

// quantiseStored are TGI's names of formats that a checkpoint is in or is not, with the quant_methods that they stand for.
var quantiseStored = map[string][]string{"gptq": {"gptq"}, "awq": {"awq"}, "marlin": {"gptq", "awq"},
	"fp8":                {"fp8", "fbgemm_fp8", "modelopt"},
	"compressed-tensors": {"compressed-tensors"}}

// QuantiseNames are what Quantise takes.
func QuantiseNames() (names []string) {
	for name := range quantisers {
		names = append(names, name)
	}
	for name := range quantiseAliases {
		names = append(names, name)
	}
	for name := range quantiseStored {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Quantise has the model computed with quantised weights, as one of QuantiseNames asks for. note is for the log where that is
// another than was asked for. A model whose weights are quantised already is refused, there and by Part.
func (m *Model) Quantise(name string) (note string, err error) {
	if methods, ok := quantiseStored[name]; ok {
		if !slices.Contains(methods, m.Files.QuantMethod) {
			return "", fmt.Errorf("the model's files are not in the format %q: %s", name, instead(m.Files.QuantMethod))
		}
		return "", nil // they say the same
	}
	if alias := quantiseAliases[name]; alias != "" {
		note = fmt.Sprintf("--quantize %s is computed as %s, which is near: docs/models.md says of what", name, alias)
	}
	q, ok := quantisers[cmp.Or(quantiseAliases[name], name)]
	if !ok {
		return "", fmt.Errorf("no weights can be brought into %q: want one of %s", name, strings.Join(QuantiseNames(), ", "))
	}
	if m.Files.QuantMethod != "" {
		return "", fmt.Errorf("the model's weights are quantised already (%s): serve it without --quantize %s", m.Files.QuantMethod, name)
	}
	m.quantiser = &q
	return note, nil
}

// instead says what a model is in, and what that leaves to do.
func instead(method string) string {
	if method == "" {
		return "nothing in them says that they are quantised; give --quantize int8 or int4, which are made of plain weights while they " +
			"are " +
			"loaded, or nothing"
	}
	return fmt.Sprintf("they are in %s; serve it without --quantize", method)
}

// weight is matrix for one of a layer's projections.
func (r *recipe) weight(name string, rows, columns int, order Order) Matrix {
	m := r.matrix(name, rows, columns, order)
	if r.quantiser != nil && r.err == nil {
		m.Tensor = r.quantised(m.Tensor, name, r.quantiser.layers)
	}
	return m
}

// encoding is what a layer's projection of so many columns is computed in.
func (r *recipe) encoding(name string, columns int) weights.Encoding {
	e := r.files.Encoding(name)
	if q := r.quantiser; q != nil && e.Plain() && columns%q.layers.BlockColumns() == 0 {
		return q.layers
	}
	return e
}

// quantised brings a tensor into an encoding. One whose columns are no whole blocks stays as it is.
func (r *recipe) quantised(t weights.Tensor, name string, e weights.Encoding) weights.Tensor {
	if !t.Encoding.Plain() {
		r.fail(fmt.Errorf("tensor %s is quantised already (%v): serve the model without --quantize %s", name, t.Encoding, r.quantiser.name))
		return t
	}
	if t.Columns%e.BlockColumns() != 0 {
		return t
	}
	return t.As(e)
}

// quantiseHead brings a head of its own into its encoding; one that is the embedding stays as that is.
func (r *recipe) quantiseHead() {
	if r.quantiser == nil || r.err != nil {
		return
	}
	for _, stage := range r.Stages {
		if head, ok := stage.(*Head); ok && head.Weight.Name != r.Config.Embedding {
			head.Weight.Tensor = r.quantised(head.Weight.Tensor, head.Weight.Name, r.quantiser.head)
		}
	}
}

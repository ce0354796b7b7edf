package model

import (
	"fmt"
	"math"
	"slices"
)

// decoder writes the recipe that most families share with Llama: norm, attention, norm, gated MLP. Its fields are what they
// differ in.
type decoder struct {
	names tensorNames
	// biased are the names, of tensorNames, of the projections that have biases; nil: those whose biases are in the files.
	biased    []string
	allBiases bool
	headNorms bool  // each head's queries and keys are normed before they are rotated
	windows   []int // see Attend.Window, by layer; nil: 0 for all
	tied      bool  // the head is the embedding
	// queryOrder, keyOrder and valueOrder say where the rows lie in their tensors.
	queryOrder, keyOrder, valueOrder Order
	score                            func(r *recipe) // writes a score head in place of the head; nil: there is none
}

// tensorNames are the names of a family's tensors: whole ones without a layer's, and those of a layer behind "model.layers.N.",
// without .weight and .bias.
type tensorNames struct {
	embedding, finalNorm, head string

	attentionNorm, mlpNorm    string
	queryNorm, keyNorm        string
	query, key, value, output string
	gate, up, down            string
}

// llamaNames are Llama's, and those that package weights gives the tensors of GGUF files.
var llamaNames = tensorNames{
	embedding: "model.embed_tokens.weight", finalNorm: "model.norm.weight", head: "lm_head.weight",
	attentionNorm: "input_layernorm", mlpNorm: "post_attention_layernorm", queryNorm: "self_attn.q_norm", keyNorm: "self_attn.k_norm",
	query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj", output: "self_attn.o_proj",
	gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj",
}

func (d *decoder) write(r *recipe) {
	c, n := &r.Config, d.names
	layer := func(number int, name string) string { return fmt.Sprintf("model.layers.%d.%s", number, name) }
	norm := func(number int) Norm { // of the input of a layer's attention, behind the last layer the final norm
		if number == c.Layers {
			return r.norm(n.finalNorm, c.Hidden)
		}
		return r.norm(layer(number, n.attentionNorm)+".weight", c.Hidden)
	}
	if r.split(layer(0, n.down) + ".weight"); r.err != nil {
		return
	}
	rotation := r.rotation(c.Rope)
	embedding := r.matrix(n.embedding, c.Vocabulary, c.Hidden, Order{})
	r.add(&Embed{Table: embedding, Norm: norm(0)})
	for i := range c.Layers {
		rows := func(name string, all int, span Span, order Order) Linear {
			return r.outputs(layer(i, name), d.hasBias(r, layer(i, name), name), all, c.Hidden, span, order)
		}
		project := &Project{Layer: i, Rotation: rotation,
			Query: rows(n.query, c.Heads*c.HeadDim, r.Heads.times(c.HeadDim), d.queryOrder),
			Key:   rows(n.key, c.KVHeads*c.HeadDim, r.KVHeads.times(c.HeadDim), d.keyOrder),
			Value: rows(n.value, c.KVHeads*c.HeadDim, r.KVHeads.times(c.HeadDim), d.valueOrder)}
		if d.headNorms {
			project.QueryNorm = r.norm(layer(i, n.queryNorm)+".weight", c.HeadDim)
			project.KeyNorm = r.norm(layer(i, n.keyNorm)+".weight", c.HeadDim)
		}
		attend := &Attend{Layer: i, Scale: float32(1 / math.Sqrt(float64(c.HeadDim)))}
		if d.windows != nil {
			attend.Window = d.windows[i]
		}
		output := r.inputs(layer(i, n.output), d.hasBias(r, layer(i, n.output), n.output), c.Hidden, c.Heads*c.HeadDim, c.Heads, r.Heads.times(c.HeadDim))
		r.attentionColumns(i, output.Columns)
		gate := &Gate{Activation: SiLU, Gate: rows(n.gate, c.Intermediate, r.Columns, Order{}), Up: rows(n.up, c.Intermediate, r.Columns, Order{})}
		down := r.inputs(layer(i, n.down), d.hasBias(r, layer(i, n.down), n.down), c.Hidden, c.Intermediate, c.Intermediate, r.Columns)
		if down.Columns != r.Columns {
			r.fail(fmt.Errorf("layer %d: %s has another format than layer 0; such mixtures cannot be split at column %d yet", i, n.down, r.Columns.From))
		}
		r.add(project, attend, &Join{Weight: output, Norm: r.norm(layer(i, n.mlpNorm)+".weight", c.Hidden)}, gate, &Join{Weight: down, Norm: norm(i + 1)})
	}
	d.head(r)
}

// hasBias reports whether a projection of a layer has a bias. In Hugging Face's format the configuration decides, and others
// are ignored, as transformers does; in GGUF each that is there counts, as in llama.cpp.
func (d *decoder) hasBias(r *recipe, tensor, name string) bool {
	if d.allBiases {
		return r.files.Has(tensor + ".bias")
	}
	return slices.Contains(d.biased, name)
}

func (d *decoder) head(r *recipe) {
	c := &r.Config
	if d.score != nil {
		d.score(r)
		return
	}
	name := d.names.head
	switch {
	case d.tied:
		r.used[name] = true // says nothing new
		name = d.names.embedding
	case !r.files.Has(name):
		r.fail(fmt.Errorf("the model's files have no head (%s), and config.json does not say that it is tied to the embedding (tie_word_embeddings): see whether all files are there", name))
		return
	}
	r.add(&Head{Weight: Linear{Matrix: r.matrix(name, c.Vocabulary, c.Hidden, Order{}), Rows: r.Vocabulary, Columns: Span{0, c.Hidden}, Chunks: 1}})
}

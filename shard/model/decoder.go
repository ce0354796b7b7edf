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
	// biased are the names, of tensorNames, of the projections that have biases, whatever is in the files; allBiases: those that
	// are in the files.
	biased    []string
	allBiases bool
	headNorms bool  // each head's queries and keys are normed before they are rotated
	windows   []int // see Attend.Window, by layer; nil: 0 for all
	tied      bool  // the head is the embedding
	// normPlusOne says that norms multiply by 1 + their weight.
	normPlusOne bool
	// embeddingScale multiplies the embeddings; attentionScale queries' products with keys. 0: 1, and 1/sqrt(head dimension).
	embeddingScale, attentionScale float32
	// ropes are the kinds of rotations and ropeOf tells a layer's; without them it is Config.Rope for all.
	ropes  []Rope
	ropeOf func(layer int) int
	// queryOrder, keyOrder and valueOrder say where the rows lie in their tensors.
	queryOrder, keyOrder, valueOrder Order
	score                            func(r *recipe) // writes a score head in place of the head; nil: there is none
}

// tensorNames are the names of a family's tensors: whole ones without a layer's, and those of a layer behind
// "model.layers.N.", without .weight and .bias.
type tensorNames struct {
	embedding, finalNorm, head string

	attentionNorm, mlpNorm    string
	queryNorm, keyNorm        string
	query, key, value, output string
	gate, up, down            string
	// What attention and MLP give is normed by these before it is added to the residual stream; "": it is not.
	attentionPartNorm, mlpPartNorm string
}

// llamaNames are Llama's, and those that package weights gives the tensors of GGUF files.
var llamaNames = tensorNames{
	embedding: "model.embed_tokens.weight", finalNorm: "model.norm.weight", head: "lm_head.weight",
	attentionNorm: "input_layernorm", mlpNorm: "post_attention_layernorm", queryNorm: "self_attn.q_norm", keyNorm: "self_attn.k_norm",
	query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj", output: "self_attn.o_proj",
	gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj",
}

// write is a writer. It works on a copy of the decoder, since the ranks of a test may share it.
func (d decoder) write(r *recipe) {
	c, n := &r.Config, d.names
	if r.split(layerTensor(0, n.down) + ".weight"); r.err != nil {
		return
	}
	if d.ropes == nil {
		d.ropes, d.ropeOf = []Rope{c.Rope}, func(int) int { return 0 }
	}
	r.rotations(d.ropes)
	r.add(&Embed{Table: r.matrix(n.embedding, c.Vocabulary, c.Hidden, Order{}), Scale: d.embeddingScale,
		Norm: d.layerNorm(r, 0, n.attentionNorm)})
	for i := range c.Layers {
		d.attention(r, i)
		d.mlp(r, i)
	}
	d.head(r)
}

// layerTensor is a tensor's name without .weight or .bias.
func layerTensor(layer int, name string) string {
	return fmt.Sprintf("model.layers.%d.%s", layer, name)
}

// norm is a norm over so many columns.
func (d *decoder) norm(r *recipe, name string, columns int) Norm {
	if d.normPlusOne {
		return r.normPlusOne(name, columns)
	}
	return r.norm(name, columns)
}

// layerNorm is a norm of a layer; without a name none.
func (d *decoder) layerNorm(r *recipe, layer int, name string) Norm {
	if name == "" {
		return Norm{}
	}
	return d.norm(r, layerTensor(layer, name)+".weight", r.Config.Hidden)
}

// outputs is a column-parallel projection of the hidden state.
func (d *decoder) outputs(r *recipe, layer int, name string, all int, local Span, order Order) Linear {
	projection := layerTensor(layer, name)
	return r.outputs(projection, d.hasBias(r, projection, name), all, r.Config.Hidden, local, order)
}

func (d *decoder) attention(r *recipe, layer int) {
	c, n := &r.Config, d.names
	project := &Project{Layer: layer, Rotation: d.ropeOf(layer),
		Query: d.outputs(r, layer, n.query, c.Heads*c.HeadDim, r.Heads.times(c.HeadDim), d.queryOrder),
		Key:   d.outputs(r, layer, n.key, c.KVHeads*c.HeadDim, r.KVHeads.times(c.HeadDim), d.keyOrder),
		Value: d.outputs(r, layer, n.value, c.KVHeads*c.HeadDim, r.KVHeads.times(c.HeadDim), d.valueOrder)}
	if d.headNorms {
		project.QueryNorm = d.norm(r, layerTensor(layer, n.queryNorm)+".weight", c.HeadDim)
		project.KeyNorm = d.norm(r, layerTensor(layer, n.keyNorm)+".weight", c.HeadDim)
	}
	attend := &Attend{Layer: layer, Scale: d.attentionScale}
	if attend.Scale == 0 {
		attend.Scale = float32(1 / math.Sqrt(float64(c.HeadDim)))
	}
	if d.windows != nil {
		attend.Window = d.windows[layer]
	}
	projection := layerTensor(layer, n.output)
	output := r.inputs(projection, d.hasBias(r, projection, n.output), c.Hidden, c.Heads*c.HeadDim, c.Heads, r.Heads.times(c.HeadDim))
	r.attentionColumns(layer, output.Columns)
	r.add(project, attend, &Join{Weight: output, PartNorm: d.layerNorm(r, layer, n.attentionPartNorm),
		Norm: d.layerNorm(r, layer, n.mlpNorm)})
}

func (d *decoder) mlp(r *recipe, layer int) {
	c, n := &r.Config, d.names
	gate := &Gate{Activation: SiLU, Gate: d.outputs(r, layer, n.gate, c.Intermediate, r.Columns, Order{}),
		Up: d.outputs(r, layer, n.up, c.Intermediate, r.Columns, Order{})}
	projection := layerTensor(layer, n.down)
	down := r.inputs(projection, d.hasBias(r, projection, n.down), c.Hidden, c.Intermediate, c.Intermediate, r.Columns)
	if down.Columns != r.Columns {
		r.fail(fmt.Errorf("layer %d: %s has another format than layer 0; such mixtures cannot be split at column %d yet",
			layer, n.down, r.Columns.From))
	}
	next := d.norm(r, n.finalNorm, c.Hidden)
	if layer+1 < c.Layers {
		next = d.layerNorm(r, layer+1, n.attentionNorm)
	}
	r.add(gate, &Join{Weight: down, PartNorm: d.layerNorm(r, layer, n.mlpPartNorm), Norm: next})
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
		r.fail(fmt.Errorf("the model's files have no head (%s), and config.json does not say that it is tied to the embedding "+
			"(tie_word_embeddings): see whether all files are there", name))
		return
	}
	matrix := r.matrix(name, c.Vocabulary, c.Hidden, Order{})
	r.add(&Head{Weight: Linear{Matrix: matrix, Rows: r.Vocabulary, Columns: Span{0, c.Hidden}, Chunks: 1}})
}

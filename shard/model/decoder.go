package model

import (
	"fmt"
	"math"
	"slices"
)

// decoder writes the recipe that families share: norm, attention, norm, MLP or experts. Its fields are what they differ in.
type decoder struct {
	names tensorNames
	// biased are the names, of tensorNames, of the projections that have biases, whatever is in the files; allBiases: those that
	// are in the files.
	biased    []string
	allBiases bool
	headNorms bool  // each head's queries and keys are normed before they are rotated
	windows   []int // see Attend.Window, by layer; nil: 0 for all
	tied      bool  // the head is the embedding
	// normPlusOne says that norms multiply by 1 + their weight, normCentred that they subtract the mean and have biases.
	normPlusOne, normCentred bool
	// parallel: the MLP reads the stream that attention reads, through a norm of its own.
	parallel   bool
	activation Activation // "": SiLU
	// transposed: matrices of layers are stored as [inputs][outputs].
	transposed bool
	// embeddingScale multiplies the embeddings; attentionScale queries' products with keys. 0: 1, and 1/sqrt(head dimension).
	embeddingScale, attentionScale float32
	scaleByLayer                   bool    // attentionScale is divided by the layer's number, counted from 1
	attentionCap, headCap          float32 // see Attend.Cap and Head.Cap
	// ropes are the kinds of rotations and ropeOf tells a layer's; without them it is Config.Rope for all.
	ropes  []Rope
	ropeOf func(layer int) int
	// These say where the rows lie in their tensors.
	queryOrder, keyOrder, valueOrder, gateOrder, upOrder Order
	latent                                               *latent         // nil: keys and values are projected from the norm
	experts                                              *experts        // nil: all layers have an MLP
	score                                                func(r *recipe) // writes a score head in place of the head; nil: there is none
}

// tensorNames are the names of a family's tensors: whole ones without a layer's, and those of a layer behind layer, which is
// formatted with its number, without .weight and .bias. "": there is no such tensor.
type tensorNames struct {
	embedding, positions, finalNorm, head string

	layer                     string
	attentionNorm, mlpNorm    string
	queryNorm, keyNorm        string
	query, key, value, output string
	sinks                     string
	gate, up, down            string
	// What attention and MLP give is normed by these before it is added to the residual stream; "": it is not.
	attentionPartNorm, mlpPartNorm string
}

// llamaNames are Llama's.
var llamaNames = tensorNames{
	embedding: "model.embed_tokens.weight", finalNorm: "model.norm.weight", head: "lm_head.weight", layer: "model.layers.%d.",
	attentionNorm: "input_layernorm", mlpNorm: "post_attention_layernorm", queryNorm: "self_attn.q_norm", keyNorm: "self_attn.k_norm",
	query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj", output: "self_attn.o_proj",
	gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj",
}

// write is a writer. It works on a copy of the decoder, since the ranks of a test may share it.
func (d decoder) write(r *recipe) {
	c, n := &r.Config, d.names
	if d.activation == "" {
		d.activation = SiLU
	}
	if d.ropes == nil && c.Rope.Type != "" {
		d.ropes = []Rope{c.Rope}
	}
	if d.ropeOf == nil {
		d.ropeOf = func(int) int { return len(d.ropes) - 1 } // none: -1
	}
	if d.attentionScale == 0 {
		d.attentionScale = float32(1 / math.Sqrt(float64(c.HeadDim)))
	}
	r.checkNumbers(&d)
	r.split(d.projections(c.Layers, n.output))
	if r.err != nil {
		return
	}
	r.rotations(d.ropes)
	embed := &Embed{Table: r.matrix(n.embedding, c.Vocabulary, c.Hidden, Order{}), Scale: d.embeddingScale,
		Norm: d.layerNorm(r, 0, n.attentionNorm), AsideNorm: d.asideNorm(r, 0)}
	if n.positions != "" {
		positions := r.matrix(n.positions, c.MaxPositions, c.Hidden, Order{})
		embed.Positions = &positions
	}
	r.add(embed)
	for i := range c.Layers {
		d.attention(r, i)
		if d.experts != nil && d.experts.of(i) {
			d.mixture(r, i)
		} else {
			d.mlp(r, i)
		}
		if r.err != nil {
			return
		}
	}
	d.head(r)
}

// tensor is the name of a layer's tensor without .weight or .bias.
func (d *decoder) tensor(layer int, name string) string {
	return fmt.Sprintf(d.names.layer, layer) + name
}

// projections are the names of all layers' weights of one name.
func (d *decoder) projections(layers int, name string) (all []string) {
	for layer := range layers {
		all = append(all, d.tensor(layer, name)+".weight")
	}
	return all
}

// norm is a norm over so many columns.
func (d *decoder) norm(r *recipe, name string, columns int) Norm {
	switch {
	case d.normPlusOne:
		return r.normPlusOne(name, columns)
	case d.normCentred:
		return r.normCentred(name, columns)
	}
	return r.norm(name, columns)
}

// layerNorm is a norm of a layer; without a name none.
func (d *decoder) layerNorm(r *recipe, layer int, name string) Norm {
	if name == "" {
		return Norm{}
	}
	return d.norm(r, d.tensor(layer, name)+".weight", r.Config.Hidden)
}

// asideNorm is the MLP's norm where the stream that it reads is the one that attention reads.
func (d *decoder) asideNorm(r *recipe, layer int) Norm {
	if !d.parallel {
		return Norm{}
	}
	return d.layerNorm(r, layer, d.names.mlpNorm)
}

// outputs is a column-parallel projection of the hidden state.
func (d *decoder) outputs(r *recipe, layer int, name string, all int, local Span, order Order) Linear {
	projection := d.tensor(layer, name)
	order.Transposed = d.transposed
	return r.outputs(projection, d.hasBias(r, projection, name), all, r.Config.Hidden, local, order)
}

// inputs is a row-parallel projection to the hidden state.
func (d *decoder) inputs(r *recipe, layer int, name string, all, units int, local Span) Linear {
	projection := d.tensor(layer, name)
	return r.inputs(projection, d.hasBias(r, projection, name), r.Config.Hidden, all, units, local, Order{Transposed: d.transposed})
}

func (d *decoder) attention(r *recipe, layer int) {
	c, n := &r.Config, d.names
	var project Stage
	if d.latent != nil {
		project = d.projectLatent(r, layer)
	} else {
		p := &Project{Layer: layer, Rotation: d.ropeOf(layer),
			Query: d.outputs(r, layer, n.query, c.Heads*c.HeadDim, r.Heads.times(c.HeadDim), d.queryOrder),
			Key:   d.outputs(r, layer, n.key, c.KVHeads*c.HeadDim, r.KVHeads.times(c.HeadDim), d.keyOrder),
			Value: d.outputs(r, layer, n.value, c.KVHeads*c.HeadDim, r.KVHeads.times(c.HeadDim), d.valueOrder)}
		if d.headNorms {
			p.QueryNorm = d.norm(r, d.tensor(layer, n.queryNorm)+".weight", c.HeadDim)
			p.KeyNorm = d.norm(r, d.tensor(layer, n.keyNorm)+".weight", c.HeadDim)
		}
		project = p
	}
	attend := &Attend{Layer: layer, Scale: d.attentionScale, Cap: d.attentionCap}
	if d.scaleByLayer {
		attend.Scale /= float32(layer + 1)
	}
	if d.windows != nil {
		attend.Window = d.windows[layer]
	}
	if n.sinks != "" {
		attend.SinksName = d.tensor(layer, n.sinks)
		if sinks := r.vector(attend.SinksName, c.Heads); sinks != nil {
			attend.Sinks = sinks[r.Heads.From:r.Heads.To]
		}
	}
	join := &Join{Weight: d.inputs(r, layer, n.output, c.Heads*c.ValueDims(), c.Heads, r.AttentionColumns),
		PartNorm: d.layerNorm(r, layer, n.attentionPartNorm)}
	if !d.parallel {
		join.Norm = d.layerNorm(r, layer, n.mlpNorm)
	}
	r.add(project, attend, join)
}

// next is the norm of the stream behind a layer.
func (d *decoder) next(r *recipe, layer int) Norm {
	if layer+1 < r.Config.Layers {
		return d.layerNorm(r, layer+1, d.names.attentionNorm)
	}
	return d.norm(r, d.names.finalNorm, r.Config.Hidden)
}

func (d *decoder) mlp(r *recipe, layer int) {
	c, n := &r.Config, d.names
	columns := r.columns(c.Intermediate, d.tensor(layer, n.down)+".weight")
	gate := &Gate{Activation: d.activation, Up: d.outputs(r, layer, n.up, c.Intermediate, columns, d.upOrder), Aside: d.parallel}
	if n.gate != "" {
		linear := d.outputs(r, layer, n.gate, c.Intermediate, columns, d.gateOrder)
		gate.Gate = &linear
	}
	join := &Join{Weight: d.inputs(r, layer, n.down, c.Intermediate, c.Intermediate, columns),
		PartNorm: d.layerNorm(r, layer, n.mlpPartNorm), Norm: d.next(r, layer)}
	if layer+1 < c.Layers {
		join.AsideNorm = d.asideNorm(r, layer+1)
	}
	r.add(gate, join)
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
	case d.tied && r.differs(name, d.names.embedding, c.Vocabulary, c.Hidden):
		// as in transformers 5: what the files have counts, whatever the configuration says
	case d.tied:
		r.used[name] = true // says nothing new
		name = d.names.embedding
	case !r.files.Has(name):
		r.fail(fmt.Errorf("the model's files have no head (%s), and config.json does not say that it is tied to the embedding "+
			"(tie_word_embeddings): see whether all files are there", name))
		return
	}
	matrix := r.matrix(name, c.Vocabulary, c.Hidden, Order{})
	r.add(&Head{Weight: Linear{Matrix: matrix, Rows: r.Vocabulary, Columns: Span{0, c.Hidden}, Chunks: 1}, Cap: d.headCap})
}

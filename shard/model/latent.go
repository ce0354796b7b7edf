package model

// latent is what projections from a latent need beside Config: queries and keys of HeadDim numbers, of which the last
// `rotated` are rotated, values of ValueDim.
type latent struct {
	// queryRank is the size of the queries' own latent; 0: they have none.
	queryRank, rank, rotated int
	paired                   bool // rotated rows are stored as pairs (2i, 2i+1)

	queryLatent, queryLatentNorm string
	latent, latentNorm           string
	// expand is the tensor of a head's key and then its value, one head behind the other; "": key and value are tensors of their
	// own, and a head's key is stored as [inputs][outputs].
	expand, key, value string
}

// projectLatent writes the projections of a layer.
func (d *decoder) projectLatent(r *recipe, layer int) *ProjectLatent {
	c, l := &r.Config, d.latent
	plain := c.HeadDim - l.rotated
	p := &ProjectLatent{Layer: layer, Plain: plain, Rotation: d.ropeOf(layer)}
	queryOrder, latentOrder := Order{}, Order{}
	if l.paired {
		queryOrder = Order{PairedHead: c.HeadDim, PairedFrom: plain}
		latentOrder = Order{PairedHead: l.rank + l.rotated, PairedFrom: l.rank}
	}
	inputs := c.Hidden
	if l.queryRank > 0 {
		projection := d.tensor(layer, l.queryLatent)
		linear := r.whole(projection, d.hasBias(r, projection, l.queryLatent), l.queryRank, c.Hidden)
		p.QueryLatent, inputs = &linear, l.queryRank
		p.QueryLatentNorm = d.norm(r, d.tensor(layer, l.queryLatentNorm)+".weight", l.queryRank)
	}
	p.Query = r.outputs(d.tensor(layer, d.names.query), false, c.Heads*c.HeadDim, inputs, r.Heads.times(c.HeadDim), queryOrder)
	projection := d.tensor(layer, l.latent)
	rows := l.rank + l.rotated
	p.Latent = r.outputs(projection, d.hasBias(r, projection, l.latent), rows, c.Hidden, Span{0, rows}, latentOrder)
	p.LatentNorm = d.norm(r, d.tensor(layer, l.latentNorm)+".weight", l.rank)
	stride := plain + c.ValueDims()
	key, value := l.expand, l.expand
	keyOrder := Order{Group: plain, Stride: stride}
	valueOrder := Order{Group: c.ValueDims(), Stride: stride, Offset: plain}
	if l.expand == "" {
		key, value, keyOrder, valueOrder = l.key, l.value, Order{Transposed: true, TransposedParts: c.Heads}, Order{}
	}
	p.Key = r.outputs(d.tensor(layer, key), false, c.Heads*plain, l.rank, r.Heads.times(plain), keyOrder)
	p.Value = r.outputs(d.tensor(layer, value), false, c.Heads*c.ValueDims(), l.rank, r.Heads.times(c.ValueDims()), valueOrder)
	return p
}

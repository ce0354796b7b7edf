package gpu

import (
	"fmt"

	"lockstep/shard/model"
)

// projectLatent is the projection of latent attention. Keys and values are stored expanded, as the host backend has them.
type projectLatent struct {
	*model.ProjectLatent
	queryLatent, query, latent, key, value matrix // queryLatent may be none
	queryLatentNorm, latentNorm            norm
	latentRows                             Address // results of latent and queryLatent, float32
	settings                               turnSettings
	told                                   Address
}

func (l *loader) projectLatent(p *model.ProjectLatent) *projectLatent {
	s := &projectLatent{ProjectLatent: p, queryLatent: l.linear(p.QueryLatent), query: l.linear(&p.Query), latent: l.linear(&p.Latent),
		key: l.linear(&p.Key), value: l.linear(&p.Value), queryLatentNorm: l.norm(&p.QueryLatentNorm), latentNorm: l.norm(&p.LatentNorm)}
	if l.err == nil && (p.LatentNorm.Centred || p.QueryLatentNorm.Centred) {
		l.err = fmt.Errorf("%s: centred norms of latents are not computed on cards", p.LatentNorm.Tensor)
	}
	l.products(s.query, s.key, s.value, s.latent, s.queryLatent)
	return s
}

func (s *projectLatent) settle(b *Backend) (err error) {
	query := b.products
	key := query + Address(4*b.maxRows*s.query.outputs())
	value := key + Address(4*b.maxRows*s.key.outputs())
	s.latentRows = value + Address(4*b.maxRows*s.value.outputs())
	s.settings = turnSettings{query: query, key: key, value: value, queryBias: s.query.bias, keyBias: s.key.bias, valueBias: s.value.bias,
		common: s.latentRows + Address(4*s.latentSize()), commonStride: int32(s.latent.outputs()), plain: int32(s.Plain),
		queryStride: int32(s.query.outputs()), keyStride: int32(s.key.outputs()), valueStride: int32(s.value.outputs())}
	s.told, err = b.tellTurn(&s.settings, s.Rotation)
	return err
}

// latentSize is how many numbers of Latent's outputs are the latent; the others are the rotated part of all keys.
func (s *projectLatent) latentSize() int { return len(s.LatentNorm.Weight) }

// compute leaves rotated queries in queries and stores keys and values in the cache.
func (s *projectLatent) compute(b *Backend) error {
	x := b.normed
	if s.QueryLatent != nil {
		y := s.latentRows + Address(4*b.maxRows*s.latent.outputs())
		n := len(s.QueryLatentNorm.Weight)
		if err := b.outputs(b.normed, result{y, &s.queryLatent}); err != nil {
			return err
		}
		if err := b.normLatent(b.inner, y, &s.queryLatent, s.queryLatentNorm, n, n, s.QueryLatentNorm.Epsilon); err != nil {
			return err
		}
		x = b.inner
	}
	if err := b.outputs(x, result{s.settings.query, &s.query}); err != nil {
		return err
	}
	if err := b.outputs(b.normed, result{s.latentRows, &s.latent}); err != nil {
		return err
	}
	all := s.Latent.Rows.Size()
	if err := b.normLatent(b.inner, s.latentRows, &s.latent, s.latentNorm, s.latentSize(), all, s.LatentNorm.Epsilon); err != nil {
		return err
	}
	if err := b.outputs(b.inner, result{s.settings.key, &s.key}, result{s.settings.value, &s.value}); err != nil {
		return err
	}
	return b.turn(&s.settings, s.told, s.Layer, s.Rotation)
}

// normLatent norms the first n of all results of a product, for the next.
func (b *Backend) normLatent(x, y Address, m *matrix, weight norm, n, all int, epsilon float32) error {
	return b.launch("norm_latent", [3]int{b.shape.rows, 1, 1}, rowThreads, 4*n, x, y, m.bias, weight.weight, int32(n), int32(all),
		int32(m.outputs()), int32(steps(n)), int32(b.terms), epsilon)
}

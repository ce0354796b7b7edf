package model

import (
	"lockstep/shard/codes"
	"lockstep/shard/weights"
)

// Stage is one step of the forward pass on one rank, as data. A backend computes the stages in order, each for all rows of a
// step. Between them stand the residual stream, [row][hidden], and what the stage before left:
//
//	Embed                           the stream, and its norm
//	Project, Attend, Join           attention: of the norm; to the stream, and its norm
//	Gate, Join                      the MLP, likewise
//	Head or Score                   of the norm
type Stage interface{ stage() }

// Embed begins the residual stream with the tokens' embeddings, and norms it.
type Embed struct {
	Table Matrix // [vocabulary][hidden]; every rank has it whole
	// Scale multiplies the embeddings; 0: nothing does.
	Scale float32 `json:",omitempty"`
	Norm  Norm
}

// Project computes queries, keys and values from the norm, rotates queries and keys, and stores keys and values in the
// cache of its layer.
type Project struct {
	Layer             int
	Query, Key, Value Linear
	// QueryNorm and KeyNorm norm each head before it is rotated; without a tensor nothing does.
	QueryNorm, KeyNorm Norm `json:",omitzero"`
	Rotation           int  // index into Part.Rotations
}

// Attend computes the attention of this rank's heads over the cache of its layer.
type Attend struct {
	Layer int
	// Window is how many positions a position sees, itself among them; 0: all before it.
	Window int `json:",omitempty"`
	Scale  float32
}

// Gate computes activation(gate of the norm) x (up of the norm).
type Gate struct {
	Gate, Up   Linear
	Activation Activation
}

// Join multiplies what the stage before left, sums over the ranks, adds that to the residual stream, and norms the stream
// for what comes next.
type Join struct {
	Weight Linear // its bias is added once, after the sum over ranks
	// PartNorm norms the sum before it is added; without a tensor nothing does.
	PartNorm Norm `json:",omitzero"`
	Norm     Norm
}

// Head computes the logits of the rows that want them; each rank those of a part of the vocabulary.
type Head struct{ Weight Linear }

// Score computes a score for each wanted row in place of logits: outer x, or outer relu(inner x). Rank 0 has it whole and the
// others nothing: it is small beside a layer. Its sums are one chain each, like those of a head over the vocabulary.
type Score struct {
	Inner *Linear `json:",omitempty"` // nil: none
	Outer Linear
}

func (*Embed) stage()   {}
func (*Project) stage() {}
func (*Attend) stage()  {}
func (*Gate) stage()    {}
func (*Join) stage()    {}
func (*Head) stage()    {}
func (*Score) stage()   {}

// Activation is a function of one number.
type Activation string

// SiLU is x / (1 + e^-x).
const SiLU Activation = "silu"

// Norm divides a row by its root mean square and multiplies it by a weight (RMSNorm, https://arxiv.org/abs/1910.07467).
type Norm struct {
	Tensor  string
	Epsilon float32
	PlusOne bool      `json:",omitempty"` // the tensor holds the weight less 1
	Weight  []float32 `json:"-"`
}

// Matrix is a tensor, with its rows in the order that the model computes with.
type Matrix struct {
	weights.Tensor `json:"-"`
	Name           string
	Order          Order `json:",omitzero"`
}

// Row returns the bytes of a row in the tensor's encoding; they belong to the mapped file.
func (m *Matrix) Row(row int) []byte { return m.Tensor.Row(m.Order.stored(row)) }

// Bytes returns the columns [from, to) of a row in the tensor's encoding, see weights.Tensor.
func (m *Matrix) Bytes(buffer *[]byte, row, from, to int) []byte {
	return m.Tensor.Bytes(buffer, m.Order.stored(row), from, to)
}

// Decode sets values to the exact values of a row.
func (m *Matrix) Decode(values []float32, row int) { m.Tensor.Decode(values, m.Order.stored(row)) }

// Codes is Row for a tensor in weights.FormCodes: it sets row to the columns [from, to) of a row.
func (m *Matrix) Codes(codes *codes.Row, row, from, to int) {
	m.Tensor.Codes(codes, m.Order.stored(row), from, to)
}

// Linear is a matrix of [outputs][inputs], and which part of it one rank computes with.
type Linear struct {
	Matrix
	Rows, Columns Span
	// Chunks is the number of equal parts of Columns that are summed as chains of their own, and their sums as a binary tree.
	Chunks   int
	BiasName string    `json:",omitempty"`
	Bias     []float32 `json:"-"` // of Rows; nil: none
}

// Order says where the rows of a matrix lie in its tensor. The zero value is: in order.
type Order struct {
	// PairedHead is the head dimension if the rows of each head are stored as rotation pairs (2i, 2i+1), as llama.cpp stores
	// queries and keys, where the model computes with (i, i+half); 0: they are not.
	PairedHead int `json:",omitempty"`
	// Where the tensor holds the rows of several matrices, those of this one come in groups of Group rows, Stride apart, from
	// Offset on. Stride 0: the tensor holds this one only.
	Group, Stride, Offset int `json:",omitempty"`
}

// stored returns where a row, or an element of a bias, lies in the tensor.
func (o Order) stored(row int) int {
	if o.PairedHead > 0 {
		half, head, i := o.PairedHead/2, row/o.PairedHead, row%o.PairedHead
		row = head*o.PairedHead + i%half*2 + i/half
	}
	if o.Stride > 0 {
		row = row/o.Group*o.Stride + o.Offset + row%o.Group
	}
	return row
}

package model

import (
	"lockstep/shard/codes"
	"lockstep/shard/weights"
)

// Stage is one step of the forward pass on one rank, as data. A backend computes the stages in order, each for all rows of a
// step. Between them stand the residual stream, [row][hidden], and what the stage before left:
//
//	Embed                           the stream, and its norm
//	Project (or ProjectLatent),
//	Attend, Join                    attention: of the norm; to the stream, and its norm
//	Gate, Join, or Experts          the MLP, likewise
//	Head or Score                   of the norm
type Stage interface{ stage() }

// Embed begins the residual stream with the tokens' embeddings, and norms it.
type Embed struct {
	Table Matrix // [vocabulary][hidden]; every rank has it whole
	// Scale multiplies the embeddings; 0: nothing does.
	Scale float32 `json:",omitempty"`
	// Positions, [position][hidden], are added to them; nil: none.
	Positions *Matrix `json:",omitempty"`
	Norm      Norm
	AsideNorm Norm `json:",omitzero"` // see Join
}

// LookUp sets x to the embedding of a token at a position; place is memory of the same size, for positions that
// have embeddings.
func (e *Embed) LookUp(x, place []float32, token int32, position int) {
	e.Table.Decode(x, int(token))
	if e.Scale != 0 {
		for i := range x {
			x[i] *= e.Scale
		}
	}
	if e.Positions != nil {
		e.Positions.Decode(place, position)
		for i := range x {
			x[i] += place[i]
		}
	}
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

// ProjectLatent does what Project does, with keys and values from a latent that is common to all heads (DeepSeek-V2,
// https://arxiv.org/abs/2405.04434, 2.1). A head's query and key are first Plain numbers that are not rotated, then those that
// are; the rotated part of the key is the same for all heads.
type ProjectLatent struct {
	Layer int
	// Query is computed from the norm of QueryLatent, or, where that is nil, from the norm that the stage before left.
	QueryLatent     *Linear `json:",omitempty"`
	QueryLatentNorm Norm    `json:",omitzero"`
	Query           Linear
	Latent          Linear // [latent, then the rotated part of the key][hidden]; every rank has it whole
	LatentNorm      Norm
	Key, Value      Linear // from the latent: [heads x Plain][latent], [heads x value dimension][latent]
	Plain           int
	Rotation        int
}

// Attend computes the attention of this rank's heads over the cache of its layer.
type Attend struct {
	Layer int
	// Window is how many positions a position sees, itself among them; 0: all before it.
	Window int `json:",omitempty"`
	Scale  float32
	// Cap caps scores softly, cap x tanh(score / cap); 0: nothing does.
	Cap float32 `json:",omitempty"`
	// Sinks are scores of this rank's heads that take their share of the probability, without a value; nil: none.
	Sinks     []float32 `json:"-"`
	SinksName string    `json:",omitempty"`
}

// Gate computes activation(gate of the norm) x (up of the norm), or, without a gate, activation(up of the norm).
type Gate struct {
	Gate       *Linear `json:",omitempty"` // nil: none
	Up         Linear
	Activation Activation
	// Aside says that the norm is the one that an earlier stage put aside.
	Aside bool `json:",omitempty"`
}

// Join multiplies what the stage before left, sums over the ranks, adds that to the residual stream, and norms the stream
// for what comes next.
type Join struct {
	Weight Linear // its bias is added once, after the sum over ranks
	// PartNorm norms the sum before it is added; without a tensor nothing does.
	PartNorm Norm `json:",omitzero"`
	Norm     Norm `json:",omitzero"` // without a tensor the next stage reads what was put aside
	// AsideNorm norms the stream once more, for a later stage, which reads it in place of what is left by the stage before it;
	// without a tensor nothing is put aside.
	AsideNorm Norm `json:",omitzero"`
}

// Experts computes for each row the MLPs of the experts that Router chooses, sums them, weighted, sums over the ranks, and goes
// on as Join does. Each expert is shared out over the ranks like an MLP.
type Experts struct {
	Router     Linear // [experts][hidden]; every rank has it whole
	Routing    Routing
	Experts    []Expert
	Shared     *Expert `json:",omitempty"` // its MLP is added for every row, with weight 1; nil: none
	Activation Activation
	PartNorm   Norm `json:",omitzero"`
	Norm       Norm
}

// Expert is one MLP; the bias of Down is added once, after the sum over ranks.
type Expert struct{ Gate, Up, Down Linear }

// Routing says how the router's logits become experts and their weights, by row.
type Routing struct {
	Chosen int // experts of a row
	// Sigmoid: an expert's score is the logistic function of its logit, else it is a softmax over all logits.
	Sigmoid bool `json:",omitempty"`
	// Normalised weights are divided by their sum over the chosen; Scale multiplies them (0: nothing does).
	Normalised bool    `json:",omitempty"`
	Scale      float32 `json:",omitempty"`
	// Correction is added to the scores for the choice alone; nil: none.
	Correction     []float32 `json:"-"`
	CorrectionName string    `json:",omitempty"`
	// Of Groups equal groups of experts, only the GroupsChosen of the highest rank are chosen from: a group ranks by its largest
	// score or, where GroupPairs is set, by the sum of its two largest. 0: there are no groups.
	Groups, GroupsChosen int  `json:",omitempty"`
	GroupPairs           bool `json:",omitempty"`
}

// Head computes the logits of the rows that want them; each rank those of a part of the vocabulary.
type Head struct {
	Weight Linear
	// Cap caps logits softly, cap x tanh(logit / cap); 0: nothing does.
	Cap float32 `json:",omitempty"`
}

// Score computes a score for each wanted row in place of logits: outer x, or outer relu(inner x). Rank 0 has it whole and the
// others nothing: it is small beside a layer. Its sums are one chain each, like those of a head over the vocabulary.
type Score struct {
	Inner *Linear `json:",omitempty"` // nil: none
	Outer Linear
}

func (*Embed) stage()         {}
func (*Project) stage()       {}
func (*ProjectLatent) stage() {}
func (*Attend) stage()        {}
func (*Gate) stage()          {}
func (*Join) stage()          {}
func (*Experts) stage()       {}
func (*Head) stage()          {}
func (*Score) stage()         {}

// Activation is a function of one number, or of a gate and what it lets through.
type Activation string

const (
	SiLU    Activation = "silu"     // x / (1 + e^-x)
	GELU    Activation = "gelu"     // by its approximation with tanh
	GELUErf Activation = "gelu_erf" // as it is defined
	ReLU    Activation = "relu"     // max(x, 0)
	// ClampedSwiGLU is gpt-oss's: with the gate at most 7 and up within 7, (up + 1) x gate / (1 + e^(-1.702 gate)).
	ClampedSwiGLU Activation = "clamped_swiglu"
)

// Norm divides a row by its root mean square and multiplies it by a weight (RMSNorm, https://arxiv.org/abs/1910.07467), or,
// where Centred is set, does so with the row's difference from its mean and adds a bias (LayerNorm,
// https://arxiv.org/abs/1607.06450).
type Norm struct {
	Tensor  string
	Epsilon float32
	PlusOne bool      `json:",omitempty"` // the tensor holds the weight less 1
	Centred bool      `json:",omitempty"`
	Weight  []float32 `json:"-"`
	Bias    []float32 `json:"-"` // nil: none
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

// Codes is Row for a quantised tensor: it sets row to the columns [from, to) of a row.
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
	// Low is what the adapters add, in the order of Model.Part; nil, or nil for one: nothing.
	Low []*LowRank `json:"-"`
}

// Order says where the rows of a matrix lie in its tensor. The zero value is: in order.
type Order struct {
	// PairedHead is the head dimension if the rows of each head are stored as rotation pairs (2i, 2i+1), as llama.cpp stores
	// queries and keys, where the model computes with (i, i+half); 0: they are not. Of each head the first PairedFrom rows are
	// no pairs.
	PairedHead, PairedFrom int `json:",omitempty"`
	// Where the tensor holds the rows of several matrices, those of this one come in groups of Group rows, Stride apart, from
	// Offset on. Stride 0: the tensor holds this one only.
	Group, Stride, Offset int `json:",omitempty"`
	// Stacked is how many times the tensor holds that; 0: once.
	Stacked int `json:",omitempty"`
	// Transposed: the tensor is stored as [inputs][outputs], or, where TransposedParts says so, each of so many equal parts of its
	// outputs is.
	Transposed      bool `json:",omitempty"`
	TransposedParts int  `json:",omitempty"`
}

// all returns how many rows a tensor has that holds so many of this matrix.
func (o Order) all(rows int) int {
	if o.Stride > 0 {
		rows = rows / o.Group * o.Stride
	}
	return rows * max(o.Stacked, 1)
}

// stored returns where a row, or an element of a bias, lies in the tensor.
func (o Order) stored(row int) int {
	if i := row%max(o.PairedHead, 1) - o.PairedFrom; o.PairedHead > 0 && i >= 0 {
		half := (o.PairedHead - o.PairedFrom) / 2
		row += i%half*2 + i/half - i
	}
	if o.Stride > 0 {
		row = row/o.Group*o.Stride + o.Offset + row%o.Group
	}
	return row
}

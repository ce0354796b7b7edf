package model

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"lockstep/shard/cpu"
	"lockstep/shard/weights"
	"lockstep/shard/workers"
)

// layer holds one rank's part of a decoder layer. Biases are nil where the model has none; those of the row-parallel
// matrices are added once, after the sum over ranks.
type layer struct {
	window                 int // see weights.Config.Windows
	attentionNorm, mlpNorm []float32
	queryNorm, keyNorm     []float32 // of one head; nil: none
	query, key, value      *cpu.Matrix
	queryBias, keyBias     []float32
	valueBias              []float32
	output                 *cpu.Matrix
	outputBias             []float32
	gate, up, down         *cpu.Matrix
	gateBias, upBias       []float32
	downBias               []float32
}

// Model is one rank's part of a Llama-family model with its KV cache. One goroutine owns it.
type Model struct {
	config    weights.Config
	part      Partition
	team      *workers.Team
	kernels   *cpu.Kernels
	source    *weights.Model
	rotary    *rotary
	embedding weights.Tensor
	layers    []layer
	finalNorm []float32
	head      *cpu.Matrix // nil in a reward model
	score     *scoreHead  // nil but on rank 0 of a reward model
	// attentionColumns is the range of columns of the output matrix that this rank computes: its heads, widened to whole
	// quantisation blocks. The columns of other ranks' heads in it are zero.
	attentionColumns span
	memory           [][]byte
	unused           []string

	run
}

// loader packs weights on all threads of the team.
type loader struct {
	*Model
	used map[string]bool // the tensors that were asked for
	err  error
}

// tensor is source.Tensor, and remembers the name.
func (l *loader) tensor(name string, rows, columns int) (weights.Tensor, error) {
	l.used[name] = true
	return l.source.Tensor(name, rows, columns)
}

// Load packs this rank's part of the weights. progress gets the share that is done, from 0 to 1, from one goroutine.
func Load(source *weights.Model, rank, ranks int, team *workers.Team, kernels *cpu.Kernels, progress func(done float64)) (*Model, error) {
	c := source.Config
	down, err := source.Tensor("model.layers.0.mlp.down_proj.weight", c.Hidden, c.Intermediate)
	if err != nil {
		return nil, err
	}
	unit := max(chunkUnit(down.Encoding), chunkUnit(weights.BF16))
	if c.Intermediate/maxChunks%unit == 0 && c.Intermediate%maxChunks == 0 && ranks <= maxChunks && maxChunks%ranks == 0 {
		unit = c.Intermediate / maxChunks
	}
	part, err := Split(c, rank, ranks, unit)
	if err != nil {
		return nil, err
	}
	m := &Model{config: c, part: part, team: team, kernels: kernels, source: source, rotary: newRotary(c), layers: make([]layer, c.Layers)}
	l := &loader{Model: m, used: map[string]bool{}}
	if err = l.all(progress); err == nil {
		m.unused = slices.DeleteFunc(source.Names(), func(name string) bool { return l.used[name] || source.Follows(name) })
		err = source.CheckUnused(m.unused)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// all loads all that the model computes with.
func (l *loader) all(progress func(done float64)) (err error) {
	m, c, source := l.Model, l.config, l.source
	if m.embedding, err = l.tensor("model.embed_tokens.weight", c.Vocabulary, c.Hidden); err != nil {
		return err
	}
	for i := range m.layers {
		l.layer(i)
		if l.err != nil {
			return l.err
		}
		progress(float64(i+1) / float64(c.Layers+1))
	}
	m.finalNorm = l.vector("model.norm.weight", c.Hidden)
	if c.Score != weights.NoScore {
		if m.part.Rank == 0 {
			m.score = l.scoreHead()
		}
		return l.err
	}
	name := "lm_head.weight"
	switch {
	case c.TiedHead:
		name = "model.embed_tokens.weight"
	case !source.Has(name):
		return errors.New("the model's files have no head (lm_head.weight), and config.json does not say that it is tied to the embedding (tie_word_embeddings): see whether all files are there")
	}
	m.head = l.matrix(name, span{0, c.Vocabulary}, span{0, c.Hidden}, m.part.vocabulary, span{0, c.Hidden}, 1)
	return l.err
}

func (l *loader) layer(i int) {
	c, part, out := l.config, l.part, &l.layers[i]
	name := func(suffix string) string { return fmt.Sprintf("model.layers.%d.%s", i, suffix) }
	hidden := span{0, c.Hidden}
	rows := func(s span) span { return span{s.from * c.HeadDim, s.to * c.HeadDim} }
	column := func(suffix string, all int, local span) (*cpu.Matrix, []float32) {
		return l.matrix(name(suffix+".weight"), span{0, all}, hidden, local, hidden, 1), l.bias(i, suffix, all, local)
	}
	if c.Windows != nil {
		out.window = c.Windows[i]
	}
	if c.HeadNorm {
		out.queryNorm, out.keyNorm = l.vector(name("self_attn.q_norm.weight"), c.HeadDim), l.vector(name("self_attn.k_norm.weight"), c.HeadDim)
	}
	out.attentionNorm = l.vector(name("input_layernorm.weight"), c.Hidden)
	out.mlpNorm = l.vector(name("post_attention_layernorm.weight"), c.Hidden)
	out.query, out.queryBias = column("self_attn.q_proj", c.Heads*c.HeadDim, rows(part.heads))
	out.key, out.keyBias = column("self_attn.k_proj", c.KVHeads*c.HeadDim, rows(part.kvHeads))
	out.value, out.valueBias = column("self_attn.v_proj", c.KVHeads*c.HeadDim, rows(part.kvHeads))
	out.gate, out.gateBias = column("mlp.gate_proj", c.Intermediate, part.columns)
	out.up, out.upBias = column("mlp.up_proj", c.Intermediate, part.columns)

	row := func(suffix string, columns, units int, local span) (*cpu.Matrix, []float32, span) {
		all := span{0, columns}
		encoding := l.source.Encoding(name(suffix + ".weight"))
		wide := widened(local, encoding)
		chunks := localChunks(wide, columns, chunkCount(columns, units, encoding))
		return l.matrix(name(suffix+".weight"), hidden, all, hidden, wide, chunks), l.bias(i, suffix, c.Hidden, hidden), wide
	}
	var wide span
	out.output, out.outputBias, wide = row("self_attn.o_proj", c.Heads*c.HeadDim, c.Heads, rows(part.heads))
	if i > 0 && wide != l.attentionColumns {
		// Layers of unlike formats: the buffer must suit all of them.
		l.fail(fmt.Errorf("layer %d: o_proj has another format than layer 0; such mixtures cannot be split at head %d yet", i, part.heads.from))
	}
	l.attentionColumns = wide
	if out.down, out.downBias, wide = row("mlp.down_proj", c.Intermediate, c.Intermediate, part.columns); wide != part.columns {
		l.fail(fmt.Errorf("layer %d: down_proj has another format than layer 0; such mixtures cannot be split at column %d yet", i, part.columns.from))
	}
}

func (l *loader) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

func (l *loader) vector(name string, columns int) []float32 {
	l.used[name] = true
	v, err := l.source.Vector(name, columns)
	if err != nil {
		l.fail(err)
	}
	return v
}

// bias is that of a projection; nil where the model has none.
func (l *loader) bias(layer int, projection string, all int, local span) []float32 {
	name := fmt.Sprintf("model.layers.%d.%s.bias", layer, projection)
	if l.err != nil || !l.source.Biased(name, projection) {
		return nil
	}
	if v := l.vector(name, all); v != nil {
		return slices.Clone(v[local.from:local.to])
	}
	return nil
}

// formats are the kernels' formats of the forms of rows.
var formats = map[weights.Form]cpu.Format{weights.FormF32: cpu.F32, weights.FormF16: cpu.F16, weights.FormBF16: cpu.BF16, weights.FormInt8: cpu.Q8_0,
	weights.FormInt4: cpu.Q4_0, weights.FormInt4Min: cpu.Q4_1}

// matrix packs rows x columns of a tensor of allRows x allColumns.
func (l *loader) matrix(name string, allRows, allColumns, rows, columns span, chunks int) *cpu.Matrix {
	if l.err != nil {
		return nil
	}
	tensor, err := l.tensor(name, allRows.size(), allColumns.size())
	if err != nil {
		l.fail(err)
		return nil
	}
	format := formats[tensor.Encoding.Form()]
	data, err := l.anonymous(cpu.PackedBytes(format, rows.size(), columns.size()))
	if err != nil {
		l.fail(err)
		return nil
	}
	matrix, err := cpu.NewMatrix(format, rows.size(), columns.size(), chunks, data)
	if err != nil {
		l.fail(fmt.Errorf("tensor %s: %w", name, err))
		return nil
	}
	from, size := tensor.Encoding.RowBytes(columns.from), tensor.Encoding.RowBytes(columns.size())
	l.team.Share(matrix.Panels(), 8, func(_, first, end int) {
		var converted []byte
		for panel := first; panel < end; panel++ {
			matrix.PackPanel(panel, func(row int) []byte {
				converted = tensor.Encoding.Convert(converted, tensor.Row(rows.from + row)[from:from+size])
				return converted
			})
		}
	})
	return matrix
}

// anonymous returns zeroed memory outside the Go heap, aligned to a page, that Close gives back.
func (m *Model) anonymous(bytes int) ([]byte, error) {
	data, err := unix.Mmap(-1, 0, max(bytes, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("take %d MiB of memory: %w: the machine, or a limit (ulimit -v), has less", bytes>>20, err)
	}
	m.memory = append(m.memory, data)
	return data, nil
}

// populatePieceBytes is how much memory Populate takes between two looks at what is left.
const populatePieceBytes = 256 << 20

// Populate makes the kernel give the memory of the KV cache and the buffers now, piece by piece, instead of when it is
// first used, when nothing could be done about a lack of it. room is asked before each piece of so many bytes.
func (m *Model) Populate(room func(bytes int) error) error {
	for _, data := range m.memory {
		unix.Madvise(data, unix.MADV_HUGEPAGE) // where the kernel has them: less time here, and in attention
		for len(data) > 0 {
			piece := data[:min(len(data), populatePieceBytes)]
			data = data[len(piece):]
			if err := room(len(piece)); err != nil {
				return err
			}
			const grain = 4 << 20
			var failed atomic.Pointer[error]
			m.team.Share((len(piece)+grain-1)/grain, 1, func(_, from, to int) {
				if err := populate(piece[from*grain : min(to*grain, len(piece))]); err != nil {
					failed.Store(&err)
				}
			})
			if err := failed.Load(); err != nil {
				return fmt.Errorf("populate %d bytes: %w", len(piece), *err)
			}
		}
	}
	return nil
}

// populate takes memory that begins at a page.
func populate(data []byte) error {
	err := unix.Madvise(data, unix.MADV_POPULATE_WRITE)
	if err != unix.EINVAL {
		return err
	}
	for i := 0; i < len(data); i += 4096 { // kernels before 5.14
		atomic.AddUint32((*uint32)(unsafe.Pointer(&data[i])), 0)
	}
	return nil
}

func (m *Model) anonymousFloats(count int) ([]float32, error) {
	data, err := m.anonymous(4 * count)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&data[0])), count), nil
}

// Unused lists the tensors of the model's files that it does not compute with, in order, but those that follow from others
// or from the configuration.
func (m *Model) Unused() []string { return m.unused }

// Config returns the model's shape.
func (m *Model) Config() weights.Config { return m.config }

// EvenlySplit reports whether this number of ranks computes the bits of a single one (design, law 3).
func EvenlySplit(c weights.Config, ranks int) bool {
	return ranks&(ranks-1) == 0 && ranks <= maxChunks && c.Heads%maxChunks == 0 && c.Intermediate%maxChunks == 0
}

// Close gives the memory of weights, cache and buffers back. The model must not be used afterwards.
func (m *Model) Close() {
	for _, data := range m.memory {
		unix.Munmap(data)
	}
	m.memory = nil
}

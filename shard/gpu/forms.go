package gpu

import (
	"slices"

	"lockstep/shard/model"
)

// expertMatrix is the same linear operation of all experts. Their matrices differ in form where some are not quantised, or in another way,
// or have their columns in order and others have not: each form has launches of its own, which leave the choices of others alone.
type expertMatrix struct {
	matrix // what all have in common: sizes, biases, and what adapters add; data is that of the first form
	forms  []expertForm
}

// expertForm are the matrices of one form, behind one another.
type expertForm struct {
	matrix
	slots Address // by expert: which of these is its; -1: it has another form; 0: all have this one
}

// orderedBytes is the size of a choice's input in another order, 0 where no form has one.
func (m *expertMatrix) orderedBytes(terms int) (bytes int) {
	for i := range m.forms {
		bytes = max(bytes, m.forms[i].orderedBytes(terms))
	}
	return bytes
}

// plannedForm are the experts whose matrices have the same form, by their numbers: all of codes, or all plain.
type plannedForm struct {
	experts []int
	plain   []*model.Linear
	codes   []*codedMatrix
}

// planForms sorts the same linear operation of all experts by form.
func planForms(linears []*model.Linear) (forms []*plannedForm, err error) {
	for expert, l := range linears {
		var codes *codedMatrix
		if inCodes(l) {
			if codes, err = describeCodes(l); err != nil {
				return nil, err
			}
		}
		at := slices.IndexFunc(forms, func(f *plannedForm) bool {
			if codes == nil || f.codes == nil {
				return codes == nil && f.codes == nil
			}
			return codes.sameForm(f.codes[0])
		})
		if at < 0 {
			at, forms = len(forms), append(forms, &plannedForm{})
		}
		f := forms[at]
		if f.experts = append(f.experts, expert); codes != nil {
			f.codes = append(f.codes, codes)
		} else {
			f.plain = append(f.plain, l)
		}
	}
	return forms, nil
}

// packForm uploads the matrices of one form; all is how many experts there are.
func (b *Backend) packForm(planned *plannedForm, all int) (f expertForm, err error) {
	if planned.codes != nil {
		f.matrix, err = b.packCodes(planned.codes)
	} else {
		f.matrix, err = b.packPlain(planned.plain)
	}
	if err != nil || len(planned.experts) == all {
		return f, err
	}
	slots := slices.Repeat([]int32{-1}, all)
	for slot, expert := range planned.experts {
		slots[expert] = int32(slot)
	}
	f.slots, err = b.tell(bytesOf(slots))
	return f, err
}

// packExperts uploads the same linear operation of all experts, with their biases and what adapters add.
func (b *Backend) packExperts(p *model.Experts, of func(e *model.Expert) *model.Linear) (m expertMatrix, err error) {
	var bias []float32
	linears := make([]*model.Linear, len(p.Experts))
	adapters, chunks := 0, of(&p.Experts[0]).Chunks
	for i := range p.Experts {
		l := *of(&p.Experts[i])
		linears[i] = &l
		bias, adapters, chunks = append(bias, l.Bias...), max(adapters, len(l.Low)), min(chunks, l.Chunks)
	}
	for _, l := range linears {
		l.Chunks = chunks // those of finer encodings may have more, a power of two as many: two neighbours become one
	}
	planned, err := planForms(linears)
	if err != nil {
		return m, err
	}
	for _, form := range planned {
		f, err := b.packForm(form, len(linears))
		if err != nil {
			return m, err
		}
		m.forms = append(m.forms, f)
	}
	m.matrix = m.forms[0].matrix
	if m.bias, err = b.vector(bias); err != nil || adapters == 0 {
		return m, err
	}
	var kinds []*model.LowRank
	for adapter := range adapters {
		for _, l := range linears {
			var low *model.LowRank
			if len(l.Low) > 0 {
				low = l.Low[adapter]
			}
			kinds = append(kinds, low)
		}
	}
	b.adapters = adapters
	m.low, err = b.packKinds(kinds, m.input, linears[0].Rows.Size(), p.Routing.Chosen)
	return m, err
}

// multiply computes a product of all experts with the rows of x that chose them; without rowOf a row of x is a choice.
func (s *experts) multiply(b *Backend, y Address, m *expertMatrix, x, rowOf Address, choices, rows int) error {
	for i := range m.forms {
		if err := s.multiplyForm(b, y, &m.forms[i], x, rowOf, choices, rows); err != nil {
			return err
		}
	}
	return nil
}

// multiplyForm is multiply for the experts of one form.
func (s *experts) multiplyForm(b *Backend, y Address, f *expertForm, x, rowOf Address, choices, rows int) error {
	if f.data == 0 {
		return nil
	}
	if f.order != 0 { // each expert has one of its own, so that choices of the same row differ
		if err := b.launch("order", [3]int{choices, 1, 1}, rowThreads, 0, b.ordered, x, f.order, rowOf, b.choice.expertOf, f.slots,
			int32(f.taken), int32(f.steps), int32(rows), int32(b.terms)); err != nil {
			return err
		}
		x, rowOf, rows = b.ordered, 0, choices
	}
	const warps = 4
	count := len(s.Experts.Experts)
	piece := "8"
	if choices > 8*count {
		piece = "32"
	}
	kernel, terms := "linear_experts_", []any{int32(f.terms), int32(b.terms)}
	if f.coded {
		kernel, terms = "coded_experts_", terms[1:]
	}
	blocks := (count*f.tiles*f.chunks + warps - 1) / warps
	args := append([]any{y, f.data, x, b.choice.starts, rowOf, f.slots, int32(count), int32(f.tiles), int32(f.taken), int32(f.chunks),
		int32(choices), int32(rows)}, terms...)
	return b.launch(kernel+piece, [3]int{blocks, 1, 1}, 32*warps, 0, args...)
}

package ptx_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"lockstep/shard/gpu/ptx"
)

// source is a module of one kernel k of parameters p0, p1, … of 8 bytes, which registers %p0, %p1, … have. Statements end in
// semicolons or colons.
func source(parameters int, statements string) string {
	var text strings.Builder
	text.WriteString(".version 8.8\n.target sm_90a\n.address_size 64\n.extern .shared .align 128 .b8 memory[];\n.visible .entry k(\n")
	for i := range parameters {
		fmt.Fprintf(&text, ".param .u64 p%d,\n", i)
	}
	text.WriteString(")\n{\n")
	for i := range parameters {
		fmt.Fprintf(&text, "ld.param.u64 %%p%d, [p%d];\n", i, i)
	}
	for statement := range strings.SplitSeq(statements, "\n") {
		text.WriteString(strings.TrimSpace(statement) + "\n")
	}
	return text.String() + "}\n"
}

// globalIndex leaves a thread's number in the grid in %i, and 8 times it in %o.
const globalIndex = `
	mov.u32 %b, %ctaid.x;
	mov.u32 %n, %ntid.x;
	mov.u32 %t, %tid.x;
	mad.lo.s32 %i, %b, %n, %t;
	mul.wide.u32 %o, %i, 8;
`

// putR stores register %r at the thread's place of p0.
const putR = `
	add.s64 %to, %p0, %o;
	st.global.u64 [%to], %r;
	ret;
`

// run runs kernel k of a text on one block of so many threads unless l says otherwise. Inputs are copied; it returns them as they are
// afterwards.
func run(t testing.TB, text string, l ptx.Launch, inputs ...[]uint64) ([][]uint64, error) {
	t.Helper()
	module, err := ptx.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	l.Kernel = "k"
	for i := range 3 {
		l.Grid[i], l.Threads[i] = max(l.Grid[i], 1), max(l.Threads[i], 1)
	}
	if l.Core == (ptx.Core{}) {
		l.Core = ptx.Hopper
	}
	var memory ptx.Memory
	var args []any
	for _, input := range inputs {
		at := memory.Alloc(8 * len(input))
		data := memory.Bytes(at, 8*len(input))
		for i, v := range input {
			binary.LittleEndian.PutUint64(data[8*i:], v)
		}
		args = append(args, at)
	}
	if _, err := module.Run(&memory, l, args...); err != nil {
		return nil, err
	}
	var outputs [][]uint64
	for i, input := range inputs {
		output := make([]uint64, len(input))
		for j := range output {
			output[j] = binary.LittleEndian.Uint64(memory.Bytes(args[i].(uint64)+uint64(8*j), 8))
		}
		outputs = append(outputs, output)
	}
	return outputs, nil
}

// must is run where nothing may go wrong.
func must(t testing.TB, text string, l ptx.Launch, inputs ...[]uint64) [][]uint64 {
	t.Helper()
	outputs, err := run(t, text, l, inputs...)
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

// threads launches one block.
func threads(n int) ptx.Launch { return ptx.Launch{Threads: [3]int{n}} }

// apply computes an instruction of operands, one number a thread.
func apply(t testing.TB, instruction string, operands ...[]uint64) []uint64 {
	t.Helper()
	body, registers := globalIndex, "%r"
	for i := range operands {
		body += fmt.Sprintf("add.s64 %%a%d, %%p%d, %%o;\nld.global.u64 %%x%d, [%%a%d];\n", i, i+1, i, i)
		registers += fmt.Sprintf(", %%x%d", i)
	}
	count := len(operands[0])
	const block = 64
	inputs := [][]uint64{make([]uint64, (count+block-1)/block*block)}
	for _, operand := range operands {
		padded := make([]uint64, len(inputs[0]))
		for i := range padded {
			padded[i] = operand[min(i, len(operand)-1)]
		}
		inputs = append(inputs, padded)
	}
	l := ptx.Launch{Grid: [3]int{len(inputs[0]) / block}, Threads: [3]int{block}}
	return must(t, source(len(inputs), body+instruction+" "+registers+";\n"+putR), l, inputs...)[0][:count]
}

// Package ptx runs PTX (https://docs.nvidia.com/cuda/parallel-thread-execution), which NVRTC makes of our kernels, on the CPU, so
// that kernels are tested, and whole models computed with them, where there is no card. It is exact to the bit: float32
// operations are those of IEEE 754, and those of the tensor cores follow a model of their sums (Core).
//
// It knows the instructions that our kernels use and refuses all others by name, and stops with an error at what a card would not
// notice: accesses outside an allocation, misaligned ones, races in shared memory, barriers, shuffles and matrix products that not all
// threads reach, registers and shared memory of a warpgroup's product that nobody has waited for, and float operations that the assembler
// may contract or approximate. Fresh memory is filled with 0xff.
//
// The warps of a block run one after the other, each from barrier to barrier; lanes of a warp that part run lowest address first, and
// meet where their addresses are equal. So every run of a launch is the same.
package ptx

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Module is parsed PTX. It may be used by several goroutines.
type Module struct{ kernels map[string]*kernel }

// Kernels lists how many bytes of static shared memory each kernel has, by its name.
func (m *Module) Kernels() map[string]int {
	all := map[string]int{}
	for name, k := range m.kernels {
		all[name] = k.shared
	}
	return all
}

// kernel is one entry function.
type kernel struct {
	name      string
	params    []param
	registers map[string]int // by name; constants too, and special registers, which come first
	constants map[int]uint64
	symbols   map[string]uint64 // shared and local variables, as offsets
	offsets   map[string]int    // of parameters
	shared    int               // bytes of static shared memory
	local     int               // bytes of each thread
	code      []instruction
	labels    map[string]int
	branches  map[int]string // the labels of branches, by their place in the code
	dynamic   []string       // names of dynamic shared memory, which lies behind the static
	waits     bool           // it may begin before the kernels before it have ended, and waits for them
	blocks    sync.Pool      // of *block, to be used again
	// asynchronous says that it has products of warpgroups, and so who uses a register matters.
	asynchronous bool
}

// dynamicAt is the shared address of dynamic shared memory. Static variables are declared before any instruction.
func (k *kernel) dynamicAt() int { return aligned(k.shared, dynamicAlign) }

type param struct{ offset, bytes int }

type instruction struct {
	text      string
	predicate int // register; -1: none
	negated   bool
	kind      kind
	target    int // of a branch
	run       execute
	registers []int // that it names, of asynchronous kernels; products under way look at theirs themselves
}

// execute does what an instruction does to some lanes of a warp.
type execute func(w *warp, lanes uint32)

type kind uint8

const (
	plain kind = iota
	branch
	exit
	barrier
)

// dynamicAlign is the alignment of dynamic shared memory, maxStatic the largest static variable that is believed.
const (
	dynamicAlign = 128
	maxStatic    = 64 << 10
)

// specials are the special registers, in the order in which warps fill them.
var specials = []string{"%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z",
	"%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid"}

// parser reads a module line by line.
type parser struct {
	module  *Module
	kernel  *kernel // that is being read
	dynamic []string
	static  []string // lines of shared variables that all kernels have
	depth   int
}

// Parse reads the text that NVRTC writes, a statement a line.
func Parse(text string) (*Module, error) {
	p := &parser{module: &Module{kernels: map[string]*kernel{}}}
	for number, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "//")
		if err := p.line(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", number+1, strings.TrimSpace(line), err)
		}
	}
	if p.kernel != nil {
		return nil, fmt.Errorf("the text ends within kernel %s", p.kernel.name)
	}
	return p.module, nil
}

func (p *parser) line(line string) error {
	k := p.kernel
	switch {
	case line == "" || line == "(" || line == ")" || line == ");":
	case strings.HasPrefix(line, ".visible .entry"):
		return p.begin(strings.TrimSuffix(strings.Fields(line)[2], "("))
	case strings.HasPrefix(line, ".extern .shared"):
		fields := strings.Fields(strings.TrimSuffix(line, ";"))
		name, _, _ := strings.Cut(fields[len(fields)-1], "[")
		p.dynamic = append(p.dynamic, name)
	case k == nil && strings.HasPrefix(line, ".shared"):
		p.static = append(p.static, line)
	case k == nil && strings.HasPrefix(line, "."): // version, target, address size
	case k == nil:
		return errors.New("outside a kernel")
	case strings.HasPrefix(line, ".param"):
		return k.parameter(strings.TrimSuffix(line, ","))
	case line == "{":
		p.depth++
	case line == "}":
		if p.depth--; p.depth == 0 {
			p.kernel = nil
			return k.link()
		}
	case strings.HasSuffix(line, ":"):
		k.labels[strings.TrimSuffix(line, ":")] = len(k.code)
	case strings.HasPrefix(line, ".shared"), strings.HasPrefix(line, ".local"):
		return k.variable(line)
	case strings.HasPrefix(line, ".reg") && !strings.Contains(line, "%"): // of inline assembly
		fields := strings.Fields(strings.TrimSuffix(line, ";"))
		k.register(fields[len(fields)-1])
	case strings.HasPrefix(line, "."): // other registers are made as they are met; the rest says nothing to us
	default:
		return k.instruction(strings.TrimSuffix(line, ";"))
	}
	return nil
}

func (p *parser) begin(name string) error {
	k := &kernel{name: name, registers: map[string]int{}, constants: map[int]uint64{}, symbols: map[string]uint64{},
		labels: map[string]int{}, offsets: map[string]int{}, branches: map[int]string{}}
	for _, s := range specials {
		k.register(s)
	}
	k.dynamic = p.dynamic
	for _, line := range p.static {
		if err := k.variable(line); err != nil {
			return err
		}
	}
	p.kernel, p.module.kernels[name] = k, k
	return nil
}

// link finds the targets of branches, and makes sure that no thread runs over the end.
func (k *kernel) link() error {
	if last := len(k.code) - 1; last < 0 || k.code[last].predicate >= 0 || k.code[last].kind != exit && k.code[last].kind != branch {
		return fmt.Errorf("kernel %s has no end", k.name)
	}
	for at, label := range k.branches {
		target, ok := k.labels[label]
		if !ok || target >= len(k.code) {
			return fmt.Errorf("no label %s", label)
		}
		k.code[at].target = target
	}
	for i := range k.code {
		if in := &k.code[i]; k.asynchronous && !strings.Contains(in.text, "wgmma.mma_async") {
			in.registers = k.named(in.text)
		}
	}
	return nil
}

var typeBytes = map[string]int{"u8": 1, "b8": 1, "s8": 1, "u16": 2, "s16": 2, "b16": 2, "u32": 4, "s32": 4, "b32": 4, "f32": 4,
	"u64": 8, "s64": 8, "b64": 8}

// parameter reads a parameter: .param .u64 .ptr .align 1 name.
func (k *kernel) parameter(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return errors.New("no parameter")
	}
	size, name := typeBytes[strings.TrimPrefix(fields[1], ".")], fields[len(fields)-1]
	if size == 0 {
		return fmt.Errorf("parameters of type %s are not known", fields[1])
	}
	offset := 0
	if n := len(k.params); n > 0 {
		offset = aligned(k.params[n-1].offset+k.params[n-1].bytes, size)
	}
	k.offsets[name] = offset
	k.params = append(k.params, param{offset, size})
	return nil
}

func aligned(n, to int) int { return (n + to - 1) / to * to }

// variable reads a variable: .shared .align 4 .b8 name[4096], or without brackets a single one.
func (k *kernel) variable(line string) error {
	fields := strings.Fields(strings.TrimSuffix(line, ";"))
	if len(fields) != 5 {
		return errors.New("no variable")
	}
	name, count, array := strings.Cut(fields[4], "[")
	if !array {
		count = "1"
	}
	align, err := strconv.Atoi(fields[2])
	if err != nil || align < 1 {
		return fmt.Errorf("an alignment of %s", fields[2])
	}
	bytes, err := strconv.Atoi(strings.TrimSuffix(count, "]"))
	bytes *= typeBytes[strings.TrimPrefix(fields[3], ".")]
	if err != nil || bytes < 1 || bytes > maxStatic {
		return fmt.Errorf("a size of %s", count)
	}
	at := &k.shared
	if fields[0] == ".local" {
		at = &k.local
	}
	*at = aligned(*at, align)
	k.symbols[name] = uint64(*at)
	*at += bytes
	return nil
}

func (k *kernel) instruction(line string) error {
	in := instruction{text: line, predicate: -1}
	if line[0] == '@' {
		guard, rest, _ := strings.Cut(line[1:], " ")
		guard, in.negated = strings.CutPrefix(guard, "!")
		in.predicate = k.register(guard)
		line = strings.TrimSpace(rest)
	}
	op, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	args := operands(rest)
	switch op {
	case "bra", "bra.uni":
		in.kind = branch
		k.branches[len(k.code)] = strings.TrimSpace(rest)
	case "ret":
		in.kind = exit
	case "bar.sync":
		in.kind = barrier
	default:
		var err error
		if in.run, err = k.compile(op, args); err != nil {
			return err
		}
	}
	k.code = append(k.code, in)
	return nil
}

package ptx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// register returns a register's number; a name that is new gets one.
func (k *kernel) register(name string) int {
	if r, ok := k.registers[name]; ok {
		return r
	}
	k.registers[name] = len(k.registers)
	return len(k.registers) - 1
}

// named are the registers that a text names.
func (k *kernel) named(text string) (registers []int) {
	for _, name := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \t,;|+@![]{}", c) }) {
		if r, ok := k.registers[name]; ok {
			registers = append(registers, r)
		}
	}
	return registers
}

// constant returns a register that holds a number in every lane.
func (k *kernel) constant(v uint64) int {
	r := k.register("=" + strconv.FormatUint(v, 10))
	k.constants[r] = v
	return r
}

// operands splits at commas outside brackets.
func operands(text string) (list []string) {
	depth, start := 0, 0
	for i, c := range text {
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 0 {
				list, start = append(list, strings.TrimSpace(text[start:i])), i+1
			}
		}
	}
	if last := strings.TrimSpace(text[start:]); last != "" {
		list = append(list, last)
	}
	return list
}

// source returns the register of an operand; numbers and symbols become constants.
func (k *kernel) source(text string) (int, error) {
	switch {
	case strings.HasPrefix(text, "%"):
		return k.register(text), nil
	case strings.HasPrefix(text, "0f"), strings.HasPrefix(text, "0F"):
		v, err := strconv.ParseUint(text[2:], 16, 32)
		return k.constant(v), err
	}
	if r, ok := k.registers[text]; ok { // of inline assembly
		return r, nil
	}
	if v, ok := k.symbols[text]; ok {
		return k.constant(v), nil
	}
	if slices.Contains(k.dynamic, text) {
		return k.constant(uint64(k.dynamicAt())), nil
	}
	v, err := strconv.ParseInt(text, 0, 64)
	if err != nil {
		u, unsigned := strconv.ParseUint(text, 0, 64)
		if unsigned != nil {
			return 0, fmt.Errorf("operand %q is not understood", text)
		}
		v = int64(u)
	}
	return k.constant(uint64(v)), nil
}

func (k *kernel) sources(list []string) (registers []int, err error) {
	for _, text := range list {
		r, err := k.source(text)
		if err != nil {
			return nil, err
		}
		registers = append(registers, r)
	}
	return registers, nil
}

// vector returns the registers of {a, b, …}, or of one operand.
func (k *kernel) vector(text string) ([]int, error) {
	return k.sources(operands(strings.Trim(text, "{}")))
}

// address is [base+offset].
type address struct {
	base   int // register
	offset uint64
}

func (k *kernel) address(text string) (a address, err error) {
	text = strings.Trim(text, "[]")
	name, offset, more := strings.Cut(text, "+")
	if more {
		v, err := strconv.ParseInt(offset, 0, 64)
		if err != nil {
			return a, fmt.Errorf("offset %q is not understood", offset)
		}
		a.offset = uint64(v)
	}
	if at, ok := k.offsets[name]; ok {
		a.base = k.constant(uint64(at))
		return a, nil
	}
	a.base, err = k.source(name)
	return a, err
}

func (k *kernel) addresses(texts ...string) (list []address, err error) {
	for _, text := range texts {
		a, err := k.address(text)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

func (a address) of(w *warp, lane int) uint64 { return w.registers[a.base][lane] + a.offset }

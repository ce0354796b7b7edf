//go:build amd64 && !purego

package cpu

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"lockstep/shard/half"
)

// The machines that run these tests often lack AVX-512. So the text of the
// assembly is interpreted here, and held to the bits of plain Go. The
// interpreter is itself checked: it runs the AVX2 file too, which the hardware
// has executed. What this leaves to the self-test of a machine with AVX-512 is
// the encoding of the instructions.

// emulator holds the functions of one assembly file.
type emulator struct {
	functions map[string][]instruction
	data      map[string][]byte
	missing   map[string]bool // functions that no test has called
}

type instruction struct {
	op     string
	args   []operand
	target int // of a jump
}

// operand is an immediate, a register or memory.
type operand struct {
	kind  byte   // 'i', 'r' general, 'v' vector, 'm', 'f' parameter, 'd' data
	value int    // immediate, offset, parameter number or vector register
	lanes int    // of a vector register
	base  string // general register, or name of data
	index string
	scale int
}

// word is a general register: a number, or a pointer and an offset.
type word struct {
	base unsafe.Pointer
	n    int
}

type machine struct {
	*emulator
	general map[string]word
	vector  [32][lanes]uint32
	params  []word
	flag    int  // sign of the last result
	flush   bool // numbers below the normal ones are 0
}

func newEmulator(t *testing.T, file string) *emulator {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	e := &emulator{functions: map[string][]instruction{}, data: map[string][]byte{}, missing: map[string]bool{}}
	var name string
	labels, jumps := map[string]int{}, map[int]string{}
	finish := func() {
		for at, label := range jumps {
			e.functions[name][at].target = labels[label]
		}
		clear(labels)
		clear(jumps)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if _, comment, ok := strings.Cut(line, "; // "); ok { // an instruction in bytes
			line = "\t" + comment
		}
		code := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(code, "TEXT"):
			finish()
			name = code[len("TEXT ·"):strings.Index(code, "(SB)")]
			e.missing[name] = true
		case strings.HasPrefix(code, "DATA"):
			var symbol string
			var offset, value int
			if _, err := fmt.Sscanf(strings.ReplaceAll(code, "<>+", " "), "DATA %s %d(SB)/4, $0x%x", &symbol, &offset, &value); err != nil {
				t.Fatalf("%s: %v", code, err)
			}
			for i := range 4 {
				e.data[symbol] = append(e.data[symbol], byte(value>>(8*i)))
			}
		case strings.HasSuffix(code, ":"):
			labels[strings.TrimSuffix(code, ":")] = len(e.functions[name])
		case line != code && code != "":
			op, rest, _ := strings.Cut(code, " ")
			in := instruction{op: op}
			if strings.HasPrefix(op, "J") {
				jumps[len(e.functions[name])] = rest
			} else if rest != "" {
				for _, arg := range strings.Split(rest, ", ") {
					in.args = append(in.args, parseOperand(arg))
				}
			}
			e.functions[name] = append(e.functions[name], in)
		}
	}
	finish()
	return e
}

func parseOperand(arg string) operand {
	number := func(s string) int {
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil && s != "" {
			panic("operand " + arg)
		}
		return int(n)
	}
	switch {
	case arg[0] == '$':
		return operand{kind: 'i', value: number(arg[1:])}
	case strings.HasSuffix(arg, "<>(SB)"):
		return operand{kind: 'd', base: strings.TrimSuffix(arg, "<>(SB)")}
	case strings.HasSuffix(arg, "(FP)"):
		return operand{kind: 'f', value: number(arg[strings.Index(arg, "+")+1:len(arg)-4]) / 8}
	case strings.HasSuffix(arg, ")"):
		offset, rest, _ := strings.Cut(arg, "(")
		o := operand{kind: 'm', value: number(offset)}
		base, index, _ := strings.Cut(rest, "(")
		if o.base = strings.TrimSuffix(base, ")"); index != "" {
			o.index = index[:strings.Index(index, "*")]
			o.scale = number(strings.TrimSuffix(index[len(o.index)+1:], ")"))
		}
		return o
	case arg[0] == 'Y':
		return operand{kind: 'v', value: number(arg[1:]), lanes: 8}
	case arg[0] == 'Z':
		return operand{kind: 'v', value: number(arg[1:]), lanes: 16}
	}
	return operand{kind: 'r', base: arg}
}

func (m *machine) address(o operand) unsafe.Pointer {
	if o.kind == 'd' {
		return unsafe.Pointer(&m.data[o.base][0])
	}
	return unsafe.Add(m.general[o.base].base, m.general[o.base].n+o.value+m.general[o.index].n*o.scale)
}

// scalar reads an operand of a general instruction.
func (m *machine) scalar(o operand) word {
	switch o.kind {
	case 'i':
		return word{n: o.value}
	case 'f':
		return m.params[o.value]
	case 'm':
		return word{n: int(*(*int32)(m.address(o)))} // MOVLQSX only
	}
	return m.general[o.base]
}

// read reads n lanes of a vector operand.
func (m *machine) read(o operand, n int) (v [lanes]uint32) {
	if o.kind == 'v' {
		return m.vector[o.value]
	}
	copy(v[:n], unsafe.Slice((*uint32)(m.address(o)), n))
	return v
}

// run calls a function.
func (e *emulator) run(name string, params ...word) {
	code, ok := e.functions[name]
	if !ok {
		panic("no function " + name)
	}
	delete(e.missing, name)
	m := &machine{emulator: e, general: map[string]word{}, params: params}
	for i := range m.vector {
		for lane := range m.vector[i] {
			m.vector[i][lane] = 0x7fc12345 // a register used before it is set shows
		}
	}
	for pc := 0; code[pc].op != "RET"; {
		in := &code[pc]
		pc++
		jump := false
		switch in.op {
		case "JZ", "JE":
			jump = m.flag == 0
		case "JNZ":
			jump = m.flag != 0
		case "JMP":
			jump = true
		case "JL":
			jump = m.flag < 0
		case "JGE":
			jump = m.flag >= 0
		case "VZEROUPPER", "PREFETCHT0", "PREFETCHT1":
		case "LDMXCSR":
			m.flush = *(*uint32)(m.address(in.args[0])) == 0x9fc0
		default:
			if in.op[0] == 'V' {
				m.stepVector(in)
			} else {
				m.step(in)
			}
		}
		if jump {
			pc = in.target
		}
	}
}

// step executes a general instruction.
func (m *machine) step(in *instruction) {
	a := word{}
	if in.op != "LEAQ" {
		a = m.scalar(in.args[0])
	}
	last := in.args[len(in.args)-1]
	b := m.scalar(last)
	switch in.op {
	case "MOVQ", "MOVLQSX":
		m.general[last.base] = a
		return
	case "LEAQ":
		o := in.args[0]
		m.general[last.base] = word{m.general[o.base].base, o.value + m.general[o.base].n + m.general[o.index].n*o.scale}
		return
	case "TESTQ":
		m.flag = a.n & b.n
		return
	case "CMPQ": // Go's order: the first against the second
		m.flag = a.n - b.n
		return
	case "ADDQ":
		if b.n += a.n; b.base == nil {
			b.base = a.base
		}
	case "SUBQ":
		b.n -= a.n
	case "ANDQ":
		b.n &= a.n
	case "SHRQ":
		b.n >>= a.n
	case "IMULQ":
		b.n *= a.n
	case "INCQ":
		b.n++
	case "DECQ":
		b.n--
	default:
		panic("emulator: " + in.op)
	}
	m.flag = b.n
	m.general[last.base] = b
}

// stepVector executes a vector instruction.
func (m *machine) stepVector(in *instruction) {
	last := in.args[len(in.args)-1]
	if last.kind == 'm' { // a store
		n := in.args[0].lanes
		copy(unsafe.Slice((*uint32)(m.address(last)), n), m.vector[in.args[0].value][:n])
		return
	}
	n, out := last.lanes, &m.vector[last.value]
	old := *out
	*out = [lanes]uint32{} // an instruction clears the lanes above its own
	for i := n; i < lanes; i++ {
		old[i] = 0
	}
	if m.load(in, n, out) {
		return
	}
	source := func(o operand) [lanes]uint32 {
		if o.kind == 'v' && o.value == last.value {
			return old
		}
		return m.read(o, n)
	}
	read := source
	op, broadcast := strings.CutSuffix(in.op, ".BCST")
	if broadcast {
		read = func(o operand) [lanes]uint32 { return m.broadcast(o, source) }
	}
	if in.args[0].kind == 'i' {
		v := read(in.args[1])
		for i := range n {
			out[i] = shifted(op, v[i], in.args[0].value)
		}
		return
	}
	a := read(in.args[0])
	if len(in.args) == 2 { // VMOVUPS, VMOVAPS, VCVTDQ2PS
		for i := range n {
			if out[i] = a[i]; in.op == "VCVTDQ2PS" {
				out[i] = math.Float32bits(float32(int32(a[i])))
			}
		}
		return
	}
	b, low := source(in.args[1]), [lanes]uint32{}
	if in.op == "VBLENDVPS" {
		low = source(in.args[2])
	}
	for i := range n {
		switch op {
		case "VPSHUFB": // of 16 bytes each
			for j := range 4 {
				at := a[i] >> (8 * j) & 15
				out[i] |= b[i&^3+int(at/4)] >> (at % 4 * 8) & 255 << (8 * j)
			}
		case "VPERMPS":
			out[i] = a[int(b[i])%n]
		case "VBLENDVPS":
			if out[i] = low[i]; a[i]>>31 != 0 {
				out[i] = b[i]
			}
		default:
			out[i] = m.arithmetic(op, a[i], b[i], old[i])
		}
	}
}

// load executes an instruction that only reads memory into n lanes.
func (m *machine) load(in *instruction, n int, out *[lanes]uint32) bool {
	switch in.op {
	case "VBROADCASTSS", "VPBROADCASTD":
		v := *(*uint32)(m.address(in.args[0]))
		for i := range n {
			out[i] = v
		}
		return true
	case "VBROADCASTI128", "VBROADCASTI32X4":
		v := *(*[4]uint32)(m.address(in.args[0]))
		for i := range n {
			out[i] = v[i%4]
		}
		return true
	case "VPMOVZXBD":
		for i, b := range unsafe.Slice((*uint8)(m.address(in.args[0])), n) {
			out[i] = uint32(b)
		}
		return true
	case "VCVTPH2PS", "VPMOVZXWD":
		h := unsafe.Slice((*uint16)(m.address(in.args[0])), n)
		for i := range n {
			if out[i] = uint32(h[i]); in.op == "VCVTPH2PS" {
				out[i] = math.Float32bits(half.Float32(h[i]))
			}
		}
		return true
	}
	return false
}

// broadcast reads a vector, or one number for all lanes.
func (m *machine) broadcast(o operand, vector func(operand) [lanes]uint32) (v [lanes]uint32) {
	if o.kind == 'v' {
		return vector(o)
	}
	for i := range v {
		v[i] = *(*uint32)(m.address(o))
	}
	return v
}

// shifted is one lane of a shift by an immediate.
func shifted(op string, v uint32, by int) uint32 {
	switch op {
	case "VPSLLD":
		return v << by
	case "VPSRLD":
		return v >> by
	case "VPSRAD":
		return uint32(int32(v) >> by)
	}
	panic("emulator: " + op)
}

// arithmetic is one lane of an instruction on a and b, in Go's order, whose
// target held old.
func (m *machine) arithmetic(op string, a, b, old uint32) uint32 {
	float := math.Float32frombits
	switch op {
	case "VDPBF16PS":
		sum := fmaFlush(flushed(uint16(a>>16)), flushed(uint16(b>>16)), float(old))
		return math.Float32bits(fmaFlush(flushed(uint16(a)), flushed(uint16(b)), sum))
	case "VFMADD231PS":
		if m.flush {
			return math.Float32bits(fmaFlush(withoutDenormals(float(a)), withoutDenormals(float(b)), float(old)))
		}
		return math.Float32bits(fma32(float(a), float(b), float(old)))
	case "VFMADD213PS":
		return math.Float32bits(fma32(float(b), float(old), float(a)))
	case "VMULPS":
		return math.Float32bits(float(a) * float(b))
	case "VPANDD", "VPAND":
		return a & b
	case "VPOR", "VPORD":
		return a | b
	case "VPADDD":
		return a + b
	case "VPSUBD":
		return b - a
	case "VPXORD", "VXORPS", "VPXOR":
		return a ^ b
	}
	return integerArithmetic(op, a, b, old)
}

// integerArithmetic is arithmetic for instructions on parts of 32 bits. Of bytes, those of b are unsigned.
func integerArithmetic(op string, a, b, old uint32) (out uint32) {
	product := func(i int) int { return int(uint8(b>>(8*i))) * int(int8(a>>(8*i))) }
	half := func(v uint32, i int) int { return int(int16(v >> (16 * i))) }
	switch op {
	case "VPDPBUSD":
		for i := range 4 {
			old += uint32(product(i))
		}
		return old
	case "VPMADDUBSW":
		for i := range 2 {
			out |= uint32(uint16(max(min(product(2*i)+product(2*i+1), math.MaxInt16), math.MinInt16))) << (16 * i)
		}
		return out
	case "VPMADDWD":
		return uint32(half(a, 0)*half(b, 0) + half(a, 1)*half(b, 1))
	case "VPADDW":
		return uint32(uint16(half(a, 0)+half(b, 0))) | uint32(uint16(half(a, 1)+half(b, 1)))<<16
	case "VPADDB":
		for i := range 4 {
			out |= uint32(uint8(a>>(8*i)+b>>(8*i))) << (8 * i)
		}
		return out
	}
	panic("emulator: " + op)
}

// withoutDenormals is what an instruction takes a number for that is below the normal ones.
func withoutDenormals(v float32) float32 {
	if v < smallestNormal && v > -smallestNormal {
		return float32(math.Copysign(0, float64(v)))
	}
	return v
}

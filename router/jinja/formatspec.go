package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// formatSpec is Python's format specification mini-language, and what % has in common with it.
type formatSpec struct {
	fill      string
	align     byte // <, >, ^ or =; 0 for the type's own
	zeros     bool // zeros fill the width, and no alignment is given
	sign      byte // +, - or a space; 0 for -
	alternate bool
	width     int64
	grouping  byte  // a comma or an underscore; 0 for none
	precision int64 // negative for none
	kind      byte  // 0 for none
}

func parseFormatSpec(s string) (formatSpec, error) {
	f := formatSpec{precision: -1}
	if r, size := utf8.DecodeRuneInString(s); size > 0 && size < len(s) && strings.IndexByte("<>^=", s[size]) >= 0 {
		f.fill, f.align, s = string(r), s[size], s[size+1:]
	} else if s != "" && strings.IndexByte("<>^=", s[0]) >= 0 {
		f.align, s = s[0], s[1:]
	}
	take := func(set string) byte {
		if s != "" && strings.IndexByte(set, s[0]) >= 0 {
			c := s[0]
			s = s[1:]
			return c
		}
		return 0
	}
	f.sign = take("+- ")
	take("z")
	f.alternate = take("#") != 0
	if take("0") != 0 {
		if f.fill == "" {
			f.fill = "0"
		}
		if f.align == 0 {
			f.align, f.zeros = '=', true
		}
	}
	var err error
	if f.width, s, err = leadingNumber(s, 0); err != nil {
		return f, err
	}
	f.grouping = take(",_")
	if take(".") != 0 {
		if f.precision, s, err = leadingNumber(s, -1); err != nil {
			return f, err
		}
		if f.precision < 0 {
			return f, failf("Format specifier missing precision")
		}
	}
	if len(s) > 1 {
		return f, failf("Invalid format specifier")
	}
	f.kind = take("bcdeEfFgGnosxX%")
	if s != "" {
		return f, failf("Unknown format code '%s'", s)
	}
	if f.grouping != 0 && strings.IndexByte("cns", f.kind) >= 0 || f.grouping == ',' && strings.IndexByte("boxX", f.kind) >= 0 {
		return f, failf("Cannot specify '%c' with '%c'.", f.grouping, f.kind)
	}
	return f, nil
}

// leadingNumber reads the digits that s begins with.
func leadingNumber(s string, absent int64) (n int64, rest string, err error) {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	if end == 0 {
		return absent, s, nil
	}
	if n, err = strconv.ParseInt(s[:end], 10, 32); err != nil {
		return 0, "", failf("Too many decimal digits in format string")
	}
	return n, s[end:], nil
}

// format is Python's format(v, spec).
func (r *run) format(v Value, spec string) (string, error) {
	if spec == "" {
		return r.str(v)
	}
	f, err := parseFormatSpec(spec)
	if err != nil {
		return "", err
	}
	if s, ok := text(v); ok {
		return r.formatText(f, s)
	}
	if !isNumber(v) {
		return "", failf("unsupported format string passed to %s.__format__", v.typeName())
	}
	if b, ok := v.(Bool); ok && f.kind == 0 {
		n, _ := integer(b)
		v = Int(n)
	}
	return r.formatNumber(f, v)
}

func (r *run) formatText(f formatSpec, s string) (string, error) {
	switch {
	case f.kind != 0 && f.kind != 's':
		return "", failf("Unknown format code '%c' for object of type 'str'", f.kind)
	case f.sign != 0:
		return "", failf("Sign not allowed in string format specifier")
	case f.alternate:
		return "", failf("Alternate form (#) not allowed in string format specifier")
	case f.grouping != 0:
		return "", failf("Cannot specify '%c' with 's'.", f.grouping)
	case f.align == '=' && !f.zeros:
		return "", failf("'=' alignment not allowed in string format specifier")
	}
	if f.precision >= 0 && f.precision < int64(len(s)) {
		s = cutText(s, 0, f.precision)
	}
	if f.align == 0 || f.align == '=' {
		f.align = '<'
	}
	return r.aligned(f, "", s)
}

// aligned fills up to the width: between the sign and the digits where the alignment is =.
func (r *run) aligned(f formatSpec, sign, digits string) (string, error) {
	if f.fill == "" {
		f.fill = " "
	}
	switch f.align {
	case '=':
		padded, err := r.pad(digits, f.fill, f.width-int64(utf8.RuneCountInString(sign)), "rjust")
		return sign + padded, err
	case '<':
		return r.pad(sign+digits, f.fill, f.width, "ljust")
	case '^':
		missing := max(0, f.width-int64(utf8.RuneCountInString(sign+digits)))
		padded, err := r.pad(sign+digits, f.fill, f.width-missing+missing/2, "rjust")
		if err != nil {
			return "", err
		}
		return r.pad(padded, f.fill, f.width, "ljust")
	}
	return r.pad(sign+digits, f.fill, f.width, "rjust")
}

func (r *run) formatNumber(f formatSpec, v Value) (string, error) {
	if f.kind == 's' {
		return "", failf("Unknown format code 's' for object of type '%s'", v.typeName())
	}
	if f.precision > int64(r.limits.OutputBytes) {
		return "", &LimitError{"output bytes"}
	}
	if err := r.allocate(int(max(f.precision, 0))); err != nil {
		return "", err
	}
	n, whole := wholeNumber(v)
	var sign, prefix, digits string
	var err error
	if whole && strings.IndexByte("\x00bcdnoxX", f.kind) >= 0 {
		if f.precision >= 0 {
			return "", failf("Precision not allowed in integer format specifier")
		}
		if f.kind == 'c' {
			if f.sign != 0 {
				return "", failf("Sign not allowed with integer format specifier 'c'")
			}
			if !n.IsInt64() || n.Int64() < 0 || n.Int64() > utf8.MaxRune {
				return "", failf("%%c arg not in range(0x110000)")
			}
			if f.align == 0 {
				f.align = '<'
			}
			return r.aligned(f, "", string(rune(n.Int64())))
		}
		prefix, digits, err = wholeDigits(f, n)
		if n.Sign() < 0 {
			sign = "-"
		}
	} else {
		if strings.IndexByte("bcdoxX", f.kind) >= 0 && f.kind != 0 {
			return "", failf("Unknown format code '%c' for object of type 'float'", f.kind)
		}
		var x float64
		if x, err = toFloat(v); err == nil {
			if math.Signbit(x) && !math.IsNaN(x) {
				sign = "-"
			}
			digits = floatDigits(f, math.Abs(x), whole)
		}
	}
	if err != nil {
		return "", err
	}
	if sign == "" && (f.sign == '+' || f.sign == ' ') {
		sign = string(f.sign)
	}
	if f.grouping != 0 {
		digits = grouped(f, digits, sign+prefix)
	}
	if f.align == 0 {
		f.align = '>'
	}
	return r.aligned(f, sign+prefix, digits)
}

func wholeDigits(f formatSpec, n *big.Int) (prefix, digits string, err error) {
	base := map[byte]int{'b': 2, 'o': 8, 'x': 16, 'X': 16}[f.kind]
	if base == 0 {
		s, err := bigText(bigInt{new(big.Int).Abs(n)})
		return "", s, err
	}
	digits = new(big.Int).Abs(n).Text(base)
	if f.alternate {
		prefix = "0" + string(f.kind)
	}
	if f.kind == 'X' {
		digits = strings.ToUpper(digits)
	}
	return prefix, digits, nil
}

// floatDigits is the text of a number that is not negative.
func floatDigits(f formatSpec, x float64, whole bool) string {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		s := floatRepr(x)
		if f.kind == 'E' || f.kind == 'F' || f.kind == 'G' {
			s = strings.ToUpper(s)
		}
		if f.kind == '%' {
			s += "%"
		}
		return s
	}
	precision := int(f.precision)
	if precision < 0 {
		precision = 6
	}
	switch f.kind {
	case 'e', 'E':
		return withPoint(f, strconv.FormatFloat(x, f.kind, precision, 64))
	case 'f', 'F':
		return withPoint(f, strconv.FormatFloat(x, 'f', precision, 64))
	case '%':
		return withPoint(f, strconv.FormatFloat(x*100, 'f', precision, 64)) + "%"
	case 'g', 'G', 'n':
		s := generalDigits(x, max(precision, 1), f.alternate, 0)
		if f.kind == 'G' {
			s = strings.ToUpper(s)
		}
		return s
	}
	if f.precision < 0 {
		return withPoint(f, floatRepr(x))
	}
	return generalDigits(x, max(precision, 1), f.alternate, 1)
}

func withPoint(f formatSpec, s string) string {
	if f.alternate && !strings.Contains(s, ".") {
		if at := strings.IndexAny(s, "eE"); at >= 0 {
			return s[:at] + "." + s[at:]
		}
		return s + "."
	}
	return s
}

// generalDigits writes x with precision digits, with an exponent where that is short. always is how many digits stand
// behind the point at least.
func generalDigits(x float64, precision int, keepZeros bool, always int) string {
	s := strconv.FormatFloat(x, 'e', precision-1, 64)
	at := strings.IndexByte(s, 'e')
	exponent, _ := strconv.Atoi(s[at+1:])
	mantissa, tail := s[:at], s[at:]
	if exponent >= -4 && exponent < precision-always {
		mantissa, tail = strconv.FormatFloat(x, 'f', max(precision-1-exponent, 0), 64), ""
	}
	if !keepZeros && strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	if keepZeros && !strings.Contains(mantissa, ".") {
		mantissa += "."
	}
	if always > 0 && tail == "" && !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	return mantissa + tail
}

// grouped puts separators between groups of digits; zeros that fill the width are grouped as well.
func grouped(f formatSpec, digits, sign string) string {
	size := 3
	if strings.IndexByte("boxX", f.kind) >= 0 && f.kind != 0 {
		size = 4
	}
	end := len(digits)
	if at := strings.IndexAny(digits, ".eE%"); at >= 0 && size == 3 {
		end = at
	}
	whole, rest := digits[:end], digits[end:]
	if strings.Trim(whole, "0123456789abcdefABCDEF") != "" {
		return digits
	}
	insert := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			if i > 0 && (len(s)-i)%size == 0 {
				b.WriteByte(f.grouping)
			}
			b.WriteByte(s[i])
		}
		return b.String()
	}
	text := insert(whole)
	if f.fill == "0" && f.align == '=' {
		for f.width < maxPaddedWidth && int64(len(sign)+len(text)+len(rest)) < f.width {
			whole = "0" + whole
			text = insert(whole)
		}
	}
	return text + rest
}

// maxPaddedWidth bounds the width to which grouped digits are filled up.
const maxPaddedWidth = 1000

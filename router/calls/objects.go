package calls

// objects reads calls that are envelopes: one, several with commas, semicolons or white space between them, or a list.
type objects struct {
	prefix   string // what stands behind the marker, apart from white space
	bare     bool
	fenced   int // bytes of codeFence that were read, of a bare call
	matched  int // of prefix
	listed   bool
	envelope *envelope // nil: none is at work
	some     bool      // one has been read
}

func (o *objects) read(p *Parser, c byte) result {
	if o.envelope != nil {
		result := o.envelope.read(p, c)
		if result == done {
			o.envelope, o.some = nil, true
			return more
		}
		return result
	}
	switch {
	case o.bare && !o.some && !o.listed && o.fenced < len(codeFence) && (o.fenced > 0 || c == '`'):
		return o.readFence(c)
	case o.matched < len(o.prefix) && c == o.prefix[o.matched]:
		o.matched++
	case isSpace(c) && (o.matched == 0 || o.matched == len(o.prefix)):
	case o.matched < len(o.prefix):
		return wrong
	case c == '{':
		o.envelope = &envelope{bare: o.bare}
		return o.envelope.read(p, c)
	case c == '[' && !o.listed && !o.some:
		o.listed = true
	case (c == ',' || c == ';') && o.some:
	case o.some:
		return past
	default:
		return wrong
	}
	return more
}

// codeFence stands in front of what models write that were trained on programs; the word may be missing.
const codeFence = "```json"

func (o *objects) readFence(c byte) result {
	switch {
	case c == codeFence[o.fenced]:
		o.fenced++
	case isSpace(c) && o.fenced == len("```"):
		o.fenced = len(codeFence)
	default:
		return wrong
	}
	return more
}

func (o *objects) end(p *Parser, cut bool) {
	if o.envelope != nil {
		o.envelope.end(p, cut)
	}
}

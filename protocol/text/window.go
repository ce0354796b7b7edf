package text

import (
	"strings"
	"unicode/utf8"
)

// window decodes ids that come one by one, in time linear in their bytes. It always agrees with decoder.decode.
type window struct {
	decoder  *decoder
	decoded  []byte // valid UTF-8, before the decoder drops what it strips
	runes    int    // characters of decoded
	pending  []byte // the beginning of a character, which counts as one U+FFFD
	replaced bool   // decoded ends with U+FFFD
	run      byteRun
	tokens   int
}

func (w *window) reset() {
	*w = window{
		decoder: w.decoder, decoded: w.decoded[:0], pending: w.pending[:0], run: byteRun{bytes: w.run.bytes[:0]},
	}
}

// add adds an id that exists.
func (w *window) add(id int32) {
	first := w.tokens == 0
	w.tokens++
	if b := w.decoder.byteAt(id); b >= 0 {
		w.run.add(byte(b))
		return
	}
	w.closeRun()
	if w.decoder.joinsWithSpace && !first {
		w.write(" ")
	}
	w.write(w.decoder.token(id, first))
}

func (w *window) closeRun() {
	if len(w.run.bytes) == 0 {
		return
	}
	w.decoded = append(w.decoded, w.run.text()...)
	w.runes += w.run.length()
	w.replaced = w.run.endsOpen()
	w.run = byteRun{bytes: w.run.bytes[:0]}
}

func (w *window) write(raw string) {
	if len(w.pending) > 0 {
		raw = string(w.pending) + raw
		w.pending = w.pending[:0]
	}
	for len(raw) > 0 {
		if ascii := asciiLength(raw); ascii > 0 {
			w.decoded = append(w.decoded, raw[:ascii]...)
			w.runes += ascii
			w.replaced = false
			raw = raw[ascii:]
			continue
		}
		length, valid := sequenceLength(raw)
		if incomplete(raw) {
			w.pending = append(w.pending, raw...)
			return
		}
		character := raw[:length]
		if !valid {
			character = "\ufffd"
		}
		w.decoded = append(w.decoded, character...)
		w.runes++
		w.replaced = character == "\ufffd"
		raw = raw[length:]
	}
}

// length returns the characters of text.
func (w *window) length() int {
	return w.runes + min(1, len(w.pending)) + w.run.length() - w.stripped()
}

// endsOpen tells whether text ends with U+FFFD.
func (w *window) endsOpen() bool {
	if len(w.run.bytes) > 0 {
		return w.run.endsOpen()
	}
	return len(w.pending) > 0 || w.runes > 0 && w.replaced
}

// behind returns what Decode would of the ids so far, special tokens kept, without the first count characters.
func (w *window) behind(count int) string {
	count += w.stripped()
	if len(w.pending) == 0 && len(w.run.bytes) == 0 {
		return string(dropRunes(w.decoded, count))
	}
	text := string(w.decoded) + w.run.text()
	if len(w.pending) > 0 {
		text += "\ufffd"
	}
	return dropRunes(text, count)
}

// stripped returns how many characters at the beginning of the text the decoder drops.
func (w *window) stripped() int {
	if w.decoder.strips == 0 {
		return 0
	}
	parts := [2][]byte{w.decoded}
	if w.run.valid() {
		parts[1] = w.run.bytes
	}
	count := 0
	for _, part := range parts {
		for len(part) > 0 && count < w.decoder.strips {
			r, size := utf8.DecodeRune(part)
			if r != w.decoder.stripped {
				return count
			}
			count++
			part = part[size:]
		}
	}
	return count
}

// byteRun collects byte tokens that stand next to each other. They are text only if all of them together are valid
// UTF-8; otherwise each is a U+FFFD.
type byteRun struct {
	bytes  []byte
	runes  int  // whole characters
	open   int  // bytes behind the last of them
	broken bool // no more bytes can make the run valid
}

func (r *byteRun) add(b byte) {
	r.bytes = append(r.bytes, b)
	if r.broken {
		return
	}
	r.open++
	tail := string(r.bytes[len(r.bytes)-r.open:])
	if length, valid := sequenceLength(tail); valid && length == r.open {
		r.runes++
		r.open = 0
	} else {
		r.broken = !incomplete(tail)
	}
}

func (r *byteRun) valid() bool { return !r.broken && r.open == 0 }

// length returns the characters of text.
func (r *byteRun) length() int {
	if r.valid() {
		return r.runes
	}
	return len(r.bytes)
}

func (r *byteRun) text() string {
	if r.valid() {
		return string(r.bytes)
	}
	return strings.Repeat("\ufffd", len(r.bytes))
}

// endsOpen tells whether text, which must not be empty, ends with U+FFFD.
func (r *byteRun) endsOpen() bool {
	return !r.valid() || strings.HasSuffix(string(r.bytes[max(0, len(r.bytes)-utf8.UTFMax):]), "\ufffd")
}

package text

import (
	"unicode"
	"unicode/utf8"
)

// postStep is one step of a post-processor: it trims spaces off offsets, or puts tokens around the text's.
type postStep struct {
	trims       bool
	prefixSpace bool // of a trimming step: a leading space at the very beginning is the pre-tokenizer's and stays
	// template lists what the result consists of; nil for a trimming step.
	template []templatePart
}

// templatePart is either the text's own tokens or special ones.
type templatePart struct {
	text bool
	ids  []int32
}

// postProcess applies the post-processor to what has been encoded.
func (e *encoder) postProcess(addSpecialTokens bool) {
	for _, step := range e.tokenizer.post {
		switch {
		case step.trims && e.wants:
			e.trimOffsets(step.prefixSpace)
		case step.template != nil:
			e.applyTemplate(step.template, addSpecialTokens)
		}
	}
}

func (e *encoder) applyTemplate(template []templatePart, addSpecialTokens bool) {
	var ids []int32
	var offsets [][2]int32
	var texts []string
	for _, part := range template {
		switch {
		case part.text:
			ids = append(ids, e.ids...)
			offsets, texts = append(offsets, e.offsets...), append(texts, e.texts...)
		case addSpecialTokens:
			ids = append(ids, part.ids...)
			if e.wants {
				offsets = append(offsets, make([][2]int32, len(part.ids))...)
				texts = append(texts, make([]string, len(part.ids))...)
			}
		}
	}
	e.ids, e.offsets, e.texts = ids, offsets, texts
}

// trimOffsets takes leading and trailing spaces out of the offsets of tokens, as the reference counts them.
func (e *encoder) trimOffsets(prefixSpace bool) {
	for i, content := range e.texts {
		o := &e.offsets[i]
		leading, trailing := int32(0), int32(0)
		for _, r := range content {
			if !isTokenSpace(r) {
				break
			}
			leading++
		}
		for rest := content; len(rest) > 0; trailing++ {
			r, size := utf8.DecodeLastRuneInString(rest)
			if !isTokenSpace(r) {
				break
			}
			rest = rest[:len(rest)-size]
		}
		if leading > 0 {
			if prefixSpace && leading == 1 && (i == 0 || o[0] == 0) {
				leading = 0 // more than one are not the pre-tokenizer's
			}
			o[0] = min(o[0]+leading, o[1])
		}
		if trailing > 0 && o[1] >= trailing {
			o[1] = max(o[1]-trailing, o[0])
		}
	}
}

func isTokenSpace(r rune) bool { return r == byteToRune[' '] || unicode.IsSpace(r) }

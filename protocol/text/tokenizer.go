package text

import (
	"context"
	"errors"
	"unicode/utf8"

	"lockstep/protocol"
)

// Limits on what a tokenizer may claim. They are far above any known tokenizer and keep a hostile one from taking
// memory out of proportion to its own size.
const (
	// maxTokenID bounds token ids, because ids index slices. The largest known vocabulary has 2^18 tokens.
	maxTokenID = 1<<22 - 1
	// maxSparseness bounds how many ids there may be for each token, beyond some thousands.
	maxSparseness = 4
	// maxNesting bounds how deep Sequence components may nest.
	maxNesting = 16
	// maxJSONDepth bounds how deep arrays and objects of a tokenizer.json may nest.
	maxJSONDepth = 100
)

// ErrNoTokenizer says that a source holds no tokenizer.
var ErrNoTokenizer = errors.New("text: source has neither tokenizer.json nor GGUF metadata")

// Tokenizer encodes and decodes text. It is immutable, but for a memo that no caller can see (model.reached), and safe
// for concurrent use.
type Tokenizer struct {
	// contents holds each token as the source writes it, present tells which ids exist.
	contents []string
	present  []bool
	special  []bool
	// vocabulary maps a token as the source writes it to its id, without added tokens.
	vocabulary map[string]int32
	added      map[string]int32

	plainMatcher      *matcher  // finds added tokens in the text as given
	normalizedMatcher *matcher  // finds those with "normalized" set in the normalized text
	rewrites          []rewrite // the normalizer
	splits            []splitter
	marker            marker     // changes the spans that splits leave
	markedSplits      []splitter // split what the marker has changed
	model             model
	post              []postStep
	decoder           decoder
}

// Encoding is the answer of EncodeOffsets.
type Encoding struct {
	IDs []int32
	// Offsets holds for each id where it begins and ends in the input, in Unicode code points; ids that the
	// post-processor added have [0, 0].
	Offsets [][2]int32
}

// New builds the tokenizer that source describes. The error names the part that is malformed or not supported.
// The tokenizer keeps parts of the source's strings alive.
func New(source protocol.TokenizerSource) (*Tokenizer, error) {
	switch {
	case source.GGUF != nil:
		return newFromGGUF(source.GGUF)
	case len(source.HuggingFace) > 0:
		return newFromJSON(string(source.HuggingFace))
	}
	return nil, ErrNoTokenizer
}

// Encode returns the ids of text. With addSpecialTokens the post-processor adds those that the model wants around a
// prompt. Invalid UTF-8 counts as U+FFFD, one for each maximal invalid sequence. The time is near linear in the text, but for
// split patterns that backtrack. The only error is ErrTakesLong.
func (t *Tokenizer) Encode(text string, addSpecialTokens bool) ([]int32, error) {
	encoding, err := t.EncodeContext(context.Background(), text, addSpecialTokens, false)
	return encoding.IDs, err
}

// EncodeOffsets is Encode with the offsets of every id.
func (t *Tokenizer) EncodeOffsets(text string, addSpecialTokens bool) (Encoding, error) {
	return t.EncodeContext(context.Background(), text, addSpecialTokens, true)
}

// EncodeContext is Encode, with or without offsets, until the context ends, whose error is returned then.
func (t *Tokenizer) EncodeContext(ctx context.Context, text string, addSpecialTokens, offsets bool) (Encoding, error) {
	e := encoder{ctx: ctx, tokenizer: t, ids: make([]int32, 0, len(text)/3+8), wants: offsets}
	if offsets {
		e.offsets = make([][2]int32, 0, len(text)/3+8)
	}
	if err := e.encode(text); err != nil {
		return Encoding{}, err
	}
	e.postProcess(addSpecialTokens)
	return Encoding{IDs: e.ids, Offsets: e.offsets}, nil
}

// Decode returns the text of ids. Ids that do not exist are ignored, and with skipSpecialTokens special ones too.
// Each maximal invalid sequence of bytes becomes one U+FFFD. Byte tokens (<0xE4>) that stand next to each other are text
// only if all of them together are valid UTF-8; otherwise each of them becomes one U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecialTokens bool) string {
	kept := make([]int32, 0, len(ids))
	for _, id := range ids {
		if t.exists(id) && !(skipSpecialTokens && t.special[id]) {
			kept = append(kept, id)
		}
	}
	return t.decoder.decode(kept)
}

// DecodeAfter returns the text of ids, special tokens skipped, as it stands behind that of the token before: a space that
// joins the two belongs to it.
func (t *Tokenizer) DecodeAfter(before int32, ids []int32) string {
	both := t.Decode(append([]int32{before}, ids...), true)
	return dropRunes(both, utf8.RuneCountInString(t.Decode([]int32{before}, true)))
}

// IsSpecial tells whether id is a special token, one that skipSpecialTokens drops.
func (t *Tokenizer) IsSpecial(id int32) bool { return t.exists(id) && t.special[id] }

// VocabularySize returns one more than the largest id, added tokens included.
func (t *Tokenizer) VocabularySize() int { return len(t.contents) }

// TokenID returns the id of the token that the source writes as content. An added token goes before one of the model.
func (t *Tokenizer) TokenID(content string) (int32, bool) {
	if id, ok := t.added[content]; ok {
		return id, true
	}
	id, ok := t.vocabulary[content]
	return id, ok
}

func (t *Tokenizer) exists(id int32) bool {
	return id >= 0 && int(id) < len(t.present) && t.present[id]
}

// wordsPerCheck lie between two looks at the context.
const wordsPerCheck = 1024

// encoder holds the state of one Encode.
type encoder struct {
	ctx       context.Context
	tokenizer *Tokenizer
	ids       []int32
	offsets   [][2]int32
	wants     bool     // wants offsets
	texts     []string // with offsets: what each token was made of, as the reference spells it
	spans     []span
	spare     []span
	symbols   []symbol
	spelled   []symbol
	pairs     [shortWord]pair
	heap      mergeHeap
}

// span is a range of bytes in a piece of text.
type span struct{ start, end int }

func (e *encoder) encode(text string) error {
	text = validUTF8(text)
	t := e.tokenizer
	var aligned []alignment
	if e.wants || t.marker.prefix == prefixFirst {
		aligned = alignText(text)
	}
	return t.plainMatcher.cut(text, func(s span, id int32) error {
		piece, aligned := text[s.start:s.end], slice(aligned, s)
		if id >= 0 {
			e.addMatch(id, piece, aligned)
			return nil
		}
		piece, aligned = rewriteAll(t.rewrites, piece, aligned)
		return t.normalizedMatcher.cut(piece, func(s span, id int32) error {
			piece, aligned := piece[s.start:s.end], slice(aligned, s)
			if id >= 0 {
				e.addMatch(id, piece, aligned)
				return nil
			}
			return e.encodePiece(piece, aligned)
		})
	})
}

// encodePiece encodes normalized text that has no added tokens.
func (e *encoder) encodePiece(piece string, aligned []alignment) error {
	t := e.tokenizer
	spans, next := append(e.spans[:0], span{0, len(piece)}), e.spare[:0]
	spans, next, err := splitSpans(e.ctx, t.splits, piece, spans, next)
	if err != nil {
		return err
	}
	e.spans, e.spare = spans, next
	for i, s := range spans {
		if i%wordsPerCheck == 0 && e.ctx.Err() != nil {
			return e.ctx.Err()
		}
		word, aligned := piece[s.start:s.end], slice(aligned, s)
		if t.marker.space == "" {
			e.encodeWord(word, aligned)
		} else if err := e.encodeMarked(word, aligned); err != nil {
			return err
		}
	}
	return nil
}

// splitSpans cuts each of spans by all the steps in turn. It writes to both slices and returns the result first.
func splitSpans(ctx context.Context, steps []splitter, text string, spans, spare []span) (parts, rest []span, err error) {
	for _, step := range steps {
		spare = spare[:0]
		for _, s := range spans {
			if spare, err = step.appendSplits(ctx, spare, text[s.start:s.end], s.start); err != nil {
				return nil, nil, err
			}
		}
		spans, spare = spare, spans
	}
	return spans, spare, nil
}

// encodeMarked has the marker change a span, splits the result and encodes the parts.
func (e *encoder) encodeMarked(word string, aligned []alignment) error {
	t := e.tokenizer
	word, aligned = t.marker.mark(word, aligned)
	parts, _, err := splitSpans(e.ctx, t.markedSplits, word, []span{{0, len(word)}}, nil)
	if err != nil {
		return err
	}
	for _, s := range parts {
		e.encodeWord(word[s.start:s.end], slice(aligned, s))
	}
	return nil
}

// add appends the token of the word at s in a text of the given alignment.
func (e *encoder) add(id int32, aligned []alignment, s span) {
	e.ids = append(e.ids, id)
	if e.wants {
		e.offsets = append(e.offsets, [2]int32{int32(aligned[s.start]), int32(aligned[s.end-1]) + 1})
		e.texts = append(e.texts, e.tokenizer.contents[id])
	}
}

// addMatch appends the added token that was found as piece.
func (e *encoder) addMatch(id int32, piece string, aligned []alignment) {
	e.add(id, aligned, span{0, len(piece)})
	if e.wants {
		e.texts[len(e.texts)-1] = piece
	}
}

// Bytes returns the bytes that id adds to a text, which need not be whole characters; none if it does not exist.
func (t *Tokenizer) Bytes(id int32) string {
	if !t.exists(id) {
		return ""
	}
	if b := t.decoder.byteAt(id); b >= 0 {
		return string([]byte{byte(b)})
	}
	return t.decoder.token(id, false)
}

package text

import (
	"strings"
	"unicode/utf8"
)

// streamContext is how many of the prompt's last tokens the first window has, as in TGI.
const streamContext = 5

// Stream turns generated ids into text piece by piece, as TGI does: it decodes a window of ids that begins a little
// before the first one not yet shown, and shows what the newest id adds, unless that ends in an incomplete character.
// It belongs to one generation and is not safe for concurrent use.
//
// With read the number of ids whose text has been shown and prefix <= read, the text up to read is P and that of all
// ids is N; if N is longer than P and does not end with U+FFFD, N without its first len(P) characters is shown, prefix
// becomes read, and read the number of all ids.
type Stream struct {
	tokenizer *Tokenizer
	// short is set until the first text of a generation whose prompt has less than streamContext ids. Then TGI's prefix
	// is negative, which Python counts from the end: the window is the newest ids, however many there are.
	short      bool
	prefix     int     // only while short
	read       int     // only while short
	ids        []int32 // while short all ids, afterwards those from read on
	window     window  // the ids from prefix on
	shownRunes int     // characters of P
}

// NewStream returns the stream of a generation that continues promptIDs.
func (t *Tokenizer) NewStream(promptIDs []int32) *Stream {
	s := &Stream{tokenizer: t, read: len(promptIDs), prefix: len(promptIDs) - streamContext}
	s.window.decoder = &t.decoder
	if s.prefix < 0 {
		s.short = true
		s.ids = append(s.ids, promptIDs...)
		return s
	}
	s.rebase(promptIDs[s.prefix:])
	return s
}

// NewPlainStream is NewStream without TGI's way with prompts of less than streamContext ids, which loses a leading space and,
// behind four ids, the text of all characters that several tokens make up.
func (t *Tokenizer) NewPlainStream(promptIDs []int32) *Stream {
	s := &Stream{tokenizer: t}
	s.window.decoder = &t.decoder
	s.rebase(promptIDs[max(0, len(promptIDs)-streamContext):])
	return s
}

// Next adds a generated id and returns the text that becomes visible with it, which is often empty for parts of
// characters. The time is that of decoding the id twice, whatever has been held back.
func (s *Stream) Next(id int32) string {
	s.ids = append(s.ids, id)
	if s.short {
		return s.nextShort()
	}
	s.addToWindow(id)
	if s.window.length() <= s.shownRunes || s.window.endsOpen() {
		return ""
	}
	shown := s.window.behind(s.shownRunes)
	s.rebase(s.ids)
	return shown
}

// Held returns the text that is held back, which is never shown if the generation ends here.
func (s *Stream) Held() string {
	if s.short {
		before, now := s.shortWindow()
		return dropRunes(now, utf8.RuneCountInString(before))
	}
	return s.window.behind(s.shownRunes)
}

// nextShort is Next while the prefix is negative.
func (s *Stream) nextShort() string {
	before, now := s.shortWindow()
	shownRunes := utf8.RuneCountInString(before)
	if utf8.RuneCountInString(now) <= shownRunes || strings.HasSuffix(now, "\ufffd") {
		return ""
	}
	s.short = false
	s.rebase(s.ids[s.read:])
	return dropRunes(now, shownRunes)
}

// shortWindow decodes what Python's ids[prefix:read] and ids[prefix:] are for a negative prefix.
func (s *Stream) shortWindow() (before, now string) {
	start := max(0, len(s.ids)+s.prefix)
	if start < s.read {
		before = s.tokenizer.Decode(s.ids[start:s.read], false)
	}
	return before, s.tokenizer.Decode(s.ids[start:], false)
}

// rebase begins a window of the given ids, all of which have been shown.
func (s *Stream) rebase(ids []int32) {
	s.window.reset()
	for _, id := range ids {
		s.addToWindow(id)
	}
	s.ids = s.ids[:0]
	s.shownRunes = s.window.length()
}

func (s *Stream) addToWindow(id int32) {
	if s.tokenizer.exists(id) {
		s.window.add(id)
	}
}

// dropRunes returns text without its first count characters.
func dropRunes[T string | []byte](text T, count int) T {
	for ; count > 0 && len(text) > 0; count-- {
		size := 1
		if text[0] >= utf8.RuneSelf {
			_, size = utf8.DecodeRuneInString(string(text[:min(len(text), utf8.UTFMax)]))
		}
		text = text[size:]
	}
	return text
}

package text

import "unicode/utf8"

// learnBytes prepares a model over bytes: the vocabulary has its tokens in coded form.
func (m *model) learnBytes(vocabulary map[string]int32) {
	for b := range m.byteIDs {
		m.byteIDs[b] = -1
		if id, ok := vocabulary[string(byteToRune[b])]; ok {
			m.byteIDs[b] = id
		}
	}
	m.words = make(map[string]int32, len(vocabulary))
	var word []byte
	for content, id := range vocabulary {
		var coded bool
		if word, coded = appendTokenBytes(word[:0], content); !coded {
			continue
		}
		m.words[string(word)] = id
		m.longestWord = max(m.longestWord, len(word))
	}
}

// learnCharacters prepares a model over characters, whose tokens are text as it stands.
func (m *model) learnCharacters(vocabulary map[string]int32, fallsBack bool) {
	m.fallsBack, m.words, m.characters = fallsBack, vocabulary, map[rune]int32{}
	for content, id := range vocabulary {
		m.longestWord = max(m.longestWord, len(content))
		if isCharacter(content) {
			r, _ := utf8.DecodeRuneInString(content)
			m.characters[r] = id
		}
	}
	for b := range m.byteIDs {
		m.byteIDs[b] = -1
		if id, ok := vocabulary[byteToken(byte(b))]; ok {
			m.byteIDs[b] = id
		}
	}
}

// appendCharacters appends the symbol of each character of word. One that the vocabulary lacks becomes its byte tokens,
// if all of them exist, else the unknown token; where there is none it is dropped. As in the reference, the unknown
// token comes only behind the byte tokens that follow it, and positions count what has been appended, not what has been
// read.
func (m *model) appendCharacters(dst []symbol, word string) []symbol {
	at, unknown := int32(0), int32(0) // unknown is the length of an unknown token that is still to come
	push := func(id, length int32) {
		dst = append(dst, symbol{id, at, at + length})
		at += length
	}
	flush := func() {
		if unknown > 0 {
			push(m.unknown, unknown)
			unknown = 0
		}
	}
	for i := 0; i < len(word); {
		r, size := utf8.DecodeRuneInString(word[i:])
		character := word[i : i+size]
		i += size
		if id, ok := m.characters[r]; ok {
			flush()
			push(id, int32(size))
			continue
		}
		if m.fallsBack && m.hasBytes(character) {
			for _, b := range []byte(character) {
				push(m.byteIDs[b], 1)
			}
			continue
		}
		if m.unknown >= 0 {
			if !m.fuseUnknown {
				flush()
			}
			unknown += int32(size)
		}
	}
	flush()
	return dst
}

func (m *model) hasBytes(character string) bool {
	for i := range len(character) {
		if m.byteIDs[character[i]] < 0 {
			return false
		}
	}
	return true
}

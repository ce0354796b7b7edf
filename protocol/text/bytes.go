package text

import "unicode/utf8"

// Byte-level BPE writes each byte as a printable character: the printable ones of Latin-1 as themselves, the others as
// the characters from U+0100 on, in order. byteToRune and runeToByte are that code.
var byteToRune, runeToByte = byteAlphabet()

// runeToByteSize bounds the characters of the code: 256 plus the 68 bytes that are not printable.
const runeToByteSize = 256 + 68

func byteAlphabet() (toRune [256]rune, toByte [runeToByteSize]int16) {
	for i := range toByte {
		toByte[i] = -1
	}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		printable := b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae
		if !printable {
			r = next
			next++
		}
		toRune[b], toByte[r] = r, int16(b)
	}
	return toRune, toByte
}

// appendTokenBytes appends the bytes that a byte-level token stands for. A token with any character outside the code
// stands for its own UTF-8; coded is then false.
func appendTokenBytes(dst []byte, token string) (out []byte, coded bool) {
	n := len(dst)
	for i := 0; i < len(token); {
		r, size := rune(token[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(token[i:])
		}
		if r >= runeToByteSize || runeToByte[r] < 0 {
			return append(dst[:n], token...), false
		}
		dst = append(dst, byte(runeToByte[r]))
		i += size
	}
	return dst, true
}

package token

import "unicode/utf8"

// Byte-level vocabularies spell every byte as one printable character: the
// printable bytes of Latin-1 as themselves, the 68 others, in order, as U+0100
// and up.
var byteRunes, runeBytes = byteLevelTables()

func byteLevelTables() (runes [256]rune, bytes map[rune]byte) {
	bytes = make(map[rune]byte, 256)
	next := rune(256)
	for b := range runes {
		runes[b] = rune(b)
		if !printableLatin1(b) {
			runes[b] = next
			next++
		}
		bytes[runes[b]] = byte(b)
	}
	return runes, bytes
}

func printableLatin1(b int) bool {
	return b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE
}

// byteTokens finds the token of each single byte, None where there is none.
func byteTokens(ids map[string]ID) (tokens [256]ID) {
	for b, r := range byteRunes {
		tokens[b] = None
		if id, ok := ids[string(r)]; ok {
			tokens[b] = id
		}
	}
	return tokens
}

// spellings returns the bytes of each token: normal tokens are byte-level
// spelled, all others stand for their own text.
func spellings(tokens []string, types []int32) [][]byte {
	size := 0
	for _, text := range tokens {
		size += len(text)
	}
	all := make([]byte, 0, size) // every token's bytes one after the other
	spelled := make([][]byte, len(tokens))
	for i, text := range tokens {
		from := len(all)
		all = appendSpelling(all, text, types[i])
		spelled[i] = all[from:len(all):len(all)]
	}
	return spelled
}

func appendSpelling(dst []byte, text string, kind int32) []byte {
	from := len(dst)
	if kind != typeNormal {
		return append(dst, text...)
	}
	for _, r := range text {
		b, ok := runeBytes[r]
		if !ok {
			return append(dst[:from], text...)
		}
		dst = append(dst, b)
	}
	return dst
}

// ValidText returns s as valid UTF-8. What cannot be a character becomes
// U+FFFD, one for each longest stretch that could have begun a character.
func ValidText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	text, rest := appendValid(nil, []byte(s))
	if len(rest) > 0 {
		text = utf8.AppendRune(text, utf8.RuneError)
	}
	return string(text)
}

// appendValid appends the text of b to dst up to a tail that is the beginning
// of a character, which it returns.
func appendValid(dst, b []byte) (text, rest []byte) {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			if n = brokenLen(b); n == len(b) && !utf8.FullRune(b) {
				return dst, b
			}
		}
		dst = utf8.AppendRune(dst, r)
		b = b[n:]
	}
	return dst, nil
}

// brokenLen is the length of the longest beginning of b that could have begun
// a character, and 1 if there is none.
func brokenLen(b []byte) int {
	n := 1
	for n < len(b) && !utf8.FullRune(b[:n+1]) {
		n++
	}
	return n
}

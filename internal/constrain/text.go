package constrain

import "unicode/utf8"

// Runes is any one character of a range, both ends included, in UTF-8.
// Surrogates are no characters.
func Runes(from, to rune) *Node {
	var ways []*Node
	for _, band := range [][2]rune{{0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, utf8.MaxRune}} {
		low, high := max(from, band[0]), min(to, band[1])
		if low <= high {
			a, b := utf8.AppendRune(nil, low), utf8.AppendRune(nil, high)
			ways = append(ways, between(a, b))
		}
	}
	return Any(ways...)
}

// between is any byte string from a to b, of the same length, whose bytes after
// the first run from 0x80 to 0xbf.
func between(a, b []byte) *Node {
	if len(a) == 1 {
		return Range(a[0], b[0])
	}
	if a[0] == b[0] {
		return Seq(Range(a[0], a[0]), between(a[1:], b[1:]))
	}
	least, most := rest(len(a)-1, 0x80), rest(len(a)-1, 0xbf)
	ways := []*Node{
		Seq(Range(a[0], a[0]), between(a[1:], most)),
		Seq(Range(b[0], b[0]), between(least, b[1:])),
	}
	if a[0]+1 < b[0] {
		ways = append(ways, Seq(Range(a[0]+1, b[0]-1), between(least, most)))
	}
	return Any(ways...)
}

func rest(n int, b byte) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

package format

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is crc32c over the parts, as over one piece.
func sum(parts ...[]byte) uint32 {
	var s uint32
	for _, p := range parts {
		s = crc32.Update(s, castagnoli, p)
	}
	return s
}

// fileSum is the sum of a file that keeps it at [12,16).
func fileSum(b []byte) uint32 { return sum(b[:12], b[16:]) }

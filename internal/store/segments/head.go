package segments

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"io"

	"mneme/internal/store/format"
)

// A segment is a head of 64 bytes and frames, each at a multiple of 64:
//
//	 0  magic "MNEMESEG"
//	 8  version      u32  1; 2 when frames in it may be encrypted
//	12  number       u32
//	16  fingerprint  32   SHA-256 of the KV fingerprint
//	48  zeros        12
//	60  sum          u32  crc32c of [0,60)
const (
	headMagic        = "MNEMESEG"
	plainVersion     = 1
	encryptedVersion = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Head is the head of the segment of that number and KV fingerprint, with frames
// under that cover, or plain.
func Head(number uint32, fingerprint string, c format.Cover) []byte {
	b := make([]byte, format.SegmentHeadBytes)
	copy(b, headMagic)
	binary.LittleEndian.PutUint32(b[8:], versionOf(c))
	binary.LittleEndian.PutUint32(b[12:], number)
	digest := sha256.Sum256([]byte(fingerprint))
	copy(b[16:], digest[:])
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

func versionOf(c format.Cover) uint32 {
	if c == format.Encrypted {
		return encryptedVersion
	}
	return plainVersion
}

// checkHead reads a segment's head: a *format.VersionError for an intact one of
// another version, a *format.DamagedError for one that is not Head's. Path names
// the segment in them; other errors are those of r.
func checkHead(r io.ReaderAt, path string, number uint32, fingerprint string) error {
	b := make([]byte, format.SegmentHeadBytes)
	if err := format.ReadFull(r, b, 0); err != nil {
		return err
	}
	for _, c := range []format.Cover{format.Plain, format.Encrypted} {
		if bytes.Equal(b, Head(number, fingerprint, c)) {
			return nil
		}
	}
	intact := string(b[:8]) == headMagic && crc32.Checksum(b[:60], castagnoli) == binary.LittleEndian.Uint32(b[60:])
	if v := binary.LittleEndian.Uint32(b[8:]); intact && v != plainVersion && v != encryptedVersion {
		return &format.VersionError{Where: path, Have: v, Know: encryptedVersion}
	}
	return &format.DamagedError{Where: path, Reason: "its head does not belong to this segment"}
}

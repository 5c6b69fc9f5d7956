package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
)

// A segment is a head of 64 bytes and frames, each at a multiple of 64:
//
//	 0  magic "MNEMESEG"
//	 8  version      u32
//	12  number       u32
//	16  fingerprint  32   SHA-256 of the KV fingerprint
//	48  zeros        12
//	60  sum          u32  crc32c of [0,60)
const (
	segmentMagic   = "MNEMESEG"
	segmentVersion = 1

	// SegmentHeadBytes is where a segment's first frame begins.
	SegmentHeadBytes = 64
)

// SegmentHead is the head of the segment of that number and KV fingerprint.
func SegmentHead(number uint32, fingerprint string) []byte {
	b := make([]byte, SegmentHeadBytes)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], segmentVersion)
	binary.LittleEndian.PutUint32(b[12:], number)
	digest := sha256.Sum256([]byte(fingerprint))
	copy(b[16:], digest[:])
	binary.LittleEndian.PutUint32(b[60:], sum(b[:60]))
	return b
}

// CheckSegmentHead reads a segment's head: a *VersionError for an intact one of
// another version, a *DamagedError for one that is not SegmentHead's. Path names
// the segment in them; other errors are those of r.
func CheckSegmentHead(r io.ReaderAt, path string, number uint32, fingerprint string) error {
	b := make([]byte, SegmentHeadBytes)
	if err := readFull(r, b, 0); err != nil {
		return err
	}
	if bytes.Equal(b, SegmentHead(number, fingerprint)) {
		return nil
	}
	intact := sum(b[:60]) == binary.LittleEndian.Uint32(b[60:])
	if v := binary.LittleEndian.Uint32(b[8:]); intact && string(b[:8]) == segmentMagic && v != segmentVersion {
		return &VersionError{Where: path, Have: v, Know: segmentVersion}
	}
	return &DamagedError{Where: path, Reason: "its head does not belong to this segment"}
}

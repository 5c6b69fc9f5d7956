// Package export is one agent as one file: its manifest and, if wanted, the
// frames it names. It knows that file's bytes and what makes one believable. What
// a manifest and a frame are is left to format; where frames come from and where
// they go, to store and engine.
//
//	 0  magic "MNEMEEXP"          footer:  0  magic "MNEMEEND"
//	 8  version   u32                      8  frames  u64
//	12  sum       u32  crc32c of          16  bytes   u64  of the file, the footer included
//	       [0,12) and [16,32)             24  sum     u32  crc32c of all before it
//	16  manifest  u64  bytes              28  zeros   u32
//	24  zeros     u64
//	32  manifest, zeros up to a multiple of 64; frames; footer
//
// What stays true:
//   - Open gives a Reader only after it has read and checked every byte.
//   - Bytes nobody wrote are an error, never a panic; memory is bounded by the
//     manifest and one frame, and both by what is there.
package export

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"mneme/internal/store/format"
)

const (
	magic       = "MNEMEEXP"
	footerMagic = "MNEMEEND"
	version     = 1
	headBytes   = 32
	footerBytes = 32
	alignBytes  = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Writer writes an export: New, Frame for each frame, Close.
type Writer struct {
	w      io.Writer
	sum    uint32
	bytes  uint64
	frames uint64
}

// New begins an export with its manifest. Frames that follow are the manifest's
// blocks, group by group in the order of its keys, then its tails.
func New(w io.Writer, m *format.Manifest) (*Writer, error) {
	e := &Writer{w: w}
	body := format.EncodeManifest(m)
	head := make([]byte, headBytes, headBytes+len(body)+alignBytes)
	copy(head, magic)
	binary.LittleEndian.PutUint32(head[8:], version)
	binary.LittleEndian.PutUint64(head[16:], uint64(len(body)))
	binary.LittleEndian.PutUint32(head[12:], headSum(head))
	head = append(head, body...)
	head = append(head, make([]byte, align(len(head))-len(head))...)
	return e, e.write(head)
}

func headSum(head []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:12], castagnoli), castagnoli, head[16:headBytes])
}

func align(n int) int { return (n + alignBytes - 1) &^ (alignBytes - 1) }

func (e *Writer) write(b []byte) error {
	e.sum = crc32.Update(e.sum, castagnoli, b)
	e.bytes += uint64(len(b))
	if _, err := e.w.Write(b); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}

// Frame writes a whole frame.
func (e *Writer) Frame(b []byte) error {
	e.frames++
	return e.write(b)
}

// Close writes the footer, without which the file is nothing. It does not close
// the writer below.
func (e *Writer) Close() error {
	b := make([]byte, footerBytes)
	copy(b, footerMagic)
	binary.LittleEndian.PutUint64(b[8:], e.frames)
	binary.LittleEndian.PutUint64(b[16:], e.bytes+footerBytes)
	binary.LittleEndian.PutUint32(b[24:], crc32.Update(e.sum, castagnoli, b[:24]))
	return e.write(b)
}

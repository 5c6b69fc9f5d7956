package format

import (
	"fmt"
	"io"
	"slices"

	"mneme/internal/kv"
	"mneme/internal/token"
)

// Wanted is what a reader knows about the frame it asks for.
type Wanted struct {
	Kind      Kind
	Key       kv.Key
	Group     int
	Tokens    []token.ID
	AnyTokens bool // Tokens are not compared
}

// Read fills dst with the payload of the frame at an offset of r and returns the
// frame sum. The shape noted for it, the length of dst, what is wanted and the
// sums are compared; after an error dst holds anything.
func (w Wanted) Read(r io.ReaderAt, at int64, noted Shape, dst []byte) (sum uint32, err error) {
	if len(dst) != noted.PayloadBytes {
		return 0, fmt.Errorf("payload of %d bytes, %d expected", noted.PayloadBytes, len(dst))
	}
	head := make([]byte, noted.headBytes())
	if err := w.readHead(r, at, noted, head); err != nil {
		return 0, err
	}
	if err := readFull(r, dst, at+int64(len(head))); err != nil {
		return 0, err
	}
	return frameSum(head), checkPayload(head, dst)
}

// FrameBytesAt reads the size of the frame at an offset of r, which must end
// before end.
func FrameBytesAt(r io.ReaderAt, at, end int64) (int64, error) {
	b := make([]byte, fixedBytes)
	if at+fixedBytes > end {
		return 0, fmt.Errorf("%d bytes are no frame", end-at)
	}
	if err := readFull(r, b, at); err != nil {
		return 0, err
	}
	sh, err := parseShape(b)
	if err != nil {
		return 0, err
	}
	if at+sh.FrameBytes() > end {
		return 0, fmt.Errorf("frame of %d bytes in %d", sh.FrameBytes(), end-at)
	}
	return sh.FrameBytes(), nil
}

func (w Wanted) readHead(r io.ReaderAt, at int64, noted Shape, head []byte) error {
	if err := readFull(r, head, at); err != nil {
		return err
	}
	f, err := parseHead(head)
	if err != nil {
		return err
	}
	if f.PayloadBytes != noted.PayloadBytes {
		return fmt.Errorf("payload of %d bytes instead of %d", f.PayloadBytes, noted.PayloadBytes)
	}
	return w.compare(f)
}

func (w Wanted) compare(f Frame) error {
	switch {
	case f.Kind != w.Kind:
		return fmt.Errorf("frame of kind %d instead of %d", f.Kind, w.Kind)
	case f.Key != w.Key:
		return fmt.Errorf("key %s instead of %s", f.Key, w.Key)
	case f.Group != w.Group:
		return fmt.Errorf("group %d instead of %d", f.Group, w.Group)
	case !w.AnyTokens && !slices.Equal(f.Tokens, w.Tokens):
		return fmt.Errorf("its %d tokens are not the %d expected", len(f.Tokens), len(w.Tokens))
	}
	return nil
}

// readFull fills b from an offset; a file that ends before is an error.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == nil {
		return fmt.Errorf("%d of %d bytes at %d: %w", n, len(b), off, io.ErrUnexpectedEOF)
	}
	return err
}

package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// cursor reads forward and never past the end.
type cursor struct {
	data []byte
	at   int
}

func (c *cursor) left() int { return len(c.data) - c.at }

// take returns the next n bytes, in place.
func (c *cursor) take(n int) ([]byte, error) {
	if n > c.left() {
		return nil, fmt.Errorf("%d bytes at byte %d pass the end of the file at byte %d", n, c.at, len(c.data))
	}
	c.at += n
	return c.data[c.at-n : c.at : c.at], nil
}

func (c *cursor) u32() (uint32, error) {
	b, err := c.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (c *cursor) u64() (uint64, error) {
	b, err := c.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// count reads how many things follow: at most limit, and no more than the file has room for at least bytes each.
func (c *cursor) count(what string, limit, least int) (int, error) {
	at := c.at
	n, err := c.u64()
	switch {
	case err != nil:
		return 0, err
	case n > uint64(limit):
		return 0, fmt.Errorf("%d %s at byte %d; the limit is %d", n, what, at, limit)
	case n > uint64(c.left()/least):
		return 0, fmt.Errorf("%d %s at byte %d do not fit the %d bytes that follow", n, what, at, c.left())
	}
	return int(n), nil
}

// text reads a string: its length, then its bytes, returned in place.
func (c *cursor) text() ([]byte, error) {
	at := c.at
	n, err := c.u64()
	if err != nil {
		return nil, err
	}
	if n > uint64(c.left()) {
		return nil, fmt.Errorf("string of %d bytes at byte %d passes the end of the file at byte %d", n, at, len(c.data))
	}
	return c.take(int(n))
}

// name reads the name of a key or tensor.
func (c *cursor) name() (string, error) {
	b, err := c.text()
	if err == nil && len(b) == 0 {
		err = errors.New("an empty name")
	}
	return string(b), err
}

// kind reads a type number of the closed table.
func (c *cursor) kind() (kind, error) {
	at := c.at
	n, err := c.u32()
	if err == nil && kind(n) >= kindCount {
		err = fmt.Errorf("unknown value type %d at byte %d", n, at)
	}
	return kind(n), err
}

package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"mneme/internal/quant"
)

// Limits on what a file may claim, whatever its size.
const (
	maxKeys      = 1 << 20
	maxTensors   = 1 << 20
	maxItems     = 1 << 24 // of one array
	maxDims      = 4
	maxAlignment = 4096

	defaultAlignment = 32
	alignmentKey     = "general.alignment"
	magic            = "GGUF"

	minKeyBytes    = 8 + 4 + 1         // a length, a type, one byte of value
	minTensorBytes = 8 + 4 + 8 + 4 + 8 // a length, a dim count, one dim, a type, an offset
)

// Parse reads a GGUF file from memory; the tensors lie in data, which must stay unchanged.
func Parse(data []byte) (*File, error) {
	f := newFile(data)
	if err := f.parse(&cursor{data: data}); err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	return f, nil
}

func newFile(data []byte) *File {
	return &File{data: data, values: map[string]value{}, byName: map[string]int{}}
}

func (f *File) parse(c *cursor) error {
	tensors, keys, err := c.header()
	if err != nil {
		return err
	}
	for i := range keys {
		if err := f.readKey(c, i, keys); err != nil {
			return err
		}
	}
	alignment, err := f.alignment()
	if err != nil {
		return err
	}
	offsets := make([]uint64, 0, tensors)
	for i := range tensors {
		offset, err := f.readTensor(c, i, tensors)
		if err != nil {
			return err
		}
		offsets = append(offsets, offset)
	}
	return f.placeTensors((c.at+alignment-1)&^(alignment-1), alignment, offsets)
}

// header reads everything before the first key.
func (c *cursor) header() (tensors, keys int, err error) {
	mark, err := c.take(len(magic))
	if err != nil {
		return 0, 0, err
	}
	if string(mark) != magic {
		return 0, 0, fmt.Errorf("not a GGUF file: it begins with %q, not %q", mark, magic)
	}
	version, err := c.u32()
	if err != nil {
		return 0, 0, err
	}
	if version != 2 && version != 3 {
		return 0, 0, fmt.Errorf("version %d at byte 4; supported are 2 and 3", version)
	}
	if tensors, err = c.count("tensors", maxTensors, minTensorBytes); err != nil {
		return 0, 0, err
	}
	keys, err = c.count("metadata keys", maxKeys, minKeyBytes)
	return tensors, keys, err
}

// readKey reads key i of n with its value.
func (f *File) readKey(c *cursor, i, n int) error {
	at := c.at
	key, err := c.name()
	if err != nil {
		return fmt.Errorf("metadata key %d of %d at byte %d: %w", i, n, at, err)
	}
	if _, twice := f.values[key]; twice {
		return fmt.Errorf("key %.80q at byte %d: a second one of that name", key, at)
	}
	v, err := c.value()
	if err != nil {
		return fmt.Errorf("key %.80q at byte %d: %w", key, at, err)
	}
	f.keys = append(f.keys, key)
	f.values[key] = v
	return nil
}

// value reads a type number and a value of that type.
func (c *cursor) value() (value, error) {
	k, err := c.kind()
	if err != nil {
		return value{}, err
	}
	switch k {
	case kindString:
		data, err := c.text()
		return value{kind: k, data: data}, err
	case kindArray:
		return c.array()
	}
	data, err := c.take(kindSizes[k])
	if err == nil && k == kindBool {
		err = checkBools(data)
	}
	return value{kind: k, data: data}, err
}

func (c *cursor) array() (value, error) {
	elem, err := c.kind()
	if err != nil {
		return value{}, err
	}
	if elem == kindArray {
		return value{}, errors.New("an array of arrays; only flat arrays are supported")
	}
	count, err := c.count("array items", maxItems, elem.leastBytes())
	if err != nil {
		return value{}, err
	}
	data, err := c.items(elem, count)
	return value{kind: kindArray, elem: elem, count: count, data: data}, err
}

// items passes over the elements of an array and returns their bytes.
func (c *cursor) items(elem kind, count int) ([]byte, error) {
	if elem != kindString {
		data, err := c.take(count * kindSizes[elem])
		if err == nil && elem == kindBool {
			err = checkBools(data)
		}
		return data, err
	}
	start := c.at
	for i := range count {
		if _, err := c.text(); err != nil {
			return nil, fmt.Errorf("string %d of %d: %w", i, count, err)
		}
	}
	return c.data[start:c.at:c.at], nil
}

func checkBools(data []byte) error {
	for i, b := range data {
		if b > 1 {
			return fmt.Errorf("bool %d has the value %d", i, b)
		}
	}
	return nil
}

// alignment is what tensor offsets are multiples of.
func (f *File) alignment() (int, error) {
	v, ok := f.values[alignmentKey]
	if !ok {
		return defaultAlignment, nil
	}
	if v.kind != kindU32 {
		return 0, fmt.Errorf("key %q: %s, want uint32", alignmentKey, v.kind)
	}
	n := binary.LittleEndian.Uint32(v.data)
	if n > maxAlignment || bits.OnesCount32(n) != 1 {
		return 0, fmt.Errorf("key %q: %d is not a power of two up to %d", alignmentKey, n, maxAlignment)
	}
	return int(n), nil
}

// readTensor reads entry i of n of the tensor table, all but the data, and returns its offset in the data.
func (f *File) readTensor(c *cursor, i, n int) (offset uint64, err error) {
	at := c.at
	name, err := c.name()
	if err != nil {
		return 0, fmt.Errorf("tensor %d of %d at byte %d: %w", i, n, at, err)
	}
	if _, twice := f.byName[name]; twice {
		return 0, fmt.Errorf("tensor %.80q at byte %d: a second one of that name", name, at)
	}
	t := Tensor{Name: name}
	if offset, err = c.tensor(&t); err != nil {
		return 0, fmt.Errorf("tensor %.80q at byte %d: %w", name, at, err)
	}
	f.byName[name] = len(f.tensors)
	f.tensors = append(f.tensors, t)
	return offset, nil
}

// tensor reads dims, format and offset.
func (c *cursor) tensor(t *Tensor) (offset uint64, err error) {
	dims, err := c.u32()
	if err != nil {
		return 0, err
	}
	if dims < 1 || dims > maxDims {
		return 0, fmt.Errorf("%d dims; supported are 1 to %d", dims, maxDims)
	}
	for i := range dims {
		d, err := c.u64()
		if err != nil {
			return 0, err
		}
		if d < 1 || d > math.MaxInt {
			return 0, fmt.Errorf("dim %d is %d", i, d)
		}
		t.Dims = append(t.Dims, int(d))
	}
	format, err := c.u32()
	if err != nil {
		return 0, err
	}
	if t.Format = quant.Format(format); !t.Format.Known() {
		return 0, fmt.Errorf("unknown tensor type %d", format)
	}
	return c.u64()
}

// placeTensors gives every tensor its bytes; start is where the data begins in the file.
func (f *File) placeTensors(start, alignment int, offsets []uint64) error {
	for i := range f.tensors {
		t := &f.tensors[i]
		if err := f.place(t, start, alignment, offsets[i]); err != nil {
			return fmt.Errorf("tensor %.80q: %w", t.Name, err)
		}
	}
	return nil
}

func (f *File) place(t *Tensor, start, alignment int, offset uint64) error {
	size, err := t.sizeBytes()
	if err != nil {
		return err
	}
	room := max(len(f.data)-start, 0)
	switch {
	case offset%uint64(alignment) != 0:
		return fmt.Errorf("offset %d is not a multiple of the alignment %d", offset, alignment)
	case offset > uint64(room) || size > room-int(offset):
		return fmt.Errorf("%d bytes at offset %d of the data (which begins at byte %d) pass the end of the file at byte %d",
			size, offset, start, len(f.data))
	}
	t.Offset = start + int(offset)
	t.Data = f.data[t.Offset : t.Offset+size : t.Offset+size]
	return nil
}

// sizeBytes is rows times the bytes of a row.
func (t *Tensor) sizeBytes() (int, error) {
	size, err := quant.RowBytes(t.Format, t.Dims[0])
	if err != nil {
		return 0, fmt.Errorf("row of %d: %w", t.Dims[0], err)
	}
	for _, d := range t.Dims[1:] {
		high, low := bits.Mul64(uint64(size), uint64(d))
		if high != 0 || low > math.MaxInt {
			return 0, fmt.Errorf("dims %v of %s overflow", t.Dims, t.Format)
		}
		size = int(low)
	}
	return size, nil
}

package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"mneme/internal/quant"
)

// Builder writes a GGUF file, version 3, for the models that tests make. Its own misuse panics.
type Builder struct {
	alignment int
	keys      []string
	encoded   map[string][]byte // type number and value
	tensors   []Tensor
}

// NewBuilder is a builder of a file without keys and tensors.
func NewBuilder() *Builder {
	return &Builder{alignment: defaultAlignment, encoded: map[string][]byte{}}
}

// Set puts a value under key: a string, uint32, int32, uint64, float32, bool, []string, []int32 or []float32.
// A second Set of a key replaces the first.
func (b *Builder) Set(key string, v any) {
	if _, again := b.encoded[key]; !again {
		b.keys = append(b.keys, key)
	}
	b.encoded[key] = appendValue(nil, key, v)
	if n, ok := v.(uint32); ok && key == alignmentKey {
		b.alignment = int(n)
	}
}

// Add puts a tensor behind those before it; data must be exactly its bytes.
func (b *Builder) Add(name string, f quant.Format, dims []int, data []byte) {
	t := Tensor{Name: name, Format: f, Dims: append([]int(nil), dims...), Data: data}
	size, err := t.sizeBytes()
	if err != nil || size != len(data) {
		panic(fmt.Sprintf("gguf: tensor %s of %v %s takes %d bytes, got %d (%v)", name, dims, f, size, len(data), err))
	}
	b.tensors = append(b.tensors, t)
}

// Bytes is the file.
func (b *Builder) Bytes() []byte {
	out := append([]byte(magic), 3, 0, 0, 0)
	out = appendU64(out, len(b.tensors))
	out = appendU64(out, len(b.keys))
	for _, key := range b.keys {
		out = append(appendText(out, key), b.encoded[key]...)
	}
	offset := 0
	for _, t := range b.tensors {
		out = appendTensor(out, t, offset)
		offset += len(t.Data) + b.padding(len(t.Data))
	}
	for _, t := range b.tensors {
		out = append(out, make([]byte, b.padding(len(out)))...)
		out = append(out, t.Data...)
	}
	return out
}

// padding is how many bytes are missing from n to a multiple of the alignment.
func (b *Builder) padding(n int) int { return (b.alignment - n%b.alignment) % b.alignment }

func appendTensor(out []byte, t Tensor, offset int) []byte {
	out = appendText(out, t.Name)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(t.Dims)))
	for _, d := range t.Dims {
		out = appendU64(out, d)
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(t.Format))
	return appendU64(out, offset)
}

func appendValue(out []byte, key string, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendText(appendKind(out, kindString), v)
	case uint32:
		return binary.LittleEndian.AppendUint32(appendKind(out, kindU32), v)
	case int32:
		return binary.LittleEndian.AppendUint32(appendKind(out, kindI32), uint32(v))
	case uint64:
		return binary.LittleEndian.AppendUint64(appendKind(out, kindU64), v)
	case float32:
		return binary.LittleEndian.AppendUint32(appendKind(out, kindF32), math.Float32bits(v))
	case bool:
		return append(appendKind(out, kindBool), boolByte(v))
	case []string:
		return appendItems(out, kindString, v, appendText)
	case []int32:
		return appendItems(out, kindI32, v, func(out []byte, n int32) []byte {
			return binary.LittleEndian.AppendUint32(out, uint32(n))
		})
	case []float32:
		return appendItems(out, kindF32, v, func(out []byte, x float32) []byte {
			return binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
		})
	}
	panic(fmt.Sprintf("gguf: key %s: no way to write a %T", key, v))
}

func appendItems[T any](out []byte, elem kind, items []T, write func([]byte, T) []byte) []byte {
	out = appendU64(appendKind(appendKind(out, kindArray), elem), len(items))
	for _, item := range items {
		out = write(out, item)
	}
	return out
}

func appendKind(out []byte, k kind) []byte { return binary.LittleEndian.AppendUint32(out, uint32(k)) }

func appendU64(out []byte, n int) []byte { return binary.LittleEndian.AppendUint64(out, uint64(n)) }

func appendText(out []byte, s string) []byte { return append(appendU64(out, len(s)), s...) }

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

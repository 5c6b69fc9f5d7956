// Package gguf reads the container that models come in: metadata, the tensor table, and the tensors' bytes in place.
//
// A file is untrusted: it decides where others read. So every count, offset and size is checked against the file, without
// overflow, before it is used; types are a closed table; and an error says what is wrong and at which byte. It knows the
// sizes of number formats through quant, and leaves the meaning of keys, tensors and vocabularies to model and token.
//
//	| "GGUF" | version u32 | tensors u64 | keys u64 | key, type, value ... | name, dims, type, offset ... | pad | data |
package gguf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"mneme/internal/quant"
)

// File is a parsed GGUF file.
//   - Metadata and tensors never change after Parse; any goroutine may read them.
//   - Tensor data lies in the file's own bytes: it is valid until Close, and read-only.
//   - Strings and arrays are copies: they outlive Close.
type File struct {
	data   []byte
	mapped bool

	keys    []string // in file order
	values  map[string]value
	tensors []Tensor
	byName  map[string]int

	digestOnce sync.Once
	digest     string
}

// Tensor is one entry of the tensor table with its bytes.
type Tensor struct {
	Name   string
	Format quant.Format
	Dims   []int  // innermost first: Dims[0] is the length of a row; 1 to 4 of them, none 0
	Offset int    // of Data in the file, a multiple of the file's alignment
	Data   []byte // rows in order, without gaps
}

// RowLen is the number of elements of a row.
func (t Tensor) RowLen() int { return t.Dims[0] }

// Rows is the number of rows: the product of all dims but the innermost.
func (t Tensor) Rows() int {
	rows := 1
	for _, d := range t.Dims[1:] {
		rows *= d
	}
	return rows
}

// Row is the bytes of row i.
func (t Tensor) Row(i int) []byte {
	size := len(t.Data) / t.Rows()
	return t.Data[i*size : (i+1)*size : (i+1)*size]
}

// Open maps the file read-only and parses it. Close unmaps it.
func Open(path string) (*File, error) {
	data, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: open %s: %w", path, err)
	}
	f := newFile(data)
	if err := f.parse(&cursor{data: data}); err != nil {
		_ = unix.Munmap(data)
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	f.mapped = true
	return f, nil
}

// mapFile maps a whole regular file that is not empty.
func mapFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("not a regular file (%s)", info.Mode().Type())
	case info.Size() == 0:
		return nil, fmt.Errorf("the file is empty")
	case int64(int(info.Size())) != info.Size():
		return nil, fmt.Errorf("%d bytes do not fit this machine's address space", info.Size())
	}
	return unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
}

// Close gives the mapping back; tensor data must not be touched afterwards. A second Close does nothing.
func (f *File) Close() error {
	data, mapped := f.data, f.mapped
	f.data, f.mapped = nil, false
	f.keys, f.values, f.tensors, f.byName = nil, nil, nil, nil
	if !mapped {
		return nil
	}
	return unix.Munmap(data)
}

// Tensors is the tensor table in file order.
func (f *File) Tensors() []Tensor { return slices.Clone(f.tensors) }

// Tensor is the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Digest is the SHA-256 of the whole file in hex. The first call reads the file; it must come before Close.
func (f *File) Digest() string {
	f.digestOnce.Do(func() {
		if f.data == nil {
			panic("gguf: first Digest after Close")
		}
		sum := sha256.Sum256(f.data)
		f.digest = hex.EncodeToString(sum[:])
	})
	return f.digest
}

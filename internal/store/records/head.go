package records

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

// A file begins with a head; record.go has what follows. Little endian:
//
//	 0  magic
//	 8  version      u32  2 plain (1 is read), 3 encrypted
//	12  sum          u32  crc32c of [0,12) and [16,end of head)
//	16  names        u32  bytes up to the end of the head
//	20  plain: names, each its length (varint) and its bytes
//
//	20  encrypted: key id 6
//	26  zeros        2
//	28  namespace    32   its digest
//	60  nonce        12
//	72  names, encrypted; tag 16
//
// Additional data of the names is [0,12), [20,60) and what the file is bound to.
const (
	oldestVersion    = 1
	plainVersion     = 2
	encryptedVersion = 3

	headBytes   = 20
	digestAt    = 28
	nonceAt     = 60
	namesAt     = 72
	keyIDEnd    = 26
	minSealed   = namesAt - headBytes + tagBytes
	sumAt       = 12
	namesSizeAt = 16
)

// Place is where the next record of a file goes, and what it goes on from.
type Place struct {
	End     int64  // after the record before, or the head
	Sum     uint32 // of that
	Version uint32 // of the file
	Nonce   Nonce  // of the head of an encrypted file
}

// Encrypted tells whether the file is.
func (at Place) Encrypted() bool { return at.Version == encryptedVersion }

// Takes tells whether records can be written behind it with a cipher.
func (at Place) Takes(c Cipher) bool {
	return at.Version == plainVersion && !c.Encrypts() || at.Encrypted() && c.Encrypts()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is crc32c over the parts, as over one piece.
func sum(parts ...[]byte) uint32 {
	var s uint32
	for _, p := range parts {
		s = crc32.Update(s, castagnoli, p)
	}
	return s
}

func headSum(head []byte) uint32 { return sum(head[:sumAt], head[namesSizeAt:]) }

// New is the head of a file, and the place behind it. An encrypted one is bound to
// what is not in it: Open needs the same.
func New(magic string, bound []byte, c Cipher, names ...string) (head []byte, at Place, err error) {
	at.Version = plainVersion
	if c.Encrypts() {
		at.Version = encryptedVersion
	}
	head = make([]byte, headBytes)
	copy(head, magic)
	binary.LittleEndian.PutUint32(head[8:], at.Version)
	if c.Encrypts() {
		if head, err = sealNames(head, bound, c, encodeNames(nil, names)); err != nil {
			return nil, Place{}, err
		}
		at.Nonce = Nonce(head[nonceAt:])
	} else {
		head = encodeNames(head, names)
	}
	binary.LittleEndian.PutUint32(head[namesSizeAt:], uint32(len(head)-headBytes))
	at.End, at.Sum = int64(len(head)), headSum(head)
	binary.LittleEndian.PutUint32(head[sumAt:], at.Sum)
	return head, at, nil
}

func sealNames(head, bound []byte, c Cipher, names []byte) ([]byte, error) {
	head = append(head, c.ID[:]...)
	head = append(head, make([]byte, digestAt-keyIDEnd)...)
	head = append(head, c.Namespace[:]...)
	return c.Seal(head, names, additional(head, bound))
}

func additional(head, bound []byte) []byte {
	return slices.Concat(head[:sumAt], head[headBytes:nonceAt], bound)
}

func encodeNames(b []byte, names []string) []byte {
	for _, name := range names {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	return b
}

// decodeNames fills the names with what b holds; false when that is not names.
func decodeNames(b []byte, names []*string) bool {
	for _, name := range names {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return false
		}
		*name, b = string(b[n:][:size]), b[n:][size:]
	}
	return len(b) == 0
}

// File is one that was read.
type File struct {
	Place // behind the records that were taken
	data  []byte
	aead  cipher.AEAD // of an encrypted one
	sums  bool        // bodies are left as they are
}

// Open reads a file's head and its names. The error is a *VersionError for a whole
// one of another version, a *KeylessError, else a *DamagedError.
func Open(data []byte, magic, path string, bound []byte, keys Keys, names ...*string) (File, error) {
	f, head, err := open(data, magic, path)
	if err != nil {
		return File{}, err
	}
	plain := head[headBytes:]
	if f.Encrypted() {
		if f.aead, err = Find(keys, KeyID(head[headBytes:keyIDEnd])); err != nil {
			return File{}, &KeylessError{&DamagedError{path, err.Error()}, Digest(head[digestAt:nonceAt])}
		}
		if plain, err = Unseal(f.aead, head[nonceAt:], additional(head, bound)); err != nil {
			return File{}, &DamagedError{path, "its head: " + err.Error()}
		}
	}
	if !decodeNames(plain, names) {
		return File{}, &DamagedError{path, "its names are not names"}
	}
	return f, nil
}

// Find gives the key of that id; without keys none.
func Find(keys Keys, id KeyID) (cipher.AEAD, error) {
	if keys == nil {
		return nil, errNoKeys
	}
	return keys.Find(id)
}

// open reads a head as far as no key is needed.
func open(data []byte, magic, path string) (f File, head []byte, err error) {
	le := binary.LittleEndian
	if len(data) < headBytes || string(data[:8]) != magic {
		return f, nil, &DamagedError{path, fmt.Sprintf("no %s in %d bytes", magic, len(data))}
	}
	size := int64(le.Uint32(data[namesSizeAt:]))
	if size > int64(len(data)-headBytes) {
		return f, nil, &DamagedError{path, "its head is cut"}
	}
	head = data[:headBytes+size]
	f = File{Place: Place{End: int64(len(head)), Sum: le.Uint32(data[sumAt:]), Version: le.Uint32(data[8:])}, data: data}
	if have := headSum(head); have != f.Sum {
		return f, nil, &DamagedError{path, fmt.Sprintf("its head sums to %08x, written was %08x", have, f.Sum)}
	}
	if f.Version < oldestVersion || f.Version > encryptedVersion {
		return f, nil, &VersionError{path, f.Version, encryptedVersion}
	}
	if f.Encrypted() {
		if size < minSealed {
			return f, nil, &DamagedError{path, "its head is too short"}
		}
		f.Nonce = Nonce(head[nonceAt:])
	}
	return f, head, nil
}

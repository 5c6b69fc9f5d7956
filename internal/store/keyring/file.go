package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"mneme/internal/store/format"
)

// A key file, little endian; offsets in bytes:
//
//	 0  magic "MNEMEKEY"
//	 8  version      u32
//	12  sum          u32  crc32c of [0,12) and [16,80)
//	16  nonce        12
//	28  key, encrypted 32; tag 16
//	76  zeros        4
//
// and the same once more at 4096: either copy will do. The key is encrypted with
// the master key, AES-256-GCM; additional data is [0,12) and the digest of the
// namespace, zeros for the file that only proves the master key.
const (
	magic       = "MNEMEKEY"
	version     = 1
	recordBytes = 80
	secondAt    = 4096
	nonceBytes  = 12
	wrappedAt   = 28
	wrappedEnd  = 76
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digest is of a namespace: SHA-256 over its length (u32) and its bytes.
type digest [sha256.Size]byte

func digestOf(namespace string) digest {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(namespace)))
	return sha256.Sum256(append(b, namespace...))
}

// DigestOf names a namespace in what is encrypted with its key.
func DigestOf(namespace string) format.Digest { return format.Digest(digestOf(namespace)) }

// name is that of the namespace's file.
func (d digest) name() string { return hex.EncodeToString(d[:]) }

// digestIn is the one that a file's name says.
func digestIn(name string) (d digest, ok bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(d) {
		return d, false
	}
	d = digest(b)
	return d, d.name() == name
}

// newAEAD is AES-256-GCM; a key of another length is refused.
func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != keyBytes {
		return nil, fmt.Errorf("key of %d bytes instead of %d", len(key), keyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// idOf names a key.
func idOf(key []byte) format.KeyID {
	sum := sha256.Sum256(append([]byte("mneme key id "), key...))
	return format.KeyID(sum[:])
}

// nameKeyOf is the key of names that are made under a key.
func nameKeyOf(key []byte) [sha256.Size]byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("mneme names"))
	return [sha256.Size]byte(h.Sum(nil))
}

// encode is the file of a key, wrapped with a fresh nonce.
func encode(master cipher.AEAD, random io.Reader, d digest, key []byte) ([]byte, error) {
	b := make([]byte, recordBytes)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	if _, err := io.ReadFull(random, b[16:wrappedAt]); err != nil {
		return nil, err
	}
	master.Seal(b[wrappedAt:wrappedAt], b[16:wrappedAt], key, additional(b, d))
	binary.LittleEndian.PutUint32(b[12:], sumOf(b))
	return twice(b), nil
}

func additional(record []byte, d digest) []byte { return append(bytes.Clone(record[:12]), d[:]...) }

func sumOf(record []byte) uint32 {
	return crc32.Update(crc32.Checksum(record[:12], castagnoli), castagnoli, record[16:])
}

var (
	errTorn     = errors.New("neither of its two copies is whole")
	errUnopened = errors.New("the master key does not open it")
)

// copies are those of the two records that are whole.
func copies(file []byte) (whole [][]byte) {
	for _, at := range []int{0, secondAt} {
		if len(file) < at+recordBytes {
			break
		}
		record := file[at : at+recordBytes]
		if string(record[:8]) == magic && sumOf(record) == binary.LittleEndian.Uint32(record[12:]) {
			whole = append(whole, record)
		}
	}
	return whole
}

// twice is the file of a record.
func twice(record []byte) []byte {
	b := make([]byte, secondAt+recordBytes)
	copy(b, record)
	copy(b[secondAt:], record)
	return b
}

// decode gives the key in a file; with errUnopened a copy is whole and yet not
// wrapped by this master key for this namespace. An intact copy of another
// version is a *format.VersionError.
func decode(master cipher.AEAD, path string, file []byte, d digest) ([]byte, error) {
	err := errTorn
	for _, record := range copies(file) {
		if v := binary.LittleEndian.Uint32(record[8:]); v != version {
			return nil, &format.VersionError{Where: path, Have: v, Know: version}
		}
		key, openErr := master.Open(nil, record[16:wrappedAt], record[wrappedAt:wrappedEnd], additional(record, d))
		if openErr == nil {
			return key, nil
		}
		err = errUnopened
	}
	return nil, err
}

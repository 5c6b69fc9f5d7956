package format

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"mneme/internal/store/records"
)

// An encrypted frame begins as a plain one does, up to offset 96. Its ids and its
// payload are two messages of AES-256-GCM under the key of its namespace:
//
//	 96  key id         6
//	102  zeros          2
//	104  nonce of ids   12
//	116  nonce of payload 12
//	128  token ids, encrypted; tag 16; zeros up to a multiple of 64: here the head ends
//	head payload, encrypted; tag 16; zeros up to a multiple of 64 (these are in no sum)
//
// Additional data of the ids is [0,88), of the payload [96,head): what a frame
// says of itself, its ids and its payload belong together or are refused.
const (
	keyAt          = 96
	keyEnd         = 102
	idsNonceAt     = 104
	payloadNonceAt = 116
	idsAt          = 128
	nonceBytes     = 12
	tagBytes       = 16
)

var errNotGenuine = errors.New("it is not what was encrypted, or for another place")

// Encrypt is Encode for a frame under Encrypted, and b of its size then. Errors
// are those of c.Random.
func (f Frame) Encrypt(b []byte, c Cipher, fill func(dst []byte)) error {
	head, body := f.Shape().Under(Encrypted).split(b)
	clear(head)
	clear(b[len(head)+len(body):])
	f.encodeHead(head, Encrypted)
	copy(head[keyAt:], c.ID[:])
	if _, err := io.ReadFull(c.Random, head[idsNonceAt:idsAt]); err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	ids := head[idsAt : idsAt+4*len(f.Tokens)]
	f.encodeIDs(ids)
	c.AEAD.Seal(ids[:0], head[idsNonceAt:payloadNonceAt], ids, head[:sumsAt])
	payload := body[:f.PayloadBytes]
	fill(payload[:len(payload):len(payload)])
	c.AEAD.Seal(payload[:0], head[payloadNonceAt:idsAt], payload, head[FixedBytes:])
	putSums(head, body)
	return nil
}

// Decrypt gives a whole frame as a plain one: itself, if it is.
func Decrypt(b []byte, keys Keys) ([]byte, error) {
	e, err := CheckFrame(b)
	if err != nil || e.Cover == Plain {
		return b, err
	}
	head, body := e.split(b)
	aead, err := find(keys, head)
	if err != nil {
		return nil, err
	}
	ids, err := openIDs(aead, e.Shape, head, nil)
	if err != nil {
		return nil, err
	}
	f := e.frame(head, ids)
	plain := make([]byte, e.Shape.Under(Plain).FrameBytes())
	f.Encode(plain, func(dst []byte) { err = openPayload(aead, head, body, dst) })
	return plain, err
}

// find gives the key that a head names.
func find(keys Keys, head []byte) (cipher.AEAD, error) {
	return records.Find(keys, KeyID(head[keyAt:keyEnd]))
}

// openIDs appends the token ids of a head, u32 each, to dst.
func openIDs(aead cipher.AEAD, s Shape, head, dst []byte) ([]byte, error) {
	ids, err := aead.Open(dst, head[idsNonceAt:payloadNonceAt], head[idsAt:idsAt+4*s.Tokens+tagBytes], head[:sumsAt])
	if err != nil {
		return nil, errNotGenuine
	}
	return ids, nil
}

// openPayload fills dst, of the payload's size.
func openPayload(aead cipher.AEAD, head, body, dst []byte) error {
	if _, err := aead.Open(dst[:0], head[payloadNonceAt:idsAt], body, head[FixedBytes:]); err != nil {
		return errNotGenuine
	}
	return nil
}

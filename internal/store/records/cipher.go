package records

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// KeyID names the key of a namespace without telling it; none is zeros.
type KeyID [6]byte

// Digest is of a namespace: SHA-256 over its length (u32) and its bytes.
type Digest [sha256.Size]byte

// Cipher encrypts with the key of one namespace: AES-256-GCM. The zero Cipher does
// not: what is written with it is plain.
type Cipher struct {
	ID        KeyID
	Namespace Digest
	NameKey   [sha256.Size]byte // of names made of what is in a file
	AEAD      cipher.AEAD
	Random    io.Reader // of nonces
}

// Keys finds the key of a namespace, or says why it is not there.
type Keys interface {
	Find(KeyID) (cipher.AEAD, error)
}

var (
	errNoKeys     = errors.New("it is encrypted, and there are no keys")
	errNotGenuine = errors.New("it is not what was encrypted, or for another place")
)

// Encrypts tells whether what is written with it is encrypted.
func (c Cipher) Encrypts() bool { return c.AEAD != nil }

// Name is a name for bytes, which only who has the key can make: HMAC-SHA-256. Of
// plain ones anybody can: SHA-256.
func (c Cipher) Name(b []byte) [sha256.Size]byte {
	if !c.Encrypts() {
		return sha256.Sum256(b)
	}
	h := hmac.New(sha256.New, c.NameKey[:])
	h.Write(b)
	return [sha256.Size]byte(h.Sum(nil))
}

const (
	nonceBytes = 12
	tagBytes   = 16
)

// Nonce is of one message. That of a file's head tells the file from all others.
type Nonce [nonceBytes]byte

func (c Cipher) nonce() (n Nonce, err error) {
	if _, err = io.ReadFull(c.Random, n[:]); err != nil {
		err = fmt.Errorf("draw a nonce: %w", err)
	}
	return n, err
}

// Seal appends a nonce and the encrypted text with its tag to dst. Errors are
// those of c.Random.
func (c Cipher) Seal(dst, text, additional []byte) ([]byte, error) {
	nonce, err := c.nonce()
	if err != nil {
		return nil, err
	}
	return c.AEAD.Seal(append(dst, nonce[:]...), nonce[:], text, additional), nil
}

// Unseal gives the text that Seal encrypted.
func Unseal(aead cipher.AEAD, b, additional []byte) ([]byte, error) {
	if len(b) < nonceBytes+tagBytes {
		return nil, errNotGenuine
	}
	text, err := aead.Open(nil, b[:nonceBytes], b[nonceBytes:], additional)
	if err != nil {
		return nil, errNotGenuine
	}
	return text, nil
}

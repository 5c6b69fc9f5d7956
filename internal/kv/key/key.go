// Package key names sealed blocks by everything that their bytes follow from. It
// hashes; where blocks are is kv's to know.
package key

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"mneme/internal/token"
)

// Key names a sealed block by everything its bytes follow from: SHA-256 over
// the parent block's key, the KV fingerprint, the namespace and the block's
// token ids, each tagged and length-prefixed. Same key, same bytes.
type Key [32]byte

// String is the key in hex.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText is the key in hex, for logs and JSON.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Scope is what all keys of one model and one namespace share.
type Scope struct {
	Fingerprint string // of the KV: model, architecture, format, numerics class
	Namespace   string
}

// Root is the parent of every first block in the scope.
func (s Scope) Root() Key { return s.hash('r', Key{}, nil) }

// Next is the key of the block that holds tokens and follows parent.
func (s Scope) Next(parent Key, tokens []token.ID) Key { return s.hash('b', parent, tokens) }

// Chain gives the keys of every full block of tokens.
func (s Scope) Chain(tokens []token.ID, blockTokens int) []Key {
	return s.Extend(nil, tokens, blockTokens)
}

// Extend appends to keys, which cover the beginning of tokens, those of the
// full blocks that follow.
func (s Scope) Extend(keys []Key, tokens []token.ID, blockTokens int) []Key {
	parent := s.Root()
	if len(keys) > 0 {
		parent = keys[len(keys)-1]
	}
	for i := len(keys); (i+1)*blockTokens <= len(tokens); i++ {
		parent = s.Next(parent, tokens[i*blockTokens:(i+1)*blockTokens])
		keys = append(keys, parent)
	}
	return keys
}

func (s Scope) hash(tag byte, parent Key, tokens []token.ID) Key {
	b := make([]byte, 0, 512)
	b = field(b, tag, parent[:])
	b = field(b, 'f', []byte(s.Fingerprint))
	b = field(b, 'n', []byte(s.Namespace))
	b = append(b, 't')
	b = binary.LittleEndian.AppendUint32(b, uint32(4*len(tokens)))
	for _, id := range tokens {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return sha256.Sum256(b)
}

func field(b []byte, tag byte, data []byte) []byte {
	b = append(b, tag)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

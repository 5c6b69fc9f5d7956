package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"mneme/internal/vfs"
)

const (
	keyBytes       = 32
	maxMasterBytes = 4096 // of a master key's file
)

// ReadMaster reads a master key of 256 bits from a file: 32 raw bytes, 64 hex
// digits, or base64, white space around the latter two aside. A file that the
// group or others may use is refused.
func ReadMaster(path string) ([]byte, error) {
	text, err := vfs.ReadPrivate(path, maxMasterBytes)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	key := decodeMaster(text)
	if key == nil {
		return nil, fmt.Errorf("key file %s: %d bytes that are neither a key of %d bytes nor its %d hex digits nor its base64",
			path, len(text), keyBytes, 2*keyBytes)
	}
	return key, nil
}

// decodeMaster gives a key of keyBytes, nil if there is none in the text.
func decodeMaster(text []byte) []byte {
	if len(text) == keyBytes {
		return text
	}
	word := string(bytes.TrimSpace(text))
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	} {
		if key, err := decode(word); err == nil && len(key) == keyBytes {
			return key
		}
	}
	return nil
}

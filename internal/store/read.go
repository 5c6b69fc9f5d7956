package store

import (
	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/token"
)

// Has tells whether the block is written and, as far as known, readable. Asking
// counts as using it.
func (s *Store) Has(key kv.Key, group int) bool {
	return s.frames.Use(format.BlockID{Key: key, Group: group})
}

// Read fills dst with the payload of a block, after which it is known to be the
// one asked for: checksum, key, group, token ids and the length of dst are
// compared. ErrMissing when it is not stored; a *DamagedError when it is not what
// was written, and then it is forgotten. After an error dst holds anything.
func (s *Store) Read(key kv.Key, group int, want []token.ID, dst []byte) error {
	return s.read(format.Wanted{Kind: format.Block, Key: key, Group: group, Tokens: want}, dst)
}

// ReadTail fills dst with the payload of an agent's unfinished block. Errors are
// those of Read; a tail under another KV fingerprint is ErrMissing.
func (s *Store) ReadTail(ref TailRef, want []token.ID, dst []byte) error {
	return s.read(format.Wanted{Kind: format.Tail, Key: ref.Key, Group: ref.Group, Tokens: want}, dst)
}

func (s *Store) read(want format.Wanted, dst []byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.frames.Read(want, dst)
}

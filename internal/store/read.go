package store

import (
	"iter"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/token"
)

// Has tells whether the block is written and, as far as known, readable. Asking
// counts as using it.
func (s *Store) Has(key kv.Key, group int) bool {
	return s.frames.Use(format.BlockID{Key: key, Group: group})
}

// Stored is Has, but asking is not using it.
func (s *Store) Stored(key kv.Key, group int) bool {
	return s.frames.Has(format.BlockID{Key: key, Group: group})
}

// Hold names blocks of so many groups for a turn that is under way, as an agent
// does: until Release they are neither dropped for the budget nor erased with others.
func (s *Store) Hold(groups int, keys ...kv.Key) { s.frames.Name(blocksOf(groups, keys)) }

// Release takes that back.
func (s *Store) Release(groups int, keys ...kv.Key) { s.frames.Unname(blocksOf(groups, keys)) }

func blocksOf(groups int, keys []kv.Key) iter.Seq[format.BlockID] {
	return func(yield func(format.BlockID) bool) {
		for i := range groups * len(keys) {
			if !yield(format.BlockID{Key: keys[i/groups], Group: i % groups}) {
				return
			}
		}
	}
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

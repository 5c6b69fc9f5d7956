// Package store keeps agents on disk: the sealed blocks of their KV, shared by
// key, and one file per agent with its lineage and turns, which forks share until
// they write a turn. It knows what a turn needs to be durable, in which order that
// happens, and what deleting has to reach. Frames are left to its room frames, which
// agents there are and what a damaged file costs to roster, an agent's file to
// journal, that of forks to families, the bytes of each to format, exports and
// offline checks to export and verify; what a payload means to kv and tensor, when
// to write or read to engine.
//
// What stays true:
//   - A turn is written down only after every frame it names has been synced.
//   - At every instant each published agent is whole on disk at its last published
//     turn or a later one.
//   - A frame is checked (checksum, key, group, length, tokens) before it is used;
//     one that fails is forgotten, and its block may be appended anew.
//   - What an agent names is never dropped; what only a deleted agent named is
//     erased before Delete returns.
//
// Goroutines: one writer, started by Open and ended by Close, makes every change
// on disk, collecting included. Readers use pread on frames that are found.
//
// Locks: Store.mu stands above the queue; roster and frames each have one of their
// own. That of frames is taken under either of the others or alone, never the other
// way round. No callback (Block.Copy, Block.Done) is called under any, and none is
// held over I/O.
package store

// Package store keeps agents on disk: the sealed blocks of their KV in append-only
// segments, shared by key, and one manifest per agent with its lineage and turns.
// It knows file names, what is durable and in which order things become so, and
// what a damaged file costs. The bytes of each file are left to its room format,
// what a payload means to kv and tensor, when to write or read to engine.
//
// What stays true:
//   - A manifest is put in place only after every frame it names has been synced.
//   - At every instant each published agent has a whole manifest on disk, of its
//     last published turn or a later one. The one before is kept back.
//   - A frame is checked (checksum, key, group, length, tokens) before it is used;
//     one that fails is forgotten, and its block may be appended anew.
//   - A failed write costs the segment's tail, never the process: the next frame
//     starts a new segment.
//
// Goroutines: one writer, started by Open and ended by Close, makes every change
// on disk. It alone appends to the open segment and replaces manifests. Readers
// use pread on files that are never changed below the end they know of.
//
// Locks: there is one, Store.mu, above everything in memory that writer and
// readers share. No other lock is taken under it, no callback (Block.Copy,
// Block.Done) is called under it, and no lock is held over I/O.
package store

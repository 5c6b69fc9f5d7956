// Package frames is the frames of one KV fingerprint: found by key, read, appended,
// moved together and erased. It knows what is stored where, how many agents name
// it, when it was last used, which can be decrypted, and when disk space is worth
// getting back. Whose names these are, and when what becomes durable, is left to
// store, the files to segments, the keys to keyring, the bytes to format.
//
// What stays true:
//   - A frame is checked before it is used; one that fails is forgotten.
//   - A frame that moves can be read all the time: its copy is synced before it is
//     found there, and the segment it came from goes last.
//   - What nobody can find is dead. Dead bytes are overwritten or removed when an
//     agent is erased, at the latest when they outweigh the rest of their segment.
//   - A failed write costs the segment's tail, never the process: the next frame
//     starts a new segment.
//
// Locks: Shelf.mu stands above everything in memory that the writer and readers
// share. No lock but the ring's is taken under it, and none is held over I/O.
package frames

// Package format is the data folder as bytes: frames, segments, indexes and
// manifests (docs/FORMAT.md draws them), each with its magic, version and sum.
// File names, which bytes are durable, and what to do about damaged ones are left
// to store, what a payload means to kv and tensor.
//
// What stays true:
//   - The same values give the same bytes. What is written is read back equal.
//   - Bytes that nothing here wrote are an error, never a panic, and what is
//     allocated for them is bounded by how many there are.
//   - There is no state between calls: no goroutine, no lock, no open file.
package format

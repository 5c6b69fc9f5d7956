// Package format is the data folder as bytes: frames, agents' files and
// manifests, each with its magic, version and sum (docs/FORMAT.md draws them).
// File names, what is durable and what a damaged file costs are left to store,
// what a payload means to kv and tensor.
//
// What stays true:
//   - The same values give the same bytes. What is written is read back equal.
//   - Changed bytes are an error, never a panic; what is allocated for any bytes
//     is bounded by how many there are.
//   - There is no state between calls: no goroutine, no lock, no open file.
package format

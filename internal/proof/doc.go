// Package proof holds proofs of the memory that need engine and store together:
// real bytes are flipped, cut, lost and refused under agents of a small model,
// and what they say is compared, token by token and bit by bit, with agents that
// nothing happened to. It has no code but tests; what a room promises alone is
// proved in that room.
package proof

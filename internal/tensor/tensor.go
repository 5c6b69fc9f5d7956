// Package tensor knows how numbers are multiplied fast: CPU features,
// registers, tiles and panels. A Kernels value is one variant of everything;
// generic Go is the truth the others are tested against, and runs where
// nothing better does.
//
// The rule that callers build on: the bits of a row's result depend on the
// row, the weights and the variant's numerics class only, never on how many
// rows go together, where the row stands, or how many workers share the work.
//
// It leaves the bytes of file formats to quant, what a weight tile is to tile and
// what a KV block is to kvblock, memory to arena, threads to team, and the order
// of a model's steps to model.
package tensor

//go:generate go -C gen run . -set linear -out ../linear_amd64.s -stubs ../linear_amd64.go -pkg tensor
//go:generate go -C gen run . -set attention -out ../attention_kernels_amd64.s -stubs ../attention_kernels_amd64.go -pkg tensor

// share is part number part of n things cut into parts, in order.
func share(n, part, parts int) (from, to int) { return n * part / parts, n * (part + 1) / parts }

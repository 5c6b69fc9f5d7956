//go:build !amd64 || noasm

package tensor

// nativeAttention: the generic code is all there is here.
var nativeAttention = &genericAttention

//go:build !soak

package model_test

const soak = false

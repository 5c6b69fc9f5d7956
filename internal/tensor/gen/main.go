// Command gen writes the AVX-512 kernels of package tensor with avo. It is a
// module of its own, so that the product never depends on the generator.
//
//	go run . -set linear -out ../linear_amd64.s -stubs ../linear_amd64.go -pkg tensor
//
// The sets: "linear" (linear.go, elementwise.go) and "attention"
// (attention.go). simd.go holds the idioms they share. The written files are
// committed; running this again must change nothing.
package main

import (
	"flag"
	"log"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	set := flag.String("set", "", "kernels to write: linear or attention")
	flag.Parse()
	ConstraintExpr("amd64,!noasm")
	switch *set {
	case "linear":
		linear()
	case "attention":
		attention()
	default:
		log.Fatalf("gen: no kernel set %q", *set)
	}
	Generate()
}

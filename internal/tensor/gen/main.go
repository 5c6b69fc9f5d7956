// Command gen writes the AVX-512 kernels of package tensor with avo. It is a
// module of its own, so that the product never depends on the generator.
//
//	go run . -set linear -out ../linear_amd64.s -stubs ../linear_amd64.go -pkg tensor
//
// The sets: "linear" (linear.go, elementwise.go), "attention" (attention*.go,
// kvseal.go) and "losses" (losses.go, for package tile). simd.go holds the idioms they share. The written files are
// committed; running this again must change nothing.
package main

import (
	"flag"
	"log"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	set := flag.String("set", "", "kernels to write: linear, attention or losses")
	flag.Parse()
	ConstraintExpr("amd64,!noasm")
	switch *set {
	case "linear":
		linear()
	case "attention":
		attention()
	case "losses":
		losses()
	default:
		log.Fatalf("gen: no kernel set %q", *set)
	}
	Generate()
}

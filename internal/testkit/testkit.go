// Package testkit hands tests their data: the real model, and the golden files of the repository. Only _test files
// import it. What is missing fails the test with what to do; nothing is skipped.
package testkit

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"mneme/internal/hub"
)

// SmolLM2 is the path of the real model, fetched once into the models folder (hub.DefaultDir).
func SmolLM2(tb testing.TB) string {
	tb.Helper()
	dir := hub.DefaultDir()
	model, err := hub.Resolve(context.Background(), "smollm2", hub.Options{Dir: dir, Progress: os.Stderr})
	if err != nil {
		tb.Fatalf("this test needs the real model in %s: %v", dir, err)
	}
	return model.Path
}

// Golden is the path of a file or folder under testdata/golden of the module that the test runs in.
func Golden(tb testing.TB, rel string) string {
	tb.Helper()
	dir, err := os.Getwd() // go test starts in the package's folder
	if err != nil {
		tb.Fatal(err)
	}
	root := moduleRoot(dir)
	if root == "" {
		tb.Fatalf("no go.mod at or above %s", dir)
	}
	path := filepath.Join(root, "testdata", "golden", filepath.FromSlash(rel))
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("golden file: %v", err)
	}
	return path
}

// moduleRoot is the nearest folder at or above dir that holds a go.mod; empty when there is none.
func moduleRoot(dir string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

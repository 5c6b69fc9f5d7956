// Package testkit hands tests their data: the real models, and the golden files of the repository. Only _test files
// import it. What is missing fails the test with what to do; nothing is skipped.
package testkit

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"mneme/internal/hub"
)

// SmolLM2 is the path of the first real model: llama, 135M.
func SmolLM2(tb testing.TB) string { tb.Helper(); return model(tb, "smollm2") }

// Qwen is the path of a real model with tools and 32K of context: qwen2, 0.5B.
func Qwen(tb testing.TB) string { tb.Helper(); return model(tb, "qwen2.5-coder-0.5b") }

// Gemma is the path of a real base model with windows and a SentencePiece vocabulary: gemma3, 270M.
func Gemma(tb testing.TB) string { tb.Helper(); return model(tb, "gemma3-270m") }

// model is the path of a model, fetched once into the models folder (hub.DefaultDir).
func model(tb testing.TB, alias string) string {
	tb.Helper()
	dir := hub.DefaultDir()
	found, err := hub.Resolve(context.Background(), alias, hub.Options{Dir: dir, Progress: os.Stderr})
	if err != nil {
		tb.Fatalf("this test needs the model %s in %s: %v", alias, dir, err)
	}
	return found.Path
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

package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheDataIsThere(t *testing.T) {
	info, err := os.Stat(SmolLM2(t))
	if err != nil || info.Size() != 98_362_432 {
		t.Errorf("the real model: %v, %v, want 98362432 bytes", info, err)
	}
	info, err = os.Stat(Golden(t, "tiny/llama/model.gguf"))
	if err != nil || info.Size() != 542_528 {
		t.Errorf("the tiny llama: %v, %v, want 542528 bytes", info, err)
	}
}

// root/go.mod, root/a/b/c, root/a/nested/go.mod
func TestModuleRootIsTheNearest(t *testing.T) {
	root := t.TempDir()
	nested := filepath.Join(root, "a", "nested")
	deep := filepath.Join(root, "a", "b", "c")
	for _, dir := range []string{nested, deep} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{root, nested} {
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{root: root, deep: root, nested: nested, os.TempDir(): ""} {
		if got := moduleRoot(dir); got != want {
			t.Errorf("from %s: %q, want %q", dir, got, want)
		}
	}
}

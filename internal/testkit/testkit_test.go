package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheDataIsThere(t *testing.T) {
	for path, want := range map[string]int64{
		SmolLM2(t):                         98_362_432,
		Qwen(t):                            491_400_064,
		Gemma(t):                           253_113_024,
		Golden(t, "tiny/llama/model.gguf"): 542_528,
	} {
		if info, err := os.Stat(path); err != nil || info.Size() != want {
			t.Errorf("%s: %v, %v, want %d bytes", path, info, err, want)
		}
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

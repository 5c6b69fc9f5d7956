package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// The memory that a control group leaves is the smallest of all above it.
func TestGroupRoom(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"memory.max": "max\n", "a/memory.max": "1000\n", "a/memory.current": "900\n", "a/memory.stat": "anon 1\ninactive_file 50\n",
		"a/b/memory.max": "5000\n", "a/b/memory.current": "100\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := groupRoom(root, "/a/b"); got != 150 {
		t.Errorf("room %d, want 150", got)
	}
	if got, err := available([]byte("MemTotal: 9 kB\nMemAvailable:    12 kB\n")); got != 12<<10 || err != nil {
		t.Errorf("available %d (%v), want %d", got, err, 12<<10)
	}
	if _, err := available([]byte("MemTotal: 9 kB\n")); err == nil {
		t.Error("no MemAvailable and no error")
	}
}

package machine

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
	if got := groupLimit(root, "/a/b"); got != 1000 {
		t.Errorf("limit %d, want 1000", got)
	}
}

func TestMemInfo(t *testing.T) {
	const text = "MemTotal: 9 kB\nMemAvailable:    12 kB\n"
	for name, want := range map[string]int64{"MemTotal": 9 << 10, "MemAvailable": 12 << 10} {
		if got, err := memInfo([]byte(text), name); got != want || err != nil {
			t.Errorf("%s is %d (%v), want %d", name, got, err, want)
		}
	}
	if _, err := memInfo([]byte(text), "MemFree"); err == nil {
		t.Error("no MemFree and no error")
	}
}

// This machine has memory, and no more free than there is.
func TestMemoryOfThisMachine(t *testing.T) {
	total, err := TotalMemory()
	if err != nil {
		t.Fatal(err)
	}
	if free, err := FreeMemory(); err != nil || free <= 0 || total < free {
		t.Errorf("%d bytes free (%v) of %d", free, err, total)
	}
}

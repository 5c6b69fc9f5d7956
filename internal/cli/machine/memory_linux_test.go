package machine

import (
	"os"
	"path/filepath"
	"testing"
)

// The memory that a control group leaves is the smallest of all above it, in
// both versions of control groups. A group that is not there has no limit.
func TestGroups(t *testing.T) {
	for _, h := range hierarchies {
		h.root = t.TempDir()
		for name, text := range map[string]string{
			h.limit: "max\n", "a/" + h.limit: "1000\n", "a/" + h.used: "900\n", "a/memory.stat": "anon 1\n" + h.cache + "50\n",
			"a/b/" + h.limit: "5000\n", "a/b/" + h.used: "100\n",
		} {
			path := filepath.Join(h.root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if room, limit := h.room("/a/b/c"), h.bound("/a/b"); room != 150 || limit != 1000 {
			t.Errorf("%s: room %d and limit %d, want 150 and 1000", h.limit, room, limit)
		}
	}
}

// Our group stands behind a number and the controllers it is for.
func TestOurGroup(t *testing.T) {
	const list = "9:name=systemd:/\n4:cpu,memory:/shop/7\n0::/all:of/it\n"
	if one, old := hierarchies[0].groupIn(list), hierarchies[1].groupIn(list); one != "/all:of/it" || old != "/shop/7" {
		t.Errorf("found %q and %q", one, old)
	}
	if got := hierarchies[1].groupIn("0::/x\n"); got != "/" {
		t.Errorf("of no such controller: %q", got)
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

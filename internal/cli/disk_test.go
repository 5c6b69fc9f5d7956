package cli

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mneme/internal/cli/value"
	"mneme/internal/kv"
)

func TestDiskBounds(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		disk, minFree string
		total         int64
		want          diskBounds
		err           string
	}{
		{"", "", 100 * gib, diskBounds{0, gib}, ""},
		{"", "", 10 * gib, diskBounds{0, gib / 2}, ""},
		{"4GiB", "2GiB", 10 * gib, diskBounds{4 * gib, 2 * gib}, ""},
		{"50%", "10%", 10 * gib, diskBounds{4 * gib, gib}, ""}, // 8 GiB are free
		{"11GiB", "", 10 * gib, diskBounds{}, "--kv-disk 11GiB: must be at most 10.0 GiB, the size of the disk"},
		{"", "11GiB", 10 * gib, diskBounds{}, "--min-free 11GiB: must be at most 10.0 GiB, the size of the disk"},
	} {
		var s Settings
		for text, size := range map[string]*value.Size{c.disk: &s.KVDisk, c.minFree: &s.MinFree} {
			if text == "" {
				continue
			}
			if err := size.Set(text); err != nil {
				t.Fatal(err)
			}
		}
		got, err := diskBoundsOf(s, c.total, 8*gib)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("--kv-disk %s --min-free %s on %d: %+v (%v), want %+v (%s)", c.disk, c.minFree, c.total, got, err, c.want, c.err)
		}
	}
}

// The bounds reach the store: above the budget it says so, and what would leave
// too little free is refused.
func TestDiskBoundsReachTheStore(t *testing.T) {
	s := newStage(t)
	settings := Settings{
		Model: tinyModel(t), DataDir: s.home, KVFormat: kv.FormatQ4, KVMemory: value.Size{Bytes: 64 << 20}, Threads: 1,
		KVDisk: value.Size{Bytes: 1}, MinFree: value.Size{Bytes: 1},
	}
	rooms, err := Open(t.Context(), settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer rooms.Close()
	c, err := newConversation(s.World, rooms.Engine, "ada", filepath.Join(s.home, "terminal.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.answer(t.Context(), "hello", make(chan os.Signal)); err != nil {
		t.Fatal(err)
	}
	if stats := rooms.Store.Stats(); stats.OverBudget != stats.SegmentBytes-1 || stats.SegmentBytes == 0 {
		t.Errorf("with a budget of one byte: %+v", stats)
	}

	p := startServe(t, settings.Model, t.TempDir(), "MNEME_MIN_FREE=100%")
	status, said := request(t, http.MethodPost, p.url()+"/v1/agents", `{"id":"ada"}`)
	if status != http.StatusInsufficientStorage || !strings.Contains(said, `"code":"no_space"`) {
		t.Errorf("on a disk that is to stay empty: %d %s", status, said)
	}
}

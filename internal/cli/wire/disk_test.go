package wire

import (
	"strings"
	"testing"

	"mneme/internal/cli/value"
)

func TestDiskBounds(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		disk, minFree string
		total         int64
		want          DiskBounds
		err           string
	}{
		{"", "", 100 * gib, DiskBounds{0, gib}, ""},
		{"", "", 10 * gib, DiskBounds{0, gib / 2}, ""},
		{"4GiB", "2GiB", 10 * gib, DiskBounds{4 * gib, 2 * gib}, ""},
		{"50%", "10%", 10 * gib, DiskBounds{4 * gib, gib}, ""}, // 8 GiB are free
		{"11GiB", "", 10 * gib, DiskBounds{}, "--kv-disk 11GiB: must be at most 10.0 GiB, the size of the disk"},
		{"", "11GiB", 10 * gib, DiskBounds{}, "--min-free 11GiB: must be at most 10.0 GiB, the size of the disk"},
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
		got, err := boundsWithin(s, c.total, 8*gib)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("--kv-disk %s --min-free %s on %d: %+v (%v), want %+v (%s)", c.disk, c.minFree, c.total, got, err, c.want, c.err)
		}
	}
}

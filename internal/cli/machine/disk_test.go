package machine

import (
	"path/filepath"
	"testing"
)

// A folder that is not there yet is on the disk of the one that will hold it.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	total, free, err := Disk(dir)
	if err != nil || free <= 0 || total < free {
		t.Errorf("%d of %d bytes are free (%v)", free, total, err)
	}
	if later, _, err := Disk(filepath.Join(dir, "not", "yet")); err != nil || later != total {
		t.Errorf("below it the disk has %d bytes (%v), want %d", later, err, total)
	}
	if _, _, err := Disk(string([]byte{'a', 0})); err == nil {
		t.Error("a name with a zero byte is on a disk")
	}
}

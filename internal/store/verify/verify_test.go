package verify

import (
	"errors"
	"fmt"
	"testing"

	"mneme/internal/vfs"
)

// A folder in use is left alone; one without a lock file gets none from a check.
func TestFolderInUse(t *testing.T) {
	fsys := vfs.NewCrashable()
	if err := vfs.MkdirDurable(fsys, "/data"); err != nil {
		t.Fatal(err)
	}
	var found []Finding
	if err := Folder(fsys, "/data", false, func(f Finding) { found = append(found, f) }); err != nil || len(found) != 0 {
		t.Errorf("empty folder: %v, %v", found, err)
	}
	infos, err := fsys.ReadDir("/data")
	if err != nil || len(infos) != 0 {
		t.Errorf("a check has left %v, %v", infos, err)
	}
	held, err := fsys.Lock("/data/lock")
	if err != nil {
		t.Fatal(err)
	}
	for _, repair := range []bool{false, true} {
		if err := Folder(fsys, "/data", repair, nil); !errors.Is(err, ErrInUse) || err.Error() != fmt.Sprintf("/data: %v", ErrInUse) {
			t.Errorf("repair %v: %v", repair, err)
		}
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Folder(fsys, "/data", true, nil); err != nil || fsys.Handles() != 0 {
		t.Errorf("afterwards: %v, %d handles", err, fsys.Handles())
	}
}

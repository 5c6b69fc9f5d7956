package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

// Inspect reads the files in a folder of keys, which needs no master key, and
// tells say what is wrong with each. With repair a file is written anew of which
// one copy is whole. The error is the disk's; a folder that is not there is none.
func Inspect(fsys vfs.FS, dir string, repair bool, say func(path, reason string, repaired bool)) error {
	infos, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, info := range infos {
		if !isKey(info.Name) {
			continue
		}
		path := filepath.Join(dir, info.Name)
		damage, mended, mendErr := inspect(fsys, path, repair)
		if damage != nil {
			say(path, damage.Reason, mended)
		}
		err = errors.Join(err, mendErr)
	}
	return err
}

func isKey(name string) bool {
	_, ok := digestIn(name)
	return ok || name == masterName
}

// inspect says what is wrong with one file, nil if nothing is, and mends it if
// that is wanted and possible.
func inspect(fsys vfs.FS, path string, mend bool) (damage *format.DamagedError, mended bool, err error) {
	file, err := vfs.ReadFile(fsys, path)
	if err != nil {
		return nil, false, err
	}
	whole := copies(file)
	if len(whole) == 0 {
		return &format.DamagedError{Where: path, Reason: errTorn.Error()}, false, nil
	}
	want := twice(whole[0])
	if bytes.Equal(file, want) {
		return nil, false, nil
	}
	if mend {
		err = vfs.WriteFile(fsys, path, want)
	}
	if err != nil {
		err = fmt.Errorf("mend %s: %w", path, err)
	}
	return &format.DamagedError{Where: path, Reason: "its two copies are not both whole and equal"}, mend && err == nil, err
}

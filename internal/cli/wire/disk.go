package wire

import (
	"mneme/internal/cli/machine"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
)

// usualMinFree is left free on a disk that is large enough for it.
const usualMinFree = 1 << 30

// DiskBounds are what the store may take and must leave, in bytes; 0 is no bound.
type DiskBounds struct{ Budget, MinFree int64 }

// DiskBoundsOf asks the disk of the data folder what the flags come to.
func DiskBoundsOf(s Settings) (DiskBounds, error) {
	total, free, err := machine.Disk(s.DataDir)
	if err != nil {
		return DiskBounds{}, err
	}
	return boundsWithin(s, total, free)
}

// boundsWithin: shares of the budget are of what is free, those of what is left
// are of the disk; without --min-free that is a twentieth, or 1 GiB if that is less.
func boundsWithin(s Settings, totalBytes, freeBytes int64) (b DiskBounds, err error) {
	for flag, asked := range map[string]value.Size{"kv-disk": s.KVDisk, "min-free": s.MinFree} {
		if asked.Bytes > totalBytes {
			return b, usage.Errorf("--%s %s: must be at most %s, the size of the disk", flag, asked.String(), value.Bytes(totalBytes))
		}
	}
	b.Budget, b.MinFree = s.KVDisk.Of(freeBytes), s.MinFree.Of(totalBytes)
	if !s.MinFree.Given() {
		b.MinFree = min(usualMinFree, totalBytes/20)
	}
	return b, nil
}

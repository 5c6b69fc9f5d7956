package cli

import (
	"mneme/internal/cli/machine"
	"mneme/internal/cli/value"
)

// usualMinFree is left free on a disk that is large enough for it.
const usualMinFree = 1 << 30

// diskBounds are what the store may take and must leave, in bytes; 0 is no bound.
type diskBounds struct{ budget, minFree int64 }

// boundsOfDisk asks the disk of the data folder what the flags come to.
func boundsOfDisk(s Settings) (diskBounds, error) {
	total, free, err := machine.Disk(s.DataDir)
	if err != nil {
		return diskBounds{}, err
	}
	return diskBoundsOf(s, total, free)
}

// diskBoundsOf: shares of the budget are of what is free, those of what is left
// are of the disk; without --min-free that is a twentieth, or 1 GiB if that is less.
func diskBoundsOf(s Settings, totalBytes, freeBytes int64) (b diskBounds, err error) {
	for flag, asked := range map[string]value.Size{"kv-disk": s.KVDisk, "min-free": s.MinFree} {
		if asked.Bytes > totalBytes {
			return b, usagef("--%s %s: must be at most %s, the size of the disk", flag, asked.String(), value.Bytes(totalBytes))
		}
	}
	b.budget, b.minFree = s.KVDisk.Of(freeBytes), s.MinFree.Of(totalBytes)
	if !s.MinFree.Given() {
		b.minFree = min(usualMinFree, totalBytes/20)
	}
	return b, nil
}

package machine

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// FreeMemory is what this process may still take, in bytes: what the system
// has available, or less where a control group says so.
func FreeMemory() (int64, error) {
	free, err := systemMemory("MemAvailable")
	if err != nil {
		return 0, err
	}
	return min(free, groupRoom()), nil
}

// TotalMemory is what this process could take if nothing else ran, in bytes:
// the machine's memory, or less where a control group says so.
func TotalMemory() (int64, error) {
	total, err := systemMemory("MemTotal")
	if err != nil {
		return 0, err
	}
	return min(total, groupLimit()), nil
}

func systemMemory(name string) (int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return memInfo(data, name)
}

// memInfo finds a line of /proc/meminfo, in bytes.
func memInfo(meminfo []byte, name string) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		found, rest, _ := strings.Cut(lines.Text(), ":")
		if found != name {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("no %s in /proc/meminfo", name)
}

// hierarchy is where control groups of a version say what memory they have.
type hierarchy struct {
	controller string // of its line in /proc/self/cgroup
	root       string
	limit      string // a file of every group, as are:
	used       string
	cache      string // a line of memory.stat: file cache that goes when asked
}

// hierarchies are the unified one and the older one of memory alone.
var hierarchies = []hierarchy{
	{"", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "},
	{"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "},
}

// groupRoom is the smallest room that a control group of ours has left, or one
// above it.
func groupRoom() int64 { return leastOfAll(hierarchy.room) }

// groupLimit is the smallest limit of those groups.
func groupLimit() int64 { return leastOfAll(hierarchy.bound) }

func leastOfAll(of func(h hierarchy, group string) int64) int64 {
	list, _ := os.ReadFile("/proc/self/cgroup")
	least := int64(math.MaxInt64)
	for _, h := range hierarchies {
		least = min(least, of(h, h.groupIn(string(list))))
	}
	return least
}

// groupIn finds our group in a list as /proc/self/cgroup has it, "/" when unknown.
func (h hierarchy) groupIn(list string) string {
	for line := range strings.Lines(list) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) == 3 && slices.Contains(strings.Split(part[1], ","), h.controller) {
			return part[2]
		}
	}
	return "/"
}

// room is the smallest limit less what is used of the group and those above it,
// but counting as free what a group holds as file cache.
func (h hierarchy) room(group string) int64 {
	return h.least(group, func(dir string, limit int64) int64 {
		used, _ := readNumber(filepath.Join(dir, h.used))
		return max(0, limit-used+h.fileCache(filepath.Join(dir, "memory.stat")))
	})
}

// bound is the smallest limit of the group and those above it.
func (h hierarchy) bound(group string) int64 {
	return h.least(group, func(_ string, limit int64) int64 { return limit })
}

// least is the smallest of what room says about a group's folder and limit, from
// group up to the root; groups without a limit do not count.
func (h hierarchy) least(group string, room func(dir string, limit int64) int64) int64 {
	least := int64(math.MaxInt64)
	for at := filepath.Clean("/" + group); ; at = filepath.Dir(at) {
		dir := filepath.Join(h.root, at)
		if limit, err := readNumber(filepath.Join(dir, h.limit)); err == nil {
			least = min(least, room(dir, limit))
		}
		if at == "/" {
			return least
		}
	}
}

func readNumber(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// fileCache is the clean file cache of a group, which it gives up when asked.
func (h hierarchy) fileCache(stat string) int64 {
	data, _ := os.ReadFile(stat)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, h.cache); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}

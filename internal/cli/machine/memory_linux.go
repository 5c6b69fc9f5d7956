package machine

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
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
	return min(free, groupRoom("/sys/fs/cgroup", groupOfProcess())), nil
}

// TotalMemory is what this process could take if nothing else ran, in bytes:
// the machine's memory, or less where a control group says so.
func TotalMemory() (int64, error) {
	total, err := systemMemory("MemTotal")
	if err != nil {
		return 0, err
	}
	return min(total, groupLimit("/sys/fs/cgroup", groupOfProcess())), nil
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

// groupOfProcess is the path of our unified control group, "/" when unknown.
func groupOfProcess() string {
	data, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return "/"
}

// groupRoom is the smallest memory.max - memory.current of the group and those
// above it, but counting as free what a group holds as file cache.
func groupRoom(root, group string) int64 {
	return leastOfGroups(root, group, func(dir string, limit int64) int64 {
		used, _ := readNumber(filepath.Join(dir, "memory.current"))
		return max(0, limit-used+fileCache(filepath.Join(dir, "memory.stat")))
	})
}

// groupLimit is the smallest memory.max of the group and those above it.
func groupLimit(root, group string) int64 {
	return leastOfGroups(root, group, func(_ string, limit int64) int64 { return limit })
}

// leastOfGroups is the smallest of what room says about a group's folder and
// limit, from group up to root; groups without a limit do not count.
func leastOfGroups(root, group string, room func(dir string, limit int64) int64) int64 {
	least := int64(math.MaxInt64)
	for at := filepath.Clean("/" + group); ; at = filepath.Dir(at) {
		dir := filepath.Join(root, at)
		if limit, err := readNumber(filepath.Join(dir, "memory.max")); err == nil {
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
func fileCache(stat string) int64 {
	data, _ := os.ReadFile(stat)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "inactive_file "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}

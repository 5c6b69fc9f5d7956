package cli

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

// freeMemory is what this process may still take, in bytes: what the system
// has available, or less where a control group says so.
func freeMemory() (int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	free, err := available(data)
	if err != nil {
		return 0, err
	}
	return min(free, groupRoom("/sys/fs/cgroup", groupOfProcess())), nil
}

// available finds MemAvailable in /proc/meminfo, in bytes.
func available(meminfo []byte) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if name != "MemAvailable" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("no MemAvailable in /proc/meminfo")
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
	room := int64(math.MaxInt64)
	for dir := filepath.Clean("/" + group); ; dir = filepath.Dir(dir) {
		limit, err := readNumber(filepath.Join(root, dir, "memory.max"))
		if err == nil {
			used, _ := readNumber(filepath.Join(root, dir, "memory.current"))
			room = min(room, max(0, limit-used+fileCache(filepath.Join(root, dir, "memory.stat"))))
		}
		if dir == "/" {
			return room
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

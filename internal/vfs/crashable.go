package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ErrCrashed is what every operation on a Crashable, and on its open files,
// returns after Crash.
var ErrCrashed = errors.New("file system crashed")

// Crashable is a file system in memory that remembers what has been synced.
//   - A file's bytes are durable after its Sync, a name after SyncDir of its folder.
//   - Crash keeps what is durable; of the rest it keeps any part: each write
//     whole, torn or not at all, each change of a name done or not.
//   - A rename is one change: never half done.
type Crashable struct {
	mu      sync.Mutex
	root    *node
	changes []change // of names, not yet durable, in order
	locks   map[string]bool
	handles int
	process int // how many were killed
	crashed bool
}

// node is a file or a folder.
type node struct {
	dir           bool
	live, durable map[string]*node // a folder's names
	data, synced  []byte           // a file's bytes
	writes        []memWrite       // since the last sync, in order
}

type memWrite struct {
	at       int64
	data     []byte
	truncate bool // to at
}

// change is one change of names: put node under name in to, take name out of
// from. A create or link has no from, a remove no to.
type change struct {
	from, to         *node
	fromName, toName string
	node             *node
}

// NewCrashable is an empty file system with the folder "/".
func NewCrashable() *Crashable {
	return &Crashable{root: newFolder(), locks: map[string]bool{}}
}

func newFolder() *node {
	return &node{dir: true, live: map[string]*node{}, durable: map[string]*node{}}
}

// Handles is the number of files and locks that are open.
func (c *Crashable) Handles() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.handles
}

// Kill is the end of the process: its open files and locks are gone, what it
// wrote is there, synced or not.
func (c *Crashable) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process++
	c.handles = 0
	clear(c.locks)
}

// Crash is the loss of power: this file system and its files are dead, and what
// a machine could find afterwards is returned. rng decides what of the unsynced
// survives.
func (c *Crashable) Crash(rng *rand.Rand) *Crashable {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crashed = true
	for _, ch := range c.changes {
		if rng.IntN(2) == 0 {
			ch.makeDurable()
		}
	}
	after := NewCrashable()
	after.root = c.root.survivor(rng, map[*node]*node{})
	return after
}

func (ch change) makeDurable() {
	if ch.from != nil && ch.from.durable[ch.fromName] == ch.node {
		delete(ch.from.durable, ch.fromName)
	}
	if ch.to != nil {
		ch.to.durable[ch.toName] = ch.node
	}
}

// survivor copies what of the tree is found after the crash. Names are visited
// in order, so that a seed always gives the same result.
func (n *node) survivor(rng *rand.Rand, seen map[*node]*node) *node {
	if s, ok := seen[n]; ok {
		return s
	}
	if !n.dir {
		data := n.survivingBytes(rng)
		seen[n] = &node{data: data, synced: slices.Clone(data)}
		return seen[n]
	}
	s := newFolder()
	seen[n] = s
	for _, name := range sortedNames(n.durable) {
		child := n.durable[name].survivor(rng, seen)
		s.live[name], s.durable[name] = child, child
	}
	return s
}

func (n *node) survivingBytes(rng *rand.Rand) []byte {
	data := slices.Clone(n.synced)
	for _, w := range n.writes {
		switch rng.IntN(4) {
		case 0: // lost
		case 1: // torn
			if !w.truncate {
				w.data = w.data[:rng.IntN(len(w.data)+1)]
				data = w.apply(data)
			}
		case 2: // the length arrived, the bytes did not
			if end := w.at + int64(len(w.data)); !w.truncate && end > int64(len(data)) {
				data = append(data, make([]byte, end-int64(len(data)))...)
			}
		default:
			data = w.apply(data)
		}
	}
	return data
}

func (w memWrite) apply(data []byte) []byte {
	end := w.at + int64(len(w.data))
	if short := end - int64(len(data)); short > 0 {
		data = append(data, make([]byte, short)...)
	}
	if w.truncate {
		return data[:w.at]
	}
	copy(data[w.at:], w.data)
	return data
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// find walks to a node; nil if there is none.
func (c *Crashable) findLocked(path string) *node {
	n := c.root
	for _, part := range strings.Split(filepath.Clean("/"+path), "/") {
		if part == "" {
			continue
		}
		if n == nil || !n.dir {
			return nil
		}
		n = n.live[part]
	}
	return n
}

// placeLocked is the folder of path and the name in it.
func (c *Crashable) placeLocked(op, path string) (*node, string, error) {
	if c.crashed {
		return nil, "", ErrCrashed
	}
	path = filepath.Clean("/" + path)
	dir := c.findLocked(filepath.Dir(path))
	if dir == nil || !dir.dir {
		return nil, "", pathError(op, path, fs.ErrNotExist)
	}
	return dir, filepath.Base(path), nil
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// doLocked makes a change visible and remembers it until its folder is synced.
func (c *Crashable) doLocked(ch change) {
	if ch.from != nil {
		delete(ch.from.live, ch.fromName)
	}
	if ch.to != nil {
		ch.to.live[ch.toName] = ch.node
	}
	c.changes = append(c.changes, ch)
}

// OpenFile is as in os, for regular files.
func (c *Crashable) OpenFile(name string, flag int, _ fs.FileMode) (File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir, base, err := c.placeLocked("open", name)
	if err != nil {
		return nil, err
	}
	n := dir.live[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n == nil:
		n = &node{}
		c.doLocked(change{to: dir, toName: base, node: n})
	case flag&os.O_EXCL != 0 && flag&os.O_CREATE != 0:
		return nil, pathError("open", name, fs.ErrExist)
	case n.dir:
		return nil, pathError("open", name, errors.New("is a directory"))
	case flag&os.O_TRUNC != 0:
		n.write(memWrite{truncate: true})
	}
	c.handles++
	return &memFile{fs: c, process: c.process, node: n, name: name, readOnly: flag&(os.O_WRONLY|os.O_RDWR) == 0}, nil
}

// MkdirAll makes the missing folders of a path.
func (c *Crashable) MkdirAll(path string, _ fs.FileMode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.crashed {
		return ErrCrashed
	}
	n := c.root
	for _, part := range strings.Split(filepath.Clean("/"+path), "/") {
		if part == "" {
			continue
		}
		if n.live[part] == nil {
			c.doLocked(change{to: n, toName: part, node: newFolder()})
		}
		if n = n.live[part]; !n.dir {
			return pathError("mkdir", path, errors.New("not a directory"))
		}
	}
	return nil
}

// Rename moves a file or a folder; an existing file of the new name is replaced.
func (c *Crashable) Rename(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fromDir, fromName, err := c.placeLocked("rename", from)
	if err != nil {
		return err
	}
	toDir, toName, err := c.placeLocked("rename", to)
	if err != nil {
		return err
	}
	n := fromDir.live[fromName]
	if n == nil {
		return pathError("rename", from, fs.ErrNotExist)
	}
	if old := toDir.live[toName]; old != nil && old.dir {
		return pathError("rename", to, fs.ErrExist)
	}
	c.doLocked(change{from: fromDir, fromName: fromName, to: toDir, toName: toName, node: n})
	return nil
}

// Link gives a file a second name.
func (c *Crashable) Link(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fromDir, fromName, err := c.placeLocked("link", from)
	if err != nil {
		return err
	}
	toDir, toName, err := c.placeLocked("link", to)
	if err != nil {
		return err
	}
	n := fromDir.live[fromName]
	if n == nil || n.dir {
		return pathError("link", from, fs.ErrNotExist)
	}
	if toDir.live[toName] != nil {
		return pathError("link", to, fs.ErrExist)
	}
	c.doLocked(change{to: toDir, toName: toName, node: n})
	return nil
}

// Remove removes a file or an empty folder.
func (c *Crashable) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir, base, err := c.placeLocked("remove", name)
	if err != nil {
		return err
	}
	n := dir.live[base]
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if n.dir && len(n.live) > 0 {
		return pathError("remove", name, errors.New("directory not empty"))
	}
	c.doLocked(change{from: dir, fromName: base, node: n})
	return nil
}

// ReadDir lists a folder.
func (c *Crashable) ReadDir(name string) ([]Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.folderLocked("readdir", name)
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(n.live))
	for _, name := range sortedNames(n.live) {
		infos = append(infos, n.live[name].info(name))
	}
	return infos, nil
}

func (c *Crashable) folderLocked(op, name string) (*node, error) {
	if c.crashed {
		return nil, ErrCrashed
	}
	n := c.findLocked(name)
	if n == nil || !n.dir {
		return nil, pathError(op, name, fs.ErrNotExist)
	}
	return n, nil
}

func (n *node) info(name string) Info {
	return Info{Name: name, Size: int64(len(n.data)), Dir: n.dir}
}

// Stat describes a file or folder.
func (c *Crashable) Stat(name string) (Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.crashed {
		return Info{}, ErrCrashed
	}
	n := c.findLocked(name)
	if n == nil {
		return Info{}, pathError("stat", name, fs.ErrNotExist)
	}
	return n.info(filepath.Base(name)), nil
}

// SyncDir makes the changes of names in one folder durable.
func (c *Crashable) SyncDir(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.folderLocked("syncdir", name)
	if err != nil {
		return err
	}
	c.changes = slices.DeleteFunc(c.changes, func(ch change) bool {
		mine := ch.from == n || ch.to == n
		if mine {
			ch.makeDurable()
		}
		return mine
	})
	return nil
}

// Free is a terabyte.
func (c *Crashable) Free(name string) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.folderLocked("statfs", name)
	return 1 << 40, err
}

// Lock is held until closed or crashed.
func (c *Crashable) Lock(name string) (io.Closer, error) {
	file, err := c.OpenFile(name, os.O_RDWR|os.O_CREATE, 0)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.locks[name] {
		c.handles--
		return nil, fmt.Errorf("%s: %w", name, ErrLocked)
	}
	c.locks[name] = true
	return &memLock{memFile: file.(*memFile)}, nil
}

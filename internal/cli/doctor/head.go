package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/gguf"
	"mneme/internal/hub"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/tensor/tile"
)

// head is what the beginning of a model's file says.
type head struct {
	path        string
	config      model.Config
	fileBytes   int64
	weightBytes int64 // in memory
}

func (h head) introduce() verdict {
	return verdict{good, fmt.Sprintf("%s: %s, %d layers, context %d", h.path, h.config.Arch, h.config.Layers, h.config.Context)}
}

// spec is the geometry of the model's KV in a format.
func (h head) spec(format kv.Format) kv.Spec { return (&model.Model{Config: h.config}).Spec(format) }

// find is the model as it lies here; without a path it has to be fetched first.
func (d Doctor) find(ctx context.Context) (hub.Model, error) {
	name, dir := d.Settings.Model, d.Settings.ModelsDir
	here, err := hub.List(dir)
	if err != nil {
		return hub.Model{}, err
	}
	for _, m := range here {
		if m.Alias == name {
			return m, nil
		}
	}
	if slices.ContainsFunc(hub.Aliases(), func(a hub.Alias) bool { return a.Name == name }) {
		return hub.Model{}, nil
	}
	return hub.Resolve(ctx, name, hub.Options{Dir: dir})
}

// open reads the head of a model's file.
func (d Doctor) open(found hub.Model) (h head, err error) {
	open := wire.OpenModel
	if d.LooksInside { // without a look at every byte
		open = func(m hub.Model) (*gguf.File, error) { return gguf.Open(m.Path) }
	}
	file, err := open(found)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	h = head{path: found.Path, fileBytes: found.SizeBytes}
	if h.config, err = model.ReadConfig(file); err == nil {
		h.weightBytes, err = weightBytes(file)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", found.Path, err)
	}
	return h, err
}

// weightBytes is what a file's weights take once they are in memory.
func weightBytes(f *gguf.File) (total int64, err error) {
	_, untied := f.Tensor("output.weight")
	for _, t := range f.Tensors() {
		n, err := tensorBytes(t, untied && t.Name == "token_embd.weight")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// tensorBytes: vectors are f32; matrices are repacked for the kernels in whole
// tiles of 16 rows, but an embedding that is only looked up stays as it is.
func tensorBytes(t gguf.Tensor, lookedUp bool) (int64, error) {
	kind, ok := tile.For(t.Format)
	switch {
	case !ok:
		return 0, fmt.Errorf("tensor %s has number format %s; the kernels take %s", t.Name, t.Format, tile.Formats())
	case len(t.Dims) == 1:
		return 4 * int64(t.RowLen()), nil
	case lookedUp:
		return int64(len(t.Data)), nil
	}
	return int64(up(t.Rows(), tile.Rows)) * int64(kind.PanelBytes(up(t.RowLen(), tile.Cols))), nil
}

// up is how many parts of a size n needs.
func up(n, size int) int { return (n + size - 1) / size }

// formats are those of KV, the smallest first.
var formats = []kv.Format{kv.FormatQ3, kv.FormatQ4, kv.FormatQ8, kv.FormatF16}

// holds says how many conversations fit in the memory for KV.
func (d Doctor) holds(h head, format kv.Format) verdict {
	spec := h.spec(format)
	b, err := wire.PoolBudget(d.Settings, spec, h.config.Context, wire.MemoryNow())
	switch {
	case err != nil:
		return verdict{bad, err.Error()}
	case b.Warning() != "":
		return verdict{warn, b.Warning()}
	}
	return verdict{good, fmt.Sprintf("%s hold %d agents of 4096 tokens or %d of 8192", value.Bytes(b.Bytes), b.Bytes/spec.TableBytes(4096), b.Bytes/spec.TableBytes(8192))}
}

// Package wire opens the rooms of one model and joins them: the file, the weights,
// the pool, the store, the engine. It decides how much memory and disk they get;
// which flags say what is cli's business, what they do then is theirs.
package wire

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"mneme/internal/chat"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
	"mneme/internal/engine"
	"mneme/internal/gguf"
	"mneme/internal/hub"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/store"
	"mneme/internal/store/keyring"
	"mneme/internal/tensor"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// Settings are what the rooms are opened with: flags, environment and
// configuration as plain values.
type Settings struct {
	Model     string // alias or path
	DataDir   string
	ModelsDir string
	KVFormat  kv.Format
	KVMemory  value.Size // not given: derived from free memory
	KVDisk    value.Size // not given: no bound
	MinFree   value.Size // of the disk; not given: see DiskBoundsOf
	Context   int        // tokens of a sequence; 0: the model's own
	MaxBatch  int        // turns that run at the same time
	StepSize  int        // tokens of a step
	Threads   int
	GapTarget time.Duration // between tokens of running turns; 0: no bound
	Restore   engine.RestoreMode
	AgentTTL  time.Duration // 0: agents stay until they are deleted
	KeyFile   string        // with the master key of the data folder; "" is plain
	Kernel    string        // "" is the best variant
	CrashAt   string        // a number of a changing file operation, before which the process kills itself; a hook for tests
	Progress  io.Writer
}

// Rooms are the opened rooms of one model, wired to each other.
type Rooms struct {
	Engine *engine.Engine
	Pool   *kv.Pool
	Store  *store.Store
	Model  *model.Model

	name  string         // of the model, to show
	close []func() error // what is open, in the order it was opened
}

// Open fetches and loads the model and opens the rooms around it. What was
// opened before a failure is closed again.
func Open(ctx context.Context, s Settings, log *slog.Logger) (*Rooms, error) {
	runtime.GOMAXPROCS(s.Threads + 2) // HTTP, SSE and disk never wait for a kernel
	r := &Rooms{}
	if err := r.open(ctx, s, log); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Rooms) open(ctx context.Context, s Settings, log *slog.Logger) error {
	kernels, err := tensor.Pick(s.Kernel)
	if err != nil {
		return usage.Errorf("MNEME_KERNEL: %w", err)
	}
	file, err := r.openFile(ctx, s)
	if err != nil {
		return err
	}
	r.close = append(r.close, file.Close)
	tokenizer, template, err := readText(file)
	if err != nil {
		return err
	}
	if r.Model, err = model.Load(file, kernels); err != nil {
		return err
	}
	r.close = append(r.close, r.Model.Close)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.openMemory(s, log); err != nil {
		return err
	}
	return r.openEngine(s, log, tokenizer, template)
}

// openFile finds the model's file, fetches it when it is an alias that is not
// here, and opens it.
func (r *Rooms) openFile(ctx context.Context, s Settings) (*gguf.File, error) {
	found, err := hub.Resolve(ctx, s.Model, hub.Options{Dir: s.ModelsDir, Progress: s.Progress})
	if err != nil {
		return nil, err
	}
	r.name = found.Name
	return OpenModel(found)
}

// OpenModel opens a model's file, or says that it is not the one that was
// fetched: bytes that flipped on the disk would be served as they are.
func OpenModel(found hub.Model) (*gguf.File, error) {
	file, err := gguf.Open(found.Path)
	if err != nil {
		return nil, cmp.Or(found.Verify(), err)
	}
	if err := found.CheckDigest(file.Digest()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// readText makes what turns messages into tokens and back. A base model has no
// template.
func readText(file *gguf.File) (*token.Tokenizer, *chat.Template, error) {
	vocab, err := token.FromMetadata(file)
	if err != nil {
		return nil, nil, err
	}
	tokenizer, err := token.New(vocab)
	if err != nil {
		return nil, nil, err
	}
	source, ok := file.String("tokenizer.chat_template")
	if !ok {
		arch, _ := file.String("general.architecture")
		if source, ok = chat.Builtin(builtinFor[arch]); !ok {
			return tokenizer, nil, nil
		}
	}
	template, err := chat.Compile(source, chat.Options{BOS: spelling(tokenizer, vocab.BOS), EOS: spelling(tokenizer, vocab.EOS), Now: time.Now})
	return tokenizer, template, err
}

// builtinFor names the template of files that bring none, by architecture.
var builtinFor = map[string]string{"gemma3": "gemma"}

func spelling(t *token.Tokenizer, id token.ID) string {
	if id < 0 {
		return ""
	}
	return string(t.Bytes(id))
}

// openMemory opens the two places where KV lives: the pool and the data folder.
func (r *Rooms) openMemory(s Settings, log *slog.Logger) error {
	spec := r.Model.Spec(s.KVFormat)
	budget, err := PoolBudget(s, spec, r.Model.Context, MemoryNow())
	if err != nil {
		return err
	}
	if text := budget.Warning(); text != "" {
		log.Warn(text)
	}
	if r.Pool, err = kv.NewPool(spec, budget.Bytes); err != nil {
		return usage.Errorf("--kv-memory: %w", err)
	}
	r.close = append(r.close, r.Pool.Close)
	files, err := fileSystem(s.CrashAt)
	if err != nil {
		return err
	}
	bounds, err := DiskBoundsOf(s)
	if err != nil {
		return err
	}
	ring, err := openRing(files, s)
	if err != nil {
		return err
	}
	r.Store, err = store.Open(store.Options{
		FS: files, Dir: s.DataDir, Log: log, BudgetBytes: bounds.Budget, MinFreeBytes: bounds.MinFree, Ring: ring,
		ModelFingerprint: r.Model.Fingerprint, KVFingerprint: r.Model.KVFingerprint(s.KVFormat),
	})
	if err != nil {
		return err
	}
	r.close = append(r.close, r.Store.Close)
	return nil
}

func (r *Rooms) openEngine(s Settings, log *slog.Logger, tokenizer *token.Tokenizer, template *chat.Template) (err error) {
	r.Engine, err = engine.New(engine.Config{
		Name: r.name, Model: r.Model, Tokenizer: tokenizer, Template: template, Pool: r.Pool, Store: r.Store,
		Context: s.Context, MaxBatch: s.MaxBatch, StepTokens: s.StepSize, Threads: s.Threads, Restore: s.Restore,
		GapTarget: s.GapTarget, AgentTTL: s.AgentTTL, Log: log,
	})
	if err == nil {
		r.close = append(r.close, r.Engine.Close)
	}
	return err
}

// openRing is the keys of an encrypted data folder, nil for a plain one.
func openRing(files vfs.FS, s Settings) (*keyring.Ring, error) {
	if s.KeyFile == "" {
		return nil, nil
	}
	master, err := keyring.ReadMaster(s.KeyFile)
	if err != nil {
		return nil, usage.Errorf("--kv-key-file: %w", err)
	}
	return keyring.Open(files, filepath.Join(s.DataDir, "keys"), master)
}

// fileSystem is the real one; with a number it kills the process, as a crash
// would, before the changing operation of that number.
func fileSystem(crashAt string) (vfs.FS, error) {
	if crashAt == "" {
		return vfs.Real(), nil
	}
	n, err := strconv.ParseInt(crashAt, 10, 64)
	if err != nil || n < 1 {
		return nil, usage.Errorf("MNEME_CRASH_AT: %q is no number of a file operation", crashAt)
	}
	return vfs.NewKilling(vfs.Real(), func(op vfs.Op) {
		if op.Change == n {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way; the operation must not happen
		}
	}), nil
}

// LogStart says once what runs here.
func (r *Rooms) LogStart(log *slog.Logger, url string) {
	info, pool := r.Engine.Info(), r.Pool.Stats()
	log.Info("serving",
		"url", url, "model", info.Model, "context", info.Context, "kernel", info.Kernel, "numerics_class", info.NumericsClass,
		"weight_bytes", r.Model.WeightBytes(), "kv_format", info.KVFormat, "kv_bytes", pool.TotalBytes,
		"kv_tokens", pool.TotalBytes/int64(max(1, info.KVBytesPerToken)), "agents", r.Store.Stats().Agents)
}

// Close closes everything, the last opened first.
func (r *Rooms) Close() error {
	var errs []error
	for _, f := range slices.Backward(r.close) {
		errs = append(errs, f())
	}
	r.close = nil
	return errors.Join(errs...)
}

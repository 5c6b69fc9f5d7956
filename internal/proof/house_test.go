package proof

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mneme/internal/engine"
	"mneme/internal/gguf"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/model/modeltest"
	"mneme/internal/sample"
	"mneme/internal/store"
	"mneme/internal/store/keyring"
	"mneme/internal/tensor"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock"))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const (
	dataDir      = "/data"
	namespace    = "default"
	segmentBytes = 80 << 10 // a few frames
	poolBytes    = 4 << 20
	kvFormat     = kv.FormatQ4
)

// mind is the tiny model and its tokenizer, loaded once: weights are only read.
type mind struct {
	model *model.Model
	words *token.Tokenizer
}

var tiny = sync.OnceValue(func() mind {
	file, err := gguf.Parse(modeltest.File(1))
	if err == nil {
		var m mind
		if m, err = mindOf(file); err == nil {
			return m
		}
	}
	panic(err)
})

func mindOf(file *gguf.File) (mind, error) {
	kernels, err := tensor.Pick("")
	if err != nil {
		return mind{}, err
	}
	loaded, err := model.Load(file, kernels)
	if err != nil {
		return mind{}, err
	}
	vocabulary, err := token.FromMetadata(file)
	if err != nil {
		return mind{}, err
	}
	words, err := token.New(vocabulary)
	return mind{loaded, words}, err
}

var errInjected = errors.New("injected")

// cover is how frames lie on disk.
type cover string

const (
	plain     cover = "plain"
	encrypted cover = "encrypted"
)

// each runs a proof on both kinds of data folder.
func each(t *testing.T, proof func(*testing.T, cover)) {
	t.Helper()
	for _, c := range []cover{plain, encrypted} {
		t.Run(string(c), func(t *testing.T) { proof(t, c) })
	}
}

// ring is the keys of a data folder, nil for a plain one.
func (c cover) ring(fs vfs.FS, dir string) (*keyring.Ring, error) {
	if c == plain {
		return nil, nil
	}
	return keyring.Open(fs, filepath.Join(dir, "keys"), make([]byte, 32))
}

// house is an engine and its store in one data folder.
type house struct {
	*engine.Engine
	store *store.Store
	pool  *kv.Pool
	log   *logBook
}

// logBook keeps what was said at Warn and above.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}

// open opens a data folder of a file system and an engine on it, which write
// into a new log book.
func open(fs vfs.FS, c cover) (*house, error) { return openWith(fs, dataDir, c, &logBook{}) }

// openWith has the engine's settings changed by what may be given.
func openWith(fs vfs.FS, dir string, c cover, book *logBook, change ...func(*engine.Config)) (*house, error) {
	m, h := tiny(), &house{log: book}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ring, err := c.ring(fs, dir)
	if err != nil {
		return nil, err
	}
	h.store, err = store.Open(store.Options{
		FS: fs, Dir: dir, ModelFingerprint: m.model.Fingerprint, KVFingerprint: m.model.KVFingerprint(kvFormat),
		Ring: ring, SegmentBytes: segmentBytes, Log: log,
	})
	if err != nil {
		return nil, err
	}
	if h.pool, err = kv.NewPool(m.model.Spec(kvFormat), poolBytes); err != nil {
		return nil, errors.Join(err, h.store.Close())
	}
	config := engine.Config{
		Name: "tiny", Model: m.model, Tokenizer: m.words, Pool: h.pool, Store: h.store, Context: 1024,
		MaxBatch: 4, StepTokens: 256, Threads: 1, Restore: engine.RestoreAlways, Log: log,
	}
	for _, f := range change {
		f(&config)
	}
	if h.Engine, err = engine.New(config); err != nil {
		return nil, errors.Join(err, h.store.Close(), h.pool.Close())
	}
	return h, nil
}

func mustOpen(t testing.TB, fs vfs.FS, c cover) *house {
	t.Helper()
	h, err := open(fs, c)
	must(t, err)
	return h
}

// close ends the house and says what is not as it should be: blocks that
// nobody holds and are not free. What its files say is left to the caller.
func (h *house) close() error {
	errs := []error{h.Engine.Close(), h.store.Close(), h.pool.Check()}
	for _, c := range h.pool.Stats().Classes {
		if n := c.Reserved + c.Held; n != 0 {
			errs = append(errs, fmt.Errorf("%d blocks of %s held by nobody", n, c.Form))
		}
	}
	if n := h.Engine.Stats().Surplus; n != 0 {
		errs = append(errs, fmt.Errorf("%d sequences ended that did not run", n))
	}
	return errors.Join(append(errs, h.pool.Close())...)
}

// answer is all of a turn that must not depend on what happened to the disk.
type answer struct {
	ids      []token.ID
	logprobs []float64
}

func (a answer) same(b answer) bool {
	return slices.Equal(a.ids, b.ids) && slices.EqualFunc(a.logprobs, b.logprobs, func(x, y float64) bool {
		return math.Float64bits(x) == math.Float64bits(y)
	})
}

func (a answer) String() string { return fmt.Sprintf("%v %.17g", a.ids, a.logprobs) }

const answerTokens = 14

// ask runs an agent's turn over the whole prompt; "" is nobody. A turn that was
// answered and could not be stored has an error in done.PublishErr only.
func (h *house) ask(ns engine.Namespace, id engine.AgentID, prompt []token.ID) (a answer, done engine.Completed, err error) {
	p := sample.Defaults()
	p.Temperature, p.Seed, p.Logprobs = 0.7, 42, 0
	s, err := h.Submit(context.Background(), engine.Request{
		Agent: id, Namespace: ns, Tokens: prompt, MaxTokens: answerTokens, Sampling: p, IgnoreEOS: true,
	})
	if err != nil {
		return answer{}, done, err
	}
	for {
		out, ok := s.Next(context.Background())
		if !ok {
			break
		}
		a.ids, a.logprobs = append(a.ids, out.ID), append(a.logprobs, out.Logprob)
	}
	done, err = s.Result()
	return a, done, err
}

// words are n tokens nobody else says.
func words(n, seed int) []token.ID {
	out := make([]token.ID, n)
	for i := range out {
		out[i] = token.ID(32 + (i*7+i*i*seed+seed)%90)
	}
	return out
}

func join(parts ...[]token.ID) []token.ID { return slices.Concat(parts...) }

func rng(seed uint64, n int64) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }

// seedOf is the seed of a proof's tries.
func seedOf(t testing.TB) uint64 {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return seed
}

// filesOf lists the files under a folder that are not empty.
func filesOf(t testing.TB, fs vfs.FS, dir string) (paths []string) {
	t.Helper()
	infos, err := fs.ReadDir(dir)
	must(t, err)
	for _, info := range infos {
		path := filepath.Join(dir, info.Name)
		switch {
		case info.Dir:
			paths = append(paths, filesOf(t, fs, path)...)
		case info.Size > 0:
			paths = append(paths, path)
		}
	}
	return paths
}

// folder is the bytes of every file of a data folder, by path.
type folder map[string][]byte

func folderOf(t testing.TB, fs vfs.FS) folder {
	t.Helper()
	f := folder{}
	for _, path := range filesOf(t, fs, dataDir) {
		data, err := vfs.ReadFile(fs, path)
		must(t, err)
		f[path] = data
	}
	return f
}

// disk is a new file system with these files; change may alter one of them.
func (f folder) disk(t testing.TB, changed string, change func([]byte)) *vfs.Crashable {
	t.Helper()
	fs := vfs.NewCrashable()
	for path, data := range f {
		if path == changed {
			data = slices.Clone(data)
			change(data)
		}
		must(t, vfs.MkdirDurable(fs, filepath.Dir(path)))
		must(t, vfs.WriteFile(fs, path, data))
	}
	return fs
}

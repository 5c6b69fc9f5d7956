package model_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mneme/internal/chat"
	"mneme/internal/gguf"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/model/modeltest"
	"mneme/internal/team"
	"mneme/internal/tensor"
	"mneme/internal/token"
)

// mutated is a model file whose header, everything before the tensors' bytes,
// can be spoiled and mended.
type mutated struct {
	data   []byte // of the whole file, of which nothing is written back
	header []byte // as it was
	keys   []string
	names  []string // of tensors
}

func newMutated(t testing.TB, data []byte) *mutated {
	t.Helper()
	f, err := gguf.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	m := &mutated{data: data, keys: f.Keys()}
	end := len(data)
	for _, x := range f.Tensors() {
		m.names, end = append(m.names, x.Name), min(end, x.Offset)
	}
	m.header = bytes.Clone(data[:end])
	return m
}

// mapPrivately maps a file whose bytes may be changed in memory.
func mapPrivately(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(data) })
	return data
}

// spoil changes a few bytes: of any place, of a key's value, or of a tensor's
// entry, and says which.
func (m *mutated) spoil(r *rand.Rand) string {
	at, what := r.IntN(len(m.header)), "anywhere"
	switch r.IntN(4) {
	case 0:
		key := m.keys[r.IntN(len(m.keys))]
		at, what = bytes.Index(m.header, []byte(key))+len(key)+r.IntN(16), key
	case 1, 2:
		name := m.names[r.IntN(len(m.names))]
		at, what = bytes.LastIndex(m.header, []byte(name))+len(name)+r.IntN(36), name
	}
	at = min(at, len(m.header)-8)
	switch r.IntN(4) {
	case 0:
		m.data[at] ^= 1 << r.IntN(8)
	case 1:
		m.data[at] = byte(r.IntN(256))
	case 2:
		values := []uint64{0, 1, 3, 127, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1}
		n := values[r.IntN(len(values))]
		if r.IntN(2) == 0 {
			binary.LittleEndian.PutUint64(m.data[at:], n)
		} else {
			binary.LittleEndian.PutUint32(m.data[at:], uint32(n))
		}
	default:
		n := min(1+r.IntN(64), len(m.header)-at)
		copy(m.data[at:at+n], m.header[r.IntN(len(m.header)-n):])
	}
	return fmt.Sprintf("byte %d (%s)", at, what)
}

func (m *mutated) mend() { copy(m.data, m.header) }

// read does what a server does with a file until it could answer; with weights
// it also loads them and runs eight tokens.
func read(data []byte, weights bool) error {
	f, err := gguf.Parse(data)
	if err != nil {
		return err
	}
	if _, err := model.ReadConfig(f); err != nil {
		return err
	}
	vocab, err := token.FromMetadata(f)
	if err != nil {
		return err
	}
	if _, err := token.New(vocab); err != nil {
		return err
	}
	if source, ok := f.String("tokenizer.chat_template"); ok {
		template, err := chat.Compile(source, chat.Options{})
		if err != nil {
			return err
		}
		if _, err := template.Render([]chat.Message{{Role: "user", Content: "Hello."}}, true); err != nil {
			return err
		}
	}
	if !weights {
		return nil
	}
	return loadAndRun(f)
}

func loadAndRun(f *gguf.File) error {
	m, err := model.Load(f, tensor.Variants()[0])
	if err != nil {
		return err
	}
	defer m.Close()
	pool, err := kv.NewPool(m.Spec(kv.FormatQ4), 256<<20)
	if err != nil {
		return err
	}
	defer pool.Close()
	team := team.New(1)
	defer team.Close()
	runner, err := m.NewRunner(pool, team, model.Limits{Rows: 8, Logits: 1, Context: 8})
	if err != nil {
		return err
	}
	defer runner.Close()
	stock, ok := pool.Allocate(pool.NeedFor(8, 8))
	if !ok {
		return fmt.Errorf("model: no room for 8 tokens")
	}
	g := kv.NewGrowing(pool, kv.Scope{}, stock)
	defer g.Drop()
	tokens := make([]token.ID, 8)
	for i := range tokens {
		tokens[i] = token.ID(i % m.Vocab)
	}
	runner.Run([]model.Span{{Tokens: tokens, KV: g, Slots: g.Plan(8), Logits: 1}})
	return nil
}

// clear says whether an error tells a reader where it comes from, in a few words.
func clearError(err error) bool {
	for _, room := range []string{"gguf: ", "model: ", "token: ", "chat: ", "kv"} {
		if strings.HasPrefix(err.Error(), room) {
			return len(err.Error()) < 1000
		}
	}
	return false
}

// TestMutatedHeaders spoils the headers of the real models: each time there is a
// clear error or a model that runs, in bounded memory, and never a crash. The
// weights are loaded of the smallest only, outside of the soak build.
func TestMutatedHeaders(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rounds := 33
	if soak {
		rounds = 334
	}
	for i, real := range realModels {
		t.Run(real.dir, func(t *testing.T) {
			m := newMutated(t, mapPrivately(t, real.path(t)))
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			runs := 0
			for n := range rounds {
				what := m.spoil(r)
				before := anonymous(t)
				err := read(m.data, soak || i == 0 && runs < 8)
				if grown := anonymous(t) - before; grown > 1<<30 {
					t.Errorf("%d, %s: memory grew by %d MiB (%v)", n, what, grown>>20, err)
				}
				if err == nil {
					runs++
				} else if !clearError(err) {
					t.Errorf("%d, %s: %v", n, what, err)
				}
				m.mend()
			}
			t.Logf("%d of %d are read", runs, rounds)
			if runs == 0 || runs == rounds {
				t.Errorf("%d of %d are read: mutations do not do what they are for", runs, rounds)
			}
		})
	}
}

// anonymous is the process's anonymous memory in bytes.
func anonymous(t testing.TB) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var kb int
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%d kB", &kb); err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// FuzzLoad spoils a small model of any family anywhere and loads and runs it.
func FuzzLoad(f *testing.F) {
	var files []*mutated
	for _, family := range model.Families() {
		files = append(files, newMutated(f, modeltest.Families()[family].File(1)))
	}
	f.Add(uint8(0), uint32(24), []byte{0xFF})
	f.Add(uint8(1), uint32(100), []byte{0, 0, 0, 0})
	f.Add(uint8(2), uint32(8), []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F})
	for i, m := range files {
		for _, key := range m.keys {
			f.Add(uint8(i), uint32(bytes.Index(m.header, []byte(key))+len(key)+4), []byte{0xFF, 0xFF})
		}
		for _, name := range m.names {
			f.Add(uint8(i), uint32(bytes.LastIndex(m.header, []byte(name))+len(name)+4), []byte{0, 1})
		}
	}
	f.Fuzz(func(t *testing.T, family uint8, at uint32, change []byte) {
		data := bytes.Clone(files[int(family)%len(files)].data)
		copy(data[int(at)%len(data):], change)
		if err := read(data, true); err != nil && !clearError(err) {
			t.Errorf("%v", err)
		}
	})
}

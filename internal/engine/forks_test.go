package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/model/modeltest"
	"mneme/internal/token"
)

// heapBytes are those of live objects.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// 1 % of what 3,000 tokens of SmolLM2 take in q4 (6,480 bytes each), by 100: what a
// fork may cost. The tiny model's KV is smaller, a fork's table is not.
const forkBytes = 3000 * 6480 / 100 / 100

// A hundred forks of a 3,000-token agent take no block and next to no memory,
// survive a restart, and each goes on as if it were alone.
func TestHundredForks(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	_, history := r.tell("ada", promptOf(2960, 3), 4)
	if err := r.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	used, heap, disk := r.pool.Stats().UsedBytes(), heapBytes(), r.store.Stats().AgentBytes
	name := func(i int) AgentID { return AgentID(fmt.Sprintf("fork-%d", i)) }
	for i := range 100 {
		info, err := r.Fork(context.Background(), "default", "ada", name(i), LastTurn)
		if err != nil || info.Tier != kv.TierHot || info.Tokens != len(history) || info.Parent != "ada" {
			t.Fatalf("fork %d: %+v, %v", i, info, err)
		}
	}
	if more := r.pool.Stats().UsedBytes() - used; more != 0 {
		t.Errorf("100 forks hold %d bytes of blocks more", more)
	}
	if each := (heapBytes() - heap) / 100; each > forkBytes {
		t.Errorf("a fork takes %d bytes of the heap, more than %d", each, forkBytes)
	} else {
		t.Logf("a fork takes %d bytes of the heap, %d of the disk", each, (r.store.Stats().AgentBytes-disk)/100)
	}
	goOn := func(i int) Request {
		return greedy(append(append([]token.ID(nil), history...), promptOf(5+i%60, 100+i)...), 4).as(name(i))
	}
	for i := range 50 {
		if got := r.ask(goOn(i)); got.start != StartHot || got.usage.Cached != len(history)-1 || got.turn != 2 {
			t.Errorf("fork %d: turn %d, start %s, cached %d of %d", i, got.turn, got.start, got.usage.Cached, len(history))
		}
	}
	r.stop()

	alone := newRig(t, rigOptions{})
	defer alone.stop()
	alone.tell("ada", promptOf(2960, 3), 4)
	r = newRig(t, rigOptions{dir: dir})
	defer r.stop()
	if n := len(r.Agents("default")); n != 101 {
		t.Errorf("%d agents after a restart", n)
	}
	for i := range 100 {
		info, err := r.Agent("default", name(i))
		want := 1
		if i < 50 {
			want = 2
		}
		if err != nil || info.Turns != want {
			t.Errorf("fork %d after a restart: %+v, %v", i, info, err)
		}
		if i%10 > 0 && i < 50 {
			continue // those that have gone on are asked again, one in ten
		}
		if i < 50 {
			if _, err := r.Rollback(context.Background(), "default", name(i), 1); err != nil {
				t.Fatal(err)
			}
		}
		got := r.ask(goOn(i))
		if i >= 50 && got.usage.Cached != len(history)-1 {
			t.Errorf("fork %d after a restart: cached %d of %d", i, got.usage.Cached, len(history))
		}
		if i%10 == 0 {
			if want := alone.ask(goOn(i).as("")); !got.same(want) {
				t.Errorf("fork %d: %v, alone %v", i, got, want)
			}
		}
	}
}

// Rolled back to any turn, hot or after a restart, an agent goes on as one that
// has never gone further, to the bit.
func TestRollbackIsAsIfNeverGoneFurther(t *testing.T) {
	const turns = 4
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	histories := [][]token.ID{nil}
	for i := range turns {
		_, history := r.tell("ada", histories[i], 3+i)
		histories = append(histories, history)
	}
	r.stop()
	for turn := range turns + 1 {
		never := newRig(t, rigOptions{})
		for i := range turn {
			never.tell("ada", histories[i], 3+i)
		}
		want, _ := never.tell("ada", histories[turn], 50)
		never.stop()
		back := newRig(t, rigOptions{dir: copyDir(t, dir)})
		if info, err := back.Rollback(context.Background(), "default", "ada", turn); err != nil || info.Turns != turn || info.Tokens != len(histories[turn]) {
			t.Fatalf("to turn %d: %+v, %v", turn, info, err)
		}
		got, _ := back.tell("ada", histories[turn], 50)
		if !got.same(want) || got.turn != want.turn {
			t.Errorf("from turn %d: turn %d, %v, never gone further: turn %d, %v", turn, got.turn, got, want.turn, want)
		}
		back.stop()
	}
}

// lines is a log that tests read.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// Another model of equal geometry, one weight's byte or the tokenizer changed,
// takes neither the agent nor its export, and says why; the agent is unharmed.
func TestOtherModelsAreRefused(t *testing.T) {
	weight, spelled := modeltest.File(1), modeltest.File(1)
	weight[len(weight)-1000] ^= 1
	copy(spelled[bytes.Index(spelled, []byte("<|endoftext|>")):], "<|endoftexu|>")
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	_, history := r.tell("ada", promptOf(80, 3), 5)
	var file bytes.Buffer
	if err := r.Export("default", "ada", true, &file); err != nil {
		t.Fatal(err)
	}
	ours := r.model.Fingerprint[:12]
	r.stop()
	for what, model := range map[string][]byte{"a weight": weight, "the tokenizer": spelled} {
		var log lines
		r := newRig(t, rigOptions{dir: dir, file: model, log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx := context.Background()
		_, turn := r.try(ctx, greedy(history, 5).as("ada"))
		_, fork := r.Fork(ctx, "default", "ada", "x", LastTurn)
		_, warm := r.Warm(ctx, "default", "ada")
		_, in := r.Import(ctx, "default", "x", bytes.NewReader(file.Bytes()), int64(file.Len()))
		for way, err := range map[string]error{"turn": turn, "fork": fork, "warm": warm, "import": in} {
			if !errors.Is(err, ErrOtherModel) || !strings.Contains(err.Error(), ours) || !strings.Contains(err.Error(), r.model.Fingerprint[:12]) {
				t.Errorf("%s changed, %s: %v", what, way, err)
			}
		}
		if got, want := r.Stats().Refused, (Refused{Agents: 3, Imports: 1}); got != want {
			t.Errorf("%s changed: refused %+v, want %+v", what, got, want)
		}
		if !log.has("agent refused") || !log.has("import refused") {
			t.Errorf("%s changed: the log does not say so: %s", what, log.text.String())
		}
		r.stop()
	}
	r = newRig(t, rigOptions{dir: dir})
	defer r.stop()
	if got, _ := r.tell("ada", history, 6); got.usage.Cached != len(history)-1 || got.turn != 2 {
		t.Errorf("ada afterwards: turn %d, cached %d of %d", got.turn, got.usage.Cached, len(history))
	}
}

// Under another KV format an agent, its fork and its export are what they were;
// their blocks are computed again, and that is said.
func TestOtherFormatIsComputedAgain(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir, format: kv.FormatQ8})
	_, history := r.tell("ada", promptOf(150, 3), 5)
	r.stop()
	var log lines
	r = newRig(t, rigOptions{dir: dir, format: kv.FormatQ4, log: slog.New(slog.NewTextHandler(&log, nil))})
	defer r.stop()
	ctx := context.Background()
	if info, err := r.Fork(ctx, "default", "ada", "bob", LastTurn); err != nil || info.Tokens != len(history) {
		t.Errorf("fork: %+v, %v", info, err)
	}
	var file bytes.Buffer
	if err := r.Export("default", "ada", true, &file); err != nil {
		t.Fatal(err)
	}
	if info, err := r.Import(ctx, "default", "eve", bytes.NewReader(file.Bytes()), int64(file.Len())); err != nil || info.Tokens != len(history) {
		t.Errorf("import: %+v, %v", info, err)
	}
	got, _ := r.tell("ada", history, 6)
	if got.usage.Cached != 0 || got.turn != 2 {
		t.Errorf("turn %d, cached %d tokens of another format", got.turn, got.usage.Cached)
	}
	if n, blocks := r.Stats().OtherFormat, int64(len(history)/kv.BlockTokens); n != blocks || !log.has("of another format") {
		t.Errorf("%d blocks counted as computed again, want %d; the log says %s", n, blocks, log.text.String())
	}
	for _, id := range []AgentID{"bob", "eve"} {
		if next, _ := r.tell(id, history, 6); !next.same(got) {
			t.Errorf("%s: %v, ada %v", id, next, got)
		}
	}
}

// An import takes no name that the API would not.
func TestImportChecksTheName(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	r.tell("ada", promptOf(80, 3), 5)
	var file bytes.Buffer
	if err := r.Export("default", "ada", true, &file); err != nil {
		t.Fatal(err)
	}
	var input *InputError
	for _, id := range []AgentID{"..", "a/b", "", AgentID(strings.Repeat("x", 257))} {
		in := bytes.NewReader(file.Bytes())
		if id == "" { // the name it had: one that a foreign program gave
			id = "a b"
			if _, err := r.CreateAgent("default", id); !errors.As(err, &input) {
				t.Errorf("create %q: %v", id, err)
			}
		}
		if _, err := r.Import(context.Background(), "default", id, in, in.Size()); !errors.As(err, &input) || input.Field != "id" {
			t.Errorf("import as %q: %v", id, err)
		}
	}
	if n := len(r.Agents("default")); n != 1 {
		t.Errorf("%d agents", n)
	}
}

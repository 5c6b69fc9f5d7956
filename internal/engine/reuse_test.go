package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mneme/internal/engine/reuse"
)

// Each way in which a prompt's KV is there, or is not, is told from the others.
func TestReuse(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	prompt := promptOf(200, 3)
	report := func(turn answer) reuse.Report {
		t.Helper()
		got, ok := r.Reuse("default", "ada", turn.turn)
		if !ok || got.Hot+got.Shared+got.Restored != turn.usage.Cached || got.Computed != turn.usage.Prompt-turn.usage.Cached {
			t.Fatalf("turn %d: %+v, its ledger %+v", turn.turn, got, turn.usage)
		}
		got.Known, got.Asked = "", ""
		return got
	}
	check := func(name string, turn answer, want reuse.Report) {
		t.Helper()
		want.Prompt, want.Computed = turn.usage.Prompt, turn.usage.Prompt-turn.usage.Cached
		if got := report(turn); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
	}
	first := r.ask(greedy(prompt, 5).as("ada"))
	check("first", first, reuse.Report{Cause: reuse.FirstTurn, Diverged: -1})

	next := append(slices.Clone(prompt), first.ids...)
	next = append(next, promptOf(90, 6)...)
	second := r.ask(greedy(next, 5).as("ada"))
	check("extended", second, reuse.Report{Hot: 204, Diverged: -1})

	edited := slices.Clone(next)
	edited[150] ^= 1
	third := r.ask(greedy(edited, 5).as("ada"))
	check("edited", third, reuse.Report{Hot: 128, Cause: reuse.Diverged, Diverged: 150, Offset: 150})
	if got, _ := r.Reuse("default", "ada", third.turn); got.Known == got.Asked || len(got.Known) < 20 || got.Known[:12] != got.Asked[:12] {
		t.Errorf("the text around it: %q, now %q", got.Known, got.Asked)
	}

	r.ask(greedy(append(slices.Clone(prompt[:128]), promptOf(100, 9)...), 70)) // of no agent
	shared := append(slices.Clone(prompt[:128]), promptOf(100, 9)...)
	fourth := r.ask(greedy(shared, 5).as("eve"))
	if got, _ := r.Reuse("default", "eve", fourth.turn); got.Shared != 192 || got.Hot != 0 || got.Cause != reuse.FirstTurn {
		t.Errorf("shared: %+v", got)
	}
	r.stop()

	r = newRig(t, rigOptions{dir: dir})
	after := append(append(slices.Clone(edited), third.ids...), promptOf(3, 2)...)
	fifth := r.ask(greedy(after, 5).as("ada"))
	check("restored", fifth, reuse.Report{Restored: 299, Diverged: -1})
	r.stop()

	for _, name := range segmentsOf(t, dir) { // all of the agent's blocks
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := 5000; i < len(data); i += 4096 {
			data[i] ^= 1
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r = newRig(t, rigOptions{dir: dir})
	defer r.stop()
	again := append(append(slices.Clone(after), fifth.ids...), promptOf(3, 1)...)
	sixth := r.ask(greedy(again, 5).as("ada"))
	if got := report(sixth); got.Cause != reuse.Quarantined && got.Cause != reuse.Evicted {
		t.Errorf("damaged: %+v", got)
	}
	if err := r.DeleteAgent("default", "ada"); err != nil {
		t.Error(err)
	}
	if _, ok := r.Reuse("default", "ada", sixth.turn); ok {
		t.Error("a deleted agent's reports are kept")
	}
}

func segmentsOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".seg") {
			names = append(names, path)
		}
		return err
	})
	if err != nil || names == nil {
		t.Fatal(names, err)
	}
	return names
}

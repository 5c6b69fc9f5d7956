package proof

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mneme/internal/engine"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

const cuts = 400

// Segments are cut short on the real disk under a running engine, again and
// again, the open one too. An agent that has left memory and comes back says what
// an uncached one says; what is gone is counted, computed and stored anew, and
// soon a turn has all that was said before.
func TestTruncationWhileServing(t *testing.T) { each(t, proveTruncation) }

func proveTruncation(t *testing.T, c cover) {
	seed := seedOf(t)
	r := rng(seed, 0)
	dir := t.TempDir()
	h, err := openWith(vfs.Real(), dir, c, &logBook{})
	must(t, err)
	histories := map[engine.AgentID][]token.ID{}
	short := 0
	say := func(id engine.AgentID, n int) (cached, formula int) {
		prompt := join(histories[id], words(n, r.IntN(1000)))
		a, done, err := h.ask(namespace, id, prompt)
		must(t, errors.Join(err, done.PublishErr))
		alone, _, err := h.ask("alone", "", prompt)
		if must(t, err); !alone.same(a) {
			t.Fatalf("seed %d: %s says %v, uncached %v", seed, id, a, alone)
		}
		formula = max(0, len(histories[id])-1)
		histories[id] = join(prompt, a.ids)
		return done.Usage.Cached, formula
	}
	names := []engine.AgentID{"ada", "bob", "eve"}
	for range max(1, cuts/share) {
		id := names[r.IntN(len(names))]
		if len(histories[id]) > 700 {
			must(t, h.DeleteAgent(namespace, id))
			delete(histories, id)
		}
		say(id, 20+r.IntN(60))
		must(t, h.store.Flush(context.Background()))
		cutSegment(t, dir, r.Float64(), r.IntN(1<<20))
		must(t, h.Evict(context.Background(), namespace, id))
		cached, formula := say(id, 5)
		if cached < formula {
			short++
			if h.store.Stats().Quarantined == 0 || len(h.store.Damaged()) == 0 || !strings.Contains(h.log.String(), "quarantined") {
				t.Errorf("seed %d: %s has %d tokens of %d cached, and nobody was told", seed, id, cached, formula)
			}
		}
		// A turn finds the damage up to where it began to compute: what lies behind is
		// read, and found, by the next one.
		for tries := 0; cached != formula; tries++ {
			must(t, h.Evict(context.Background(), namespace, id))
			if cached, formula = say(id, 5); cached != formula && tries == 2 {
				t.Errorf("seed %d: %s has %d tokens cached, want %d, after three turns", seed, id, cached, formula)
				break
			}
		}
	}
	lost := h.store.Stats().Quarantined
	must(t, h.close())
	h, err = openWith(vfs.Real(), dir, c, &logBook{})
	must(t, err)
	for id := range histories {
		say(id, 10)
	}
	must(t, h.close())
	t.Logf("%d segments cut under a running engine: no wrong token; %d blocks and tails found gone, %d turns computed again what they lacked", max(1, cuts/share), lost, short)
}

// cutSegment takes away the end of one of a folder's segments.
func cutSegment(t *testing.T, dir string, keep float64, which int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "kv", "*", "*.seg"))
	must(t, err)
	path := paths[which%len(paths)]
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, int64(keep*float64(info.Size()))))
}

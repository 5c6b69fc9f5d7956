package engine

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/model/modeltest"
	"mneme/internal/token"
)

// familyLengths go several windows far.
var familyLengths = []int{65, 129, 700}

// eachFamily runs a story on a small random model of every family but llama,
// which the other suites have, each with another KV format.
func eachFamily(t *testing.T, story func(t *testing.T, o rigOptions)) {
	formats := map[string]kv.Format{"qwen2": kv.FormatQ3, "qwen3": kv.FormatQ8, "gemma3": kv.FormatQ4}
	for _, family := range []string{"qwen2", "qwen3", "gemma3"} {
		t.Run(family, func(t *testing.T) { story(t, rigOptions{file: familyFile(family), format: formats[family]}) })
	}
}

var familyFiles sync.Map

func familyFile(family string) []byte {
	file, ok := familyFiles.Load(family)
	if !ok {
		file, _ = familyFiles.LoadOrStore(family, modeltest.Families()[family].File(1))
	}
	return file.([]byte)
}

// TestFamilyOneAnswer: every family gives one answer, however it came about;
// windows also under q3 and f16.
func TestFamilyOneAnswer(t *testing.T) {
	eachFamily(t, func(t *testing.T, o rigOptions) { oneAnswer(t, o, familyLengths) })
	for _, format := range []kv.Format{kv.FormatQ3, kv.FormatF16} {
		t.Run("gemma3/"+string(format), func(t *testing.T) {
			oneAnswer(t, rigOptions{file: familyFile("gemma3"), format: format}, familyLengths[1:])
		})
	}
	t.Run("llama/q3", func(t *testing.T) { oneAnswer(t, rigOptions{format: kv.FormatQ3}, familyLengths) })
	t.Run("gemma3/generic", func(t *testing.T) {
		oneAnswer(t, rigOptions{file: familyFile("gemma3"), kernel: "generic"}, []int{200})
	})
}

// TestFamilyForkAndRollback: a fork and a rollback go on as if there had been
// nothing else, hot and after a restart, at turns whose windows have passed.
func TestFamilyForkAndRollback(t *testing.T) {
	eachFamily(t, func(t *testing.T, o rigOptions) {
		for _, restart := range []bool{false, true} {
			forkAndRollBack(t, o, restart)
		}
	})
}

func forkAndRollBack(t *testing.T, o rigOptions, restart bool) {
	o.dir = t.TempDir()
	r := newRig(t, o)
	defer func() { r.stop() }()
	histories := [][]token.ID{nil}
	var history []token.ID
	for i := range 4 {
		_, history = r.tell("ada", append(append([]token.ID(nil), history...), promptOf(90, 60+i)...), 3+i)
		histories = append(histories, history)
	}
	ctx := context.Background()
	for name, turn := range map[AgentID]int{"bob": LastTurn, "eve": 2} {
		if _, err := r.Fork(ctx, "default", "ada", name, turn); err != nil {
			t.Fatal(err)
		}
	}
	again := func() {
		if restart {
			r.stop()
			r = newRig(t, o)
		}
	}
	again()
	told := 0
	check := func(agent AgentID, turn, cached int) {
		t.Helper()
		told++
		got, _ := r.tell(agent, histories[turn], 50+told)
		prompt := append(append([]token.ID(nil), histories[turn]...), promptOf(40, 50+told)...)
		alone := r.ask(greedy(prompt, 30).in(Namespace(fmt.Sprint("alone", restart, told))))
		if !got.same(alone) || got.usage.Cached < cached {
			t.Errorf("restart %t: %s behind turn %d: %v, at least %d cached expected; alone %v", restart, agent, turn, got, cached, alone)
		}
	}
	whole := func(turn int) int { return len(histories[turn]) - 1 }
	blocks := func(turn int) int { return whole(turn) / kv.BlockTokens * kv.BlockTokens }
	check("bob", 4, whole(4))
	check("eve", 2, blocks(2))
	for _, turn := range []int{3, 1} {
		if _, err := r.Rollback(ctx, "default", "ada", turn); err != nil {
			t.Fatal(err)
		}
		again()
		check("ada", turn, blocks(turn))
	}
}

// TestFamilyEviction: agents take turns in a pool that holds a few of them;
// each comes back from disk, or is computed again, with the same answer.
func TestFamilyEviction(t *testing.T) {
	eachFamily(t, func(t *testing.T, o rigOptions) {
		alone := newRig(t, o)
		spec := alone.pool.Spec()
		need := alone.pool.NeedFor(900, 512)
		o.poolBytes = 3 * alone.pool.Bytes(need)
		r := newRig(t, o)
		histories := make([][]token.ID, 6)
		restored := 0
		for round := range 3 {
			for i := range histories {
				agent := AgentID(fmt.Sprint("agent", i))
				got, next := r.tell(agent, append(append([]token.ID(nil), histories[i]...), promptOf(150, 10*i+round)...), i)
				prompt := next[:len(next)-len(got.ids)]
				if want := alone.ask(greedy(prompt, 30).in(Namespace(agent))); !got.same(want) {
					t.Errorf("%s, turn %d: %v, alone %v", agent, round+1, got, want)
				}
				if got.start == StartRestored {
					restored++
				}
				if round > 0 && got.usage.Cached != len(histories[i])-1 {
					t.Errorf("%s, turn %d: cached %d of %d", agent, round+1, got.usage.Cached, len(histories[i]))
				}
				histories[i] = next
			}
		}
		if restored == 0 {
			t.Errorf("nothing was restored: the pool of %d bytes, %d a token, has room for all", o.poolBytes, spec.BytesPerToken())
		}
		r.stop()
		alone.stop()
	})
}

// TestFamilyLeaks: agents come, grow and are deleted; pool, heap and goroutines
// are as before.
func TestFamilyLeaks(t *testing.T) {
	eachFamily(t, func(t *testing.T, o rigOptions) {
		o.threads, o.poolBytes = 1, 16<<20
		r := newRig(t, o)
		defer r.stop()
		settle := func(from, n int) {
			for i := range n {
				r.generation(from+i, false)
			}
			if err := r.store.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		settle(0, 10)
		held, heap, goroutines := r.held(), heapInUse(), runtime.NumGoroutine()
		settle(10, 30)
		waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
		if n := r.held(); n != held {
			t.Errorf("%d blocks held, %d before", n, held)
		}
		if after := heapInUse(); after > heap+1<<20 {
			t.Errorf("heap in use went from %d to %d bytes", heap, after)
		}
	})
}

package roster

import (
	"strings"
	"testing"
	"time"
)

// named is a candidate with a name, unused since minute.
func named(name string, bytes int64, minute int, change ...func(*Candidate)) entry {
	e := entry{name, Candidate{Namespace: "a", Bytes: bytes, LastUsed: time.Unix(int64(60*minute), 0)}}
	for _, f := range change {
		f(&e.Candidate)
	}
	return e
}

type entry struct {
	name string
	Candidate
}

func in(n Namespace) func(*Candidate) { return func(c *Candidate) { c.Namespace = n } }
func use(u Use) func(*Candidate)      { return func(c *Candidate) { c.Use = u } }
func hold(h Hold) func(*Candidate)    { return func(c *Candidate) { c.Hold = h } }

// order lets everybody go: those who may be asked first, then, behind a bar, the
// others. Who goes is no candidate any more, so that the shares of the rest grow.
func order(budgetBytes int64, all []entry) string {
	var out []string
	for _, mode := range []Mode{Sparing, Overruling} {
		for {
			var candidates []Candidate
			for _, e := range all {
				candidates = append(candidates, e.Candidate)
			}
			at, _, ok := Next(budgetBytes, candidates, mode)
			if !ok {
				break
			}
			out = append(out, all[at].name)
			all = append(append([]entry(nil), all[:at]...), all[at+1:]...)
		}
		if mode == Sparing {
			out = append(out, "|")
		}
	}
	return strings.Join(out, " ")
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		all  []entry
		want string
	}{
		{"nobody", nil, "|"},
		{"one alone may have half", []entry{named("ada", 50, 1)}, "| ada"},
		{"and not more", []entry{named("ada", 51, 1)}, "ada |"},
		{"who is above its share goes, though it was used last", []entry{named("quiet", 10, 1), named("noisy", 60, 9)}, "noisy | quiet"},
		{"of those above, the longest unused", []entry{named("new", 24, 2), named("old", 24, 1), named("quiet", 2, 0)}, "old | quiet new"},
		{"the share grows as others go", []entry{named("a", 20, 1), named("b", 20, 2), named("c", 20, 3), named("d", 20, 4)}, "a b | c d"},
		{"idle before busy before own before unsaved", []entry{
			named("unsaved", 99, 0, use(Unsaved)), named("own", 99, 1, use(Own)), named("busy", 99, 2, use(Busy)), named("idle", 99, 3),
		}, "idle busy own unsaved |"},
		{"one's own goes before others that are below their share", []entry{named("own", 5, 9, use(Own)), named("quiet", 5, 1)}, "own | quiet"},
		{"the noisy one's own table goes, none of the quiet ones of its namespace", []entry{
			named("noisy", 60, 9, use(Own)), named("q1", 5, 1), named("q2", 5, 2, use(Busy)), named("q3", 5, 3, use(Unsaved)),
		}, "noisy | q1 q2 q3"},
		{"an awaited one is as if below its share, and gives way before those that are", []entry{
			named("quiet", 5, 1), named("awaited", 60, 2, hold(Awaited)),
		}, "| awaited quiet"},
		{"a pinned one is the last", []entry{named("pinned", 60, 1, hold(Pinned)), named("quiet", 5, 2), named("awaited", 5, 3, hold(Awaited)), named("noisy", 30, 4)}, "noisy | quiet awaited pinned"},
		{"a pinned one alone in its namespace takes no share from others", []entry{named("pinned", 70, 1, hold(Pinned)), named("quiet", 5, 2)}, "| quiet pinned"},
		// 2 namespaces: 25 each; 5 agents: 10 each. b is above with 27; when b1 has gone it is below with 18.
		{"a namespace above its share gives way first, down to its share", []entry{
			named("a1", 8, 1), named("a2", 8, 2), named("b1", 9, 3, in("b")), named("b2", 9, 4, in("b")), named("b3", 9, 5, in("b")),
		}, "b1 | a1 a2 b2 b3"},
		{"of two above their shares, the one whose namespace is too", []entry{
			named("a1", 20, 1), named("b1", 20, 2, in("b")), named("b2", 20, 3, in("b")),
		}, "b1 | a1 b2"},
	} {
		if got := order(100, c.all); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Whatever there is in memory: those that nothing but their share protects leave
// half of the budget, so that a turn of the other half finds room.
func TestProtectedLeaveHalf(t *testing.T) {
	const budget = 1000
	for seed := range 200 {
		var all []Candidate
		for i := range 1 + seed%23 {
			all = append(all, Candidate{
				Namespace: Namespace('a' + rune((i*seed)%3)), Bytes: int64((i*i*31 + seed*7) % 120), Use: Use((i + seed) % 4),
				LastUsed: time.Unix(int64((i*17+seed)%29), 0),
			})
		}
		for {
			at, claim, ok := Next(budget, all, Sparing)
			if !ok {
				break
			}
			if claim >= Protected {
				t.Fatalf("seed %d: a protected one was asked", seed)
			}
			all = append(append([]Candidate(nil), all[:at]...), all[at+1:]...)
		}
		var left int64
		for i := range all {
			left += all[i].Bytes
		}
		if left > budget/2 {
			t.Errorf("seed %d: %d protected agents hold %d of %d bytes", seed, len(all), left, budget)
		}
	}
}

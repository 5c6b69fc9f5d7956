package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"mneme/internal/engine"
	"mneme/internal/store"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// deed is a step of a life: a turn of an agent, or an operation on one.
type deed struct {
	name string
	who  engine.AgentID            // whose state it changes
	says []token.ID                // of a turn: what is new; from nothing if afresh
	anew bool                      // the turn does not go on from what was
	do   func(*life, *house) error // of an operation
	back bool                      // the house is closed and opened again
}

func says(who engine.AgentID, n, seed int) deed {
	return deed{name: fmt.Sprintf("%s speaks", who), who: who, says: words(n, seed)}
}

// pin does not change what the agent stands at.
func pin(who engine.AgentID) deed {
	return deed{name: fmt.Sprintf("%s is pinned", who), do: func(l *life, h *house) error {
		_, err := h.Pin(namespace, who, true)
		if err == nil && len(l.possible[who]) == 1 { // it was stored, and so is the pin
			l.pinned[who] = true
		}
		return err
	}}
}

// deeds is a life of ada, of eve, gil and fay who are forked, of bob who is
// deleted and begun anew, and of mia who came from elsewhere.
var deeds = []deed{
	says("ada", 130, 3),
	says("bob", 90, 5),
	says("ada", 40, 7),
	pin("ada"),
	{name: "eve is forked from ada", who: "eve", do: func(_ *life, h *house) error {
		_, err := h.Fork(context.Background(), namespace, "ada", "eve", engine.LastTurn)
		return err
	}},
	{name: "so is gil", who: "gil", do: func(_ *life, h *house) error {
		_, err := h.Fork(context.Background(), namespace, "ada", "gil", engine.LastTurn)
		return err
	}},
	says("eve", 50, 11),
	says("ada", 30, 13),
	{name: "ada goes back to turn 2", who: "ada", do: func(_ *life, h *house) error {
		_, err := h.Rollback(context.Background(), namespace, "ada", 2)
		return err
	}},
	says("ada", 45, 15),
	{name: "bob is deleted", who: "bob", do: func(_ *life, h *house) error { return h.DeleteAgent(namespace, "bob") }},
	{name: "bob begins anew", who: "bob", says: words(70, 17), anew: true},
	{name: "restart", back: true},
	says("ada", 20, 19),
	{name: "mia is imported", who: "mia", do: func(l *life, h *house) error {
		_, err := h.Import(context.Background(), namespace, "mia", bytes.NewReader(l.truth.export), int64(len(l.truth.export)))
		return err
	}},
	says("mia", 33, 21),
	{name: "fay is forked from eve's first turn", who: "fay", do: func(_ *life, h *house) error {
		_, err := h.Fork(context.Background(), namespace, "eve", "fay", 1)
		return err
	}},
	{name: "eve is deleted", who: "eve", do: func(_ *life, h *house) error { return h.DeleteAgent(namespace, "eve") }},
	says("fay", 25, 23),
	pin("gil"),
}

var people = []engine.AgentID{"ada", "bob", "eve", "fay", "gil", "mia"}

// truth is a life that nothing disturbed.
type truth struct {
	export  []byte
	prompts [][]token.ID // of each deed that is a turn
	answers []answer
	after   [][]token.ID // what the deed's agent stands at then; nil: there is none
	last    map[engine.AgentID]ending
}

// ending is what an agent would say after all, and how much of it is cached after
// a restart.
type ending struct {
	prompt []token.ID
	answer answer
	cached int
}

var undisturbed = sync.OnceValue(func() *truth {
	tr := &truth{export: exported(), last: map[engine.AgentID]ending{}}
	fs := vfs.NewCrashable()
	l := newLife(tr, fs, plain)
	for i := range deeds {
		l.record(i)
	}
	if l.leave(); len(l.errs) > 0 {
		panic(errors.Join(l.errs...))
	}
	h, err := open(fs, plain)
	if err != nil {
		panic(err)
	}
	for _, who := range people {
		e := ending{prompt: join(l.at(who), words(24, 99))}
		a, done, err := h.ask(namespace, who, e.prompt)
		if err != nil || done.PublishErr != nil {
			panic(fmt.Sprint(err, done.PublishErr))
		}
		e.answer, e.cached = a, done.Usage.Cached
		tr.last[who] = e
	}
	if err := h.close(); err != nil {
		panic(err)
	}
	return tr
})

// exported is an agent of two turns from another house, as one file.
func exported() []byte {
	h, err := open(vfs.NewCrashable(), plain)
	if err != nil {
		panic(err)
	}
	first := words(100, 31)
	a, _, err := h.ask(namespace, "guest", first)
	if err == nil {
		_, _, err = h.ask(namespace, "guest", join(first, a.ids, words(40, 33)))
	}
	var file bytes.Buffer
	if err = errors.Join(err, h.Export(namespace, "guest", true, &file), h.close()); err != nil {
		panic(err)
	}
	return file.Bytes()
}

// life does the deeds on a file system that may fail, and knows what each agent
// may stand at.
type life struct {
	truth *truth
	fs    vfs.FS
	cover cover
	log   *logBook // of all its houses
	house *house   // nil when the disk let nobody in

	pinned   map[engine.AgentID]bool         // durably
	possible map[engine.AgentID][][]token.ID // the last is what it should be; more than one after an error
	errs     []error                         // what must not happen
	refused  []error                         // turns that were not answered, but at once when asked again
	unstored []error                         // turns that were answered and not stored
	failed   []error                         // operations
	counted  int64                           // of failures, by stores and engines
	lost     int64                           // blocks that could not be read
}

func newLife(tr *truth, fs vfs.FS, c cover) *life {
	l := &life{truth: tr, fs: fs, cover: c, log: &logBook{}, pinned: map[engine.AgentID]bool{}, possible: map[engine.AgentID][][]token.ID{}}
	for _, who := range people {
		l.possible[who] = [][]token.ID{nil}
	}
	return l
}

// at is what an agent should stand at.
func (l *life) at(who engine.AgentID) []token.ID {
	p := l.possible[who]
	return p[len(p)-1]
}

func (l *life) wrong(i int, format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf("%s: %w", deeds[i].name, fmt.Errorf(format, args...)))
}

// record does a deed for the first time.
func (l *life) record(i int) {
	d, tr := &deeds[i], l.truth
	var prompt []token.ID
	if d.says != nil {
		prompt = d.says
		if !d.anew {
			prompt = join(l.at(d.who), d.says)
		}
	}
	tr.prompts, tr.answers, tr.after = append(tr.prompts, prompt), append(tr.answers, answer{}), append(tr.after, nil)
	if l.house == nil || d.back {
		l.restart(i)
	}
	switch {
	case d.says != nil:
		a, done, err := l.house.ask(namespace, d.who, prompt)
		if err = errors.Join(err, done.PublishErr); err != nil {
			l.wrong(i, "%w", err)
		}
		tr.answers[i], tr.after[i] = a, join(prompt, a.ids)
	case d.do != nil:
		if err := d.do(l, l.house); err != nil {
			l.wrong(i, "%w", err)
		}
		if d.who != "" {
			m, err := l.house.store.Load(namespace, string(d.who))
			if err != nil && !errors.Is(err, store.ErrNoAgent) {
				l.wrong(i, "%w", err)
			}
			tr.after[i] = m.Tokens
		}
	}
	l.came(i, nil)
}

// came notes what a deed led to.
func (l *life) came(i int, err error) {
	who, after := deeds[i].who, l.truth.after[i]
	switch {
	case who == "":
	case err == nil:
		l.possible[who] = [][]token.ID{after}
	case errors.Is(err, errInjected):
		l.possible[who] = append(l.possible[who], after)
	}
}

// leave closes the house and adds up what it counted.
func (l *life) leave() {
	if l.house == nil {
		return
	}
	if err := l.house.close(); err != nil && !errors.Is(err, errInjected) {
		l.errs = append(l.errs, fmt.Errorf("close: %w", err))
	}
	stats := l.house.Stats()
	l.counted += stats.StoreErrors + stats.Store.Errors + stats.Store.Dropped
	l.lost += stats.Store.Quarantined
	l.house = nil
}

// restart opens the house anew.
func (l *life) restart(i int) {
	l.leave()
	h, err := openWith(l.fs, dataDir, l.cover, l.log)
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("open: %w", err))
		if !errors.Is(err, errInjected) {
			l.wrong(i, "open: %w", err)
		}
	}
	l.house = h
}

// live does all deeds; it ends early where the disk lets nobody in, and, if
// mortal, at the first error.
func (l *life) live(mortal bool) {
	for i, d := range deeds {
		if l.house == nil || d.back {
			if l.restart(i); l.house == nil && !mortal {
				l.restart(i)
			}
			if l.house == nil {
				return
			}
		}
		var err error
		switch {
		case d.says != nil:
			err = l.turn(i, mortal)
		case d.do != nil:
			if err = d.do(l, l.house); err != nil {
				l.failed = append(l.failed, fmt.Errorf("%s: %w", d.name, err))
			}
			l.came(i, err)
		}
		if err != nil && mortal {
			return
		}
	}
}

// turn asks what the truth was asked.
func (l *life) turn(i int, mortal bool) error {
	who, prompt := deeds[i].who, l.truth.prompts[i]
	a, done, err := l.house.ask(namespace, who, prompt)
	if errors.Is(err, errInjected) && !mortal {
		l.refused = append(l.refused, fmt.Errorf("%s: %w", deeds[i].name, err))
		a, done, err = l.house.ask(namespace, who, prompt)
	}
	switch {
	case err != nil:
		if !mortal || !errors.Is(err, errInjected) {
			l.wrong(i, "%w", err)
		}
		return err
	case !a.same(l.truth.answers[i]):
		l.wrong(i, "%v, undisturbed %v", a, l.truth.answers[i])
	case done.PublishErr != nil:
		l.unstored = append(l.unstored, fmt.Errorf("%s: %w", deeds[i].name, done.PublishErr))
	}
	l.came(i, done.PublishErr)
	return done.PublishErr
}

// endsWell reopens what is on disk. Each agent stands whole at what it may stand
// at, says what it would have said, and what was acknowledged last costs nothing.
func (l *life) endsWell(fs vfs.FS) error {
	h, err := open(fs, l.cover)
	if err != nil {
		return fmt.Errorf("open afterwards: %w", err)
	}
	var errs []error
	for _, who := range people {
		if err := l.endOf(h, who); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", who, err))
		}
	}
	return errors.Join(append(errs, h.close())...)
}

func (l *life) endOf(h *house, who engine.AgentID) error {
	m, err := h.store.Load(namespace, string(who))
	if err != nil && !errors.Is(err, store.ErrNoAgent) {
		return err
	}
	is := func(state []token.ID) bool { return slices.Equal(state, m.Tokens) && (state == nil) == (err != nil) }
	if !slices.ContainsFunc(l.possible[who], is) {
		return fmt.Errorf("it stands at %d tokens in %d turns (%v), which is none of the %d states it may be in", len(m.Tokens), len(m.Turns), err, len(l.possible[who]))
	}
	if n := len(m.Turns); n > 0 && m.Turns[n-1].Tokens != len(m.Tokens) {
		return fmt.Errorf("its last turn ends at %d of %d tokens", m.Turns[n-1].Tokens, len(m.Tokens))
	}
	if l.pinned[who] && !m.Pinned {
		return errors.New("it is not pinned any more")
	}
	end := l.truth.last[who]
	a, done, err := h.ask(namespace, who, end.prompt)
	switch settled := l.lost == 0 && len(l.possible[who]) == 1 && slices.Equal(m.Tokens, end.prompt[:len(end.prompt)-24]); {
	case err != nil:
		return err
	case done.PublishErr != nil:
		return done.PublishErr
	case !a.same(end.answer):
		return fmt.Errorf("it says %v, undisturbed %v", a, end.answer)
	case settled && done.Usage.Cached < end.cached:
		return fmt.Errorf("%d tokens cached, undisturbed %d", done.Usage.Cached, end.cached)
	}
	return nil
}

// The life itself: what the others disturb.
func TestUndisturbedLife(t *testing.T) { each(t, proveLife) }

func proveLife(t *testing.T, c cover) {
	counter := vfs.NewFailing(vfs.NewCrashable(), nil)
	l := newLife(undisturbed(), counter, c)
	l.live(false)
	l.leave()
	must(t, errors.Join(slices.Concat(l.errs, l.refused, l.unstored, l.failed)...))
	if log := l.log.String(); log != "" || l.counted+l.lost > 0 {
		t.Errorf("%d failures and %d lost blocks counted, log %s", l.counted, l.lost, log)
	}
	t.Logf("%d deeds, %d operations on files, %d of them changes", len(deeds), counter.Ops(), counter.Changes())
	must(t, l.endsWell(counter))
}

package proof

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mneme/internal/engine"
	"mneme/internal/kv"
	"mneme/internal/store"
)

const flips = 1000

// tally is what came of the tries.
type tally struct {
	tries            int
	short            int // turns that computed more than their new tokens,
	computed, needed int // this many more; and how many hung on the damage
	fallen, damaged  int // agents
}

// One bit turns over, in each region of each kind of file in turn. Every agent
// goes on with the tokens that it would have said, or says that it is damaged,
// and then the same is said without its memory; nothing is computed but what
// hangs on the damaged block. Then all is well again, also after a restart.
func TestBitFlips(t *testing.T) { each(t, proveBitFlips) }

func proveBitFlips(t *testing.T, c cover) {
	seed := seedOf(t)
	p := newPast(t, c)
	regions := p.regions()
	var sum tally
	for i := range int64(max(len(regions), flips/share)) {
		r := rng(seed, i)
		region := regions[i%int64(len(regions))]
		at := region.spans[r.IntN(len(region.spans))]
		bit := 8*at.from + r.IntN(8*(at.to-at.from))
		f := &trial{past: p, at: at, rng: r, sum: &sum}
		err := f.run(t, func(b []byte) { b[bit/8] ^= 1 << (bit % 8) })
		if err != nil {
			t.Errorf("seed %d, try %d: bit %d of %s (%s): %v", seed, i, bit, at.path, region.name, err)
		}
	}
	t.Logf("%d flips in %d regions of %d files: no wrong token; %d agents' turns computed more than their new tokens (%d tokens, of %d that hung on the damage), %d agents fell back to an earlier turn and said so, %d were listed as damaged",
		sum.tries, len(regions), len(p.files), sum.short, sum.computed, sum.needed, sum.fallen, sum.damaged)
}

// trial is a past that something has happened to.
type trial struct {
	past *past
	at   span // what is damaged
	rng  *rand.Rand
	sum  *tally
}

func (f *trial) run(t *testing.T, change func([]byte)) error {
	t.Helper()
	f.sum.tries++
	fs := f.past.files.disk(t, f.at.path, change)
	for n := range 2 {
		h, err := open(fs, f.past.cover)
		if err != nil {
			return fmt.Errorf("start %d: %w", n, err)
		}
		var errs []error
		for _, i := range f.rng.Perm(len(f.past.subjects)) {
			s := f.past.subjects[i]
			if err := f.next(h, s, n); err != nil {
				errs = append(errs, fmt.Errorf("%s, turn %d after it: %w", s.id, n+1, err))
			}
		}
		if err := errors.Join(append(errs, h.close())...); err != nil {
			return err
		}
	}
	return nil
}

// next is the first turn after the damage, or the one after the restart that
// follows; by then all is healed.
func (f *trial) next(h *house, s *subject, n int) error {
	least := s.least(f.at)
	if n == 1 {
		least = len(s.prompt(0)) + answerTokens - 1
	}
	a, done, err := h.ask(namespace, s.id, s.prompt(n))
	if err != nil {
		if n == 1 {
			return err
		}
		return f.beginAnew(h, s, err)
	}
	switch {
	case !a.same(s.want[n]):
		return fmt.Errorf("it says %v, unharmed %v", a, s.want[n])
	case done.PublishErr != nil:
		return done.PublishErr
	case done.Usage.Cached < least:
		return fmt.Errorf("%d tokens cached of %d, at least %d do not depend on the damage", done.Usage.Cached, done.Usage.Prompt, least)
	case n == 1:
		return nil
	}
	return f.says(h, s, done)
}

// says checks that a loss was told.
func (f *trial) says(h *house, s *subject, done engine.Completed) error {
	fell := done.Turn <= len(s.manifest.Turns)
	if fell {
		f.sum.fallen++
	}
	short := s.formula() - done.Usage.Cached
	if short > 0 {
		f.sum.short++
		f.sum.computed += short
		f.sum.needed += s.formula() - s.least(f.at)
	}
	stats := h.store.Stats()
	if (fell || short > 0) && (len(h.store.Damaged()) == 0 || stats.Quarantined+stats.DamagedManifests == 0 || h.log.String() == "") {
		return fmt.Errorf("turn %d, %d tokens computed again, and nobody was told: %+v, log %q", done.Turn, short, stats, h.log)
	}
	return nil
}

// beginAnew: an agent that cannot be read is listed with the reason, what it said
// is said by nobody, and it can be deleted and begun anew.
func (f *trial) beginAnew(h *house, s *subject, refused error) error {
	var damaged *store.DamagedError
	if !errors.As(refused, &damaged) {
		return refused
	}
	f.sum.damaged++
	if header, ok := h.store.Header(namespace, string(s.id)); !ok || header.Damaged == "" {
		return fmt.Errorf("refused (%w), and listed as %+v", refused, header)
	}
	if !strings.Contains(h.log.String(), "agent") {
		return fmt.Errorf("refused (%w), and the log says %q", refused, h.log)
	}
	a, done, err := h.ask(namespace, "", s.prompt(0))
	switch {
	case err != nil:
		return err
	case !a.same(s.want[0]):
		return fmt.Errorf("damaged; nobody says %v, unharmed %v", a, s.want[0])
	case done.Usage.Cached < s.least(f.at)/kv.BlockTokens*kv.BlockTokens:
		return fmt.Errorf("damaged; nobody has %d tokens cached, at least %d are not", done.Usage.Cached, s.least(f.at))
	}
	if err := h.DeleteAgent(namespace, s.id); err != nil {
		return fmt.Errorf("delete of the damaged agent: %w", err)
	}
	if a, done, err = h.ask(namespace, s.id, s.prompt(0)); err == nil && !a.same(s.want[0]) {
		err = fmt.Errorf("begun anew it says %v, unharmed %v", a, s.want[0])
	}
	return errors.Join(err, done.PublishErr)
}

package frames

import (
	"errors"
	"slices"
	"time"

	"mneme/internal/kv"
	"mneme/internal/store/format"
)

// Damage is something on disk that is not as it was written: a block or tail
// that was forgotten, or an agent that cannot be read or has lost turns.
type Damage struct {
	Where         string // file, and where in it
	Reason        string
	Namespace, ID string // of an agent, if it is one and its name is known
	Key           kv.Key // of a block or tail
	Group         int
	At            time.Time // found
}

// maxDamages is how many Damaged remembers, the latest.
const maxDamages = 1000

// Damaged lists what was found damaged since Open, oldest first.
func (s *Shelf) Damaged() []Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.damages)
}

func (s *Shelf) noteLocked(d Damage) {
	d.At = s.o.Clock().UTC()
	s.damages = append(s.damages, d)
	if len(s.damages) > maxDamages {
		s.damages = slices.Delete(s.damages, 0, len(s.damages)-maxDamages)
	}
}

// Note adds to what Damaged lists.
func (s *Shelf) Note(d Damage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(d)
}

// quarantine forgets a frame that turned out damaged, so that its block will be
// computed and appended anew. Other errors, and nil, change nothing, nor does
// the damage of a frame that is no longer the one found.
func (s *Shelf) quarantine(id format.BlockID, p *stored, err error) {
	var damaged *format.DamagedError
	if !errors.As(err, &damaged) || !s.forget(id, p, damaged) {
		return
	}
	s.o.Log.Warn("store: quarantined", "err", err)
}

func (s *Shelf) forget(id format.BlockID, p *stored, damaged *format.DamagedError) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index[id] != p {
		return false
	}
	s.dropLocked(id)
	s.stats.Quarantined++
	s.noteLocked(Damage{Where: damaged.Where, Reason: damaged.Reason, Key: id.Key, Group: id.Group})
	return true
}

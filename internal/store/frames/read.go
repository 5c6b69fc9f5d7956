package frames

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"mneme/internal/store/format"
)

// Read fills dst with the payload of a frame, after which it is known to be the
// one wanted. ErrMissing when it is not stored; a *format.DamagedError when it is
// not what was written, or could not be read so often, and then it is forgotten.
func (s *Shelf) Read(want format.Wanted, dst []byte) error {
	id := format.BlockID{Key: want.Key, Group: want.Group}
	p, ok := s.use(id)
	if !ok {
		return ofBlock(id, ErrMissing)
	}
	return s.readStored(id, p, want, dst)
}

// Raw gives a whole frame, checked, and plain; ErrMissing and a *format.DamagedError
// as Read.
func (s *Shelf) Raw(id format.BlockID) ([]byte, error) {
	for p, ok := s.find(id); ok; p, ok = s.find(id) {
		frame, err := s.rawFrame(id, p)
		if err == nil {
			frame, err = s.plain(id, p, frame)
		}
		if err == nil {
			return frame, nil
		}
		if now, _ := s.find(id); now == p || now == nil {
			return nil, err
		}
	}
	return nil, ofBlock(id, ErrMissing)
}

// readStored reads a frame where it was found, or where it has been moved since.
func (s *Shelf) readStored(id format.BlockID, p *stored, want format.Wanted, dst []byte) error {
	for {
		err := s.readFrame(p, want, dst)
		if err == nil {
			return nil
		}
		now, ok := s.find(id)
		if !ok {
			return fmt.Errorf("%w: %w", ofBlock(id, ErrMissing), err)
		}
		if now == p {
			s.quarantine(id, p, err)
			return err
		}
		p = now
	}
}

func (s *Shelf) readFrame(p *stored, want format.Wanted, dst []byte) error {
	file, err := s.file(p.seg)
	if err != nil {
		return err
	}
	reader := s.readers.Get().(*format.Reader)
	defer s.readers.Put(reader)
	if err := s.asDamage(p, reader.Read(file, p.at, p.Shape, want, dst)); err != nil {
		return err
	}
	s.count(func(st *Stats) { st.ReadFrames++; st.ReadBytes += int64(len(dst)) })
	return nil
}

// rawFrame reads a whole frame and checks it; one that is damaged is forgotten.
func (s *Shelf) rawFrame(id format.BlockID, p *stored) ([]byte, error) {
	file, err := s.file(p.seg)
	if err != nil {
		s.quarantine(id, p, err)
		return nil, err
	}
	frame := make([]byte, p.FrameBytes())
	var e format.Entry
	if err = format.ReadFull(file, frame, p.at); err == nil {
		e, err = format.CheckFrame(frame)
	}
	if err == nil && e.ID != id {
		err = fmt.Errorf("it is block %s of group %d", e.ID.Key, e.ID.Group)
	}
	return frame, s.quarantined(id, p, err)
}

// plain decrypts a whole frame; one that cannot be is damaged, and forgotten.
func (s *Shelf) plain(id format.BlockID, p *stored, frame []byte) ([]byte, error) {
	frame, err := format.Decrypt(frame, s.keys())
	return frame, s.quarantined(id, p, err)
}

// quarantined is asDamage, after which what is damaged is forgotten.
func (s *Shelf) quarantined(id format.BlockID, p *stored, why error) error {
	err := s.asDamage(p, why)
	s.quarantine(id, p, err)
	return err
}

// maxUnread is how often a frame may not be read before that is its damage: a disk
// may fail for a moment, or for ever in one place.
const maxUnread = 3

// asDamage makes why a frame is not what was written, if it is not, its damage. That
// the disk does not read it is none at first.
func (s *Shelf) asDamage(p *stored, why error) error {
	switch {
	case why == nil:
		return nil
	case errors.Is(why, format.ErrRead) && p.unread.Add(1) < maxUnread:
		return fmt.Errorf("%v: %w", p, why)
	}
	return &format.DamagedError{Where: p.String(), Reason: why.Error()}
}

// Check reads every frame that is found and reports what is damaged; that is
// forgotten then.
func (s *Shelf) Check() (errs []error) {
	var buf []byte
	for _, id := range s.frameIDs() {
		p, ok := s.find(id)
		if !ok {
			continue
		}
		buf = slices.Grow(buf[:0], p.PayloadBytes)[:p.PayloadBytes]
		want := format.Wanted{Kind: p.kind, Key: id.Key, Group: id.Group, AnyTokens: true}
		if err := s.readStored(id, p, want, buf); err != nil && !errors.Is(err, ErrMissing) {
			errs = append(errs, ofBlock(id, err))
		}
	}
	return errs
}

func (s *Shelf) frameIDs() []format.BlockID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.index))
}

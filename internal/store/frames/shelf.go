package frames

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mneme/internal/store/format"
	"mneme/internal/store/keyring"
	"mneme/internal/store/segments"
)

var (
	// ErrMissing is returned for a block or tail that is not stored.
	ErrMissing = errors.New("not stored")
	// ErrNoSpace is why something was not written: less than is to stay free would
	// have been left. The error gives the numbers.
	ErrNoSpace = errors.New("not enough free disk space")
)

// Options say where frames are kept and how many.
type Options struct {
	Folder       segments.Folder // of the KV fingerprint
	Ring         *keyring.Ring   // what is written is encrypted; nil: plain
	SegmentBytes int64           // a segment is closed at this size
	BudgetBytes  int64           // of segments, also of other fingerprints: above it, blocks without a name are dropped; 0 is no bound
	MinFreeBytes int64           // what would leave less free on the disk is not written; 0 is no bound
	Clock        func() time.Time
	Log          *slog.Logger
}

// Shelf finds and reads frames.
//   - A frame that is found can be read until it turns out damaged, is dropped
//     for the budget, or is erased with the agent that had it.
//   - Frames that somebody names are never dropped.
//   - All methods may be called at the same time, beside one Writer.
type Shelf struct {
	o         Options
	lastTaken uint32    // highest segment number in use; Open's, then the writer's
	readers   sync.Pool // of *format.Reader

	mu         sync.Mutex
	index      map[format.BlockID]*stored
	named      map[format.BlockID]int // by how many agents
	namedBytes int64                  // of frames in index
	segments   map[uint32]*segment
	foreign    foreign
	damages    []Damage
	stats      Stats
}

// Stats is one snapshot; bytes and counts since Open unless they are states.
type Stats struct {
	Blocks       int   // state: findable
	Segments     int   // state
	SegmentBytes int64 // state: on disk, whole frames and heads
	LiveBytes    int64 // state: of these, frames that can be found
	NamedBytes   int64 // state: of these, frames that an agent names
	OverBudget   int64 // state: by how much these and those of other KV fingerprints are above Options.BudgetBytes

	WrittenFrames, WrittenBytes int64
	ReadFrames, ReadBytes       int64
	Fsyncs                      int64 // of segments
	Quarantined                 int64 // frames found damaged
	Lost                        int64 // blocks and tails that a failed sync has cost
	Evicted                     int64 // blocks dropped for the budget
	Collected                   int64 // segments rewritten
	ErasedBytes                 int64 // of segments, removed or overwritten
}

// Open reads what the folder holds.
func Open(o Options) (*Shelf, error) {
	s := &Shelf{
		o: o, index: map[format.BlockID]*stored{}, named: map[format.BlockID]int{}, segments: map[uint32]*segment{},
	}
	s.readers.New = func() any { return &format.Reader{Keys: s.keys()} }
	if err := s.loadSegments(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// keys are those of the ring, nil without one.
func (s *Shelf) keys() format.Keys {
	if s.o.Ring == nil {
		return nil
	}
	return s.o.Ring
}

// cover is the one that new frames have.
func (s *Shelf) cover() format.Cover {
	if s.o.Ring == nil {
		return format.Plain
	}
	return format.Encrypted
}

// Close closes the files; nobody uses the shelf any more.
func (s *Shelf) Close() error {
	var errs []error
	for _, seg := range s.segments {
		if seg.file != nil {
			errs = append(errs, seg.file.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *Shelf) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// Stats is one atomic snapshot.
func (s *Shelf) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Segments, out.NamedBytes = len(s.segments), s.namedBytes
	out.SegmentBytes, out.LiveBytes = s.usedLocked()
	if s.overLocked() {
		out.OverBudget = out.SegmentBytes + s.foreign.bytes - s.o.BudgetBytes
	}
	return out
}

func ofBlock(id format.BlockID, err error) error {
	return fmt.Errorf("block %s of group %d: %w", id.Key, id.Group, err)
}

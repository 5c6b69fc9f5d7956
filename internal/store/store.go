package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"mneme/internal/store/format"
	"mneme/internal/store/frames"
	"mneme/internal/store/keyring"
	"mneme/internal/store/roster"
	"mneme/internal/store/segments"
	"mneme/internal/vfs"
)

// Options say where the store is and whose KV it holds.
type Options struct {
	FS  vfs.FS // vfs.Real() when nil
	Dir string // the data folder; made if missing

	ModelFingerprint string // written into every manifest
	KVFingerprint    string // hex; names the folder of the segments

	Ring *keyring.Ring // of Dir's folder keys: what is written is encrypted; nil: plain

	Clock        func() time.Time // time.Now when nil
	SegmentBytes int64            // a segment is closed at this size; 256 MiB when 0
	QueueBytes   int64            // Room says no above this; 256 MiB when 0
	BudgetBytes  int64            // of segments, of all KV fingerprints: above it, blocks that no agent names are dropped; 0 is no bound
	MinFreeBytes int64            // what would leave less free on the disk is not written; 0 is no bound
	Log          *slog.Logger     // silent when nil
}

func (o *Options) setDefaults() error {
	if o.FS == nil {
		o.FS = vfs.Real()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 256<<20)
	o.QueueBytes = cmp.Or(o.QueueBytes, 256<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if !isHex(o.KVFingerprint) {
		return fmt.Errorf("store: KV fingerprint %q is not hex", o.KVFingerprint)
	}
	return nil
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

// Store is the data folder of one running program.
//   - A block that Has reports can be read until it turns out damaged.
//   - An agent that Publish returned nil for is durable.
//   - All methods may be called at the same time.
type Store struct {
	o       Options
	lock    io.Closer
	frames  *frames.Shelf
	roster  *roster.Roster
	clean   bool           // the last run ended with Close
	writing sync.WaitGroup // the writer goroutine
	reading sync.WaitGroup // calls between enter and leave; Add under mu

	mu      sync.Mutex
	wake    *sync.Cond // of mu: a job was queued, or closed
	closed  bool
	jobs    []job
	pending map[format.BlockID]struct{} // queued blocks
	stats   Stats                       // Stats() adds what frames and roster count, and what is counted on demand
}

// Stats is one snapshot; bytes and counts since Open unless they are states.
type Stats struct {
	Agents       int   // state
	AgentBytes   int64 // state: their files
	Blocks       int   // state: findable
	Segments     int   // state
	SegmentBytes int64 // state: on disk, whole frames and heads
	LiveBytes    int64 // state: of these, frames that can be found
	NamedBytes   int64 // state: of these, frames that an agent names
	OverBudget   int64 // state: by how much these and those of other KV fingerprints are above Options.BudgetBytes
	QueuedBlocks int   // state
	QueuedBytes  int64 // state

	WrittenFrames, WrittenBytes int64
	ReadFrames, ReadBytes       int64
	Published, Deleted          int64
	Fsyncs                      int64 // of segments
	Quarantined                 int64 // frames found damaged
	DamagedManifests            int64 // agents that have lost turns, or cannot be read
	Dropped                     int64 // appended blocks that were not written, or lost
	Evicted                     int64 // blocks dropped for the budget
	Collected                   int64 // segments rewritten
	ErasedBytes                 int64 // of segments, removed or overwritten
	Errors                      int64 // failed appends, publishes and deletes
}

// Open locks and reads the data folder and starts the writer. It fails with a
// reason when another process has the folder (ErrLocked), when it cannot be
// written, and when an intact file is of a version it does not know.
func Open(o Options) (*Store, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Store{o: o, pending: map[format.BlockID]struct{}{}}
	s.wake = sync.NewCond(&s.mu)
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("store: %w", errors.Join(err, s.closeFiles()))
	}
	s.writing.Go((&writer{s: s, out: frames.NewWriter(s.frames)}).loop)
	return s, nil
}

func (s *Store) open() error {
	if err := vfs.MkdirDurable(s.o.FS, s.o.Dir); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if err := s.checkKeys(); err != nil {
		return err
	}
	clean, err := s.takeLock()
	if err != nil {
		return err
	}
	s.clean = clean
	if err := s.probe(); err != nil {
		return err
	}
	if err := s.loadKeys(); err != nil {
		return err
	}
	folder := segments.Folder{FS: s.o.FS, Dir: filepath.Join(s.o.Dir, "kv", s.o.KVFingerprint), Fingerprint: s.o.KVFingerprint}
	for _, dir := range []string{folder.Dir} {
		if err := vfs.MkdirDurable(s.o.FS, dir); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
	}
	s.frames, err = frames.Open(frames.Options{
		Folder: folder, Ring: s.o.Ring, SegmentBytes: s.o.SegmentBytes, BudgetBytes: s.o.BudgetBytes, MinFreeBytes: s.o.MinFreeBytes,
		Clock: s.o.Clock, Log: s.o.Log,
	})
	if err != nil {
		return err
	}
	s.noteKeys()
	s.roster, err = roster.Open(roster.Options{FS: s.o.FS, DataDir: s.o.Dir, Frames: s.frames, Ring: s.o.Ring, Clean: clean, Log: s.o.Log})
	return err
}

// Close writes what is queued, ends the writer and releases the folder. Calls
// that began before finish; later ones return ErrClosed. A second Close does
// nothing.
func (s *Store) Close() error {
	if !s.shut() {
		return nil
	}
	s.writing.Wait()
	s.reading.Wait()
	s.roster.Save()
	s.markClean()
	return s.closeFiles()
}

// shut lets nothing in any more; false when that was so before.
func (s *Store) shut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	s.wake.Broadcast()
	return true
}

func (s *Store) closeFiles() error {
	var errs []error
	if s.frames != nil {
		errs = append(errs, s.frames.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// enter begins a call that reads files; leave ends it.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.reading.Add(1)
	return nil
}

func (s *Store) leave() { s.reading.Done() }

func (s *Store) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// Stats is a snapshot: of agents and queue one, of frames another.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	out := s.stats
	out.QueuedBlocks = len(s.pending)
	s.mu.Unlock()
	agents := s.roster.Stats()
	out.Agents, out.AgentBytes, out.DamagedManifests = agents.Agents, agents.Bytes, agents.Damaged
	out.addFrames(s.frames.Stats())
	return out
}

func (st *Stats) addFrames(f frames.Stats) {
	st.Blocks, st.Segments = f.Blocks, f.Segments
	st.SegmentBytes, st.LiveBytes, st.NamedBytes, st.OverBudget = f.SegmentBytes, f.LiveBytes, f.NamedBytes, f.OverBudget
	st.WrittenFrames, st.WrittenBytes = f.WrittenFrames, f.WrittenBytes
	st.ReadFrames, st.ReadBytes = f.ReadFrames, f.ReadBytes
	st.Fsyncs, st.Quarantined = f.Fsyncs, f.Quarantined
	st.Dropped += f.Lost
	st.Evicted, st.Collected, st.ErasedBytes = f.Evicted, f.Collected, f.ErasedBytes
}

// Damaged lists what was found damaged since Open, oldest first, the latest 1,000.
func (s *Store) Damaged() []Damage { return s.frames.Damaged() }

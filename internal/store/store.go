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
	"mneme/internal/vfs"
)

// Options say where the store is and whose KV it holds.
type Options struct {
	FS  vfs.FS // vfs.Real() when nil
	Dir string // the data folder; made if missing

	ModelFingerprint string // written into every manifest
	KVFingerprint    string // hex; names the folder of the segments

	Clock        func() time.Time // time.Now when nil
	SegmentBytes int64            // a segment is closed at this size; 256 MiB when 0
	QueueBytes   int64            // Room says no above this; 256 MiB when 0
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
	o         Options
	agentsDir string
	kvDir     string
	lock      io.Closer
	lastTaken uint32         // highest segment number in use; Open's, then the writer's
	writing   sync.WaitGroup // the writer goroutine
	reading   sync.WaitGroup // calls between enter and leave; Add under mu

	mu       sync.Mutex
	wake     *sync.Cond // of mu: a job was queued, or closed
	closed   bool
	jobs     []job
	pending  map[format.BlockID]struct{} // queued blocks
	index    map[format.BlockID]location
	segments map[uint32]*segment
	agents   map[agentID]*agent
	stats    Stats // counters only; Stats() adds what is counted on demand
}

// Stats is one snapshot; bytes and counts since Open unless they are states.
type Stats struct {
	Agents       int   // state
	Blocks       int   // state: findable
	Segments     int   // state
	SegmentBytes int64 // state: on disk, whole frames and heads
	QueuedBlocks int   // state
	QueuedBytes  int64 // state

	WrittenFrames, WrittenBytes int64
	ReadFrames, ReadBytes       int64
	Published, Deleted          int64
	Fsyncs                      int64 // of segments
	Quarantined                 int64 // frames found damaged
	DamagedManifests            int64 // replaced by the one kept back, or unusable
	Dropped                     int64 // appended blocks that were not written
	Errors                      int64 // failed appends, publishes and deletes
}

// Open locks and reads the data folder and starts the writer. It fails with a
// reason when another process has the folder (ErrLocked), when it cannot be
// written, and when an intact file is of a version it does not know.
func Open(o Options) (*Store, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Store{
		o:         o,
		agentsDir: filepath.Join(o.Dir, "agents"),
		kvDir:     filepath.Join(o.Dir, "kv", o.KVFingerprint),
		pending:   map[format.BlockID]struct{}{},
		index:     map[format.BlockID]location{},
		segments:  map[uint32]*segment{},
		agents:    map[agentID]*agent{},
	}
	s.wake = sync.NewCond(&s.mu)
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("store: %w", errors.Join(err, s.closeFiles()))
	}
	s.writing.Go((&writer{s: s}).loop)
	return s, nil
}

func (s *Store) open() error {
	if err := vfs.MkdirDurable(s.o.FS, s.o.Dir); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	clean, err := s.takeLock()
	if err != nil {
		return err
	}
	if err := s.probe(); err != nil {
		return err
	}
	for _, dir := range []string{s.agentsDir, s.kvDir} {
		if err := vfs.MkdirDurable(s.o.FS, dir); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
	}
	if err := s.loadSegments(); err != nil {
		return err
	}
	return s.loadAgents(clean)
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
	for _, seg := range s.segments {
		if seg.file != nil {
			errs = append(errs, seg.file.Close())
		}
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

// Stats is one atomic snapshot.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Agents, out.Blocks, out.Segments = len(s.agents), len(s.index), len(s.segments)
	out.QueuedBlocks = len(s.pending)
	for _, seg := range s.segments {
		out.SegmentBytes += seg.end
	}
	return out
}

package store

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/store/format"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// TailBlock is an agent's unfinished block of one layer group at the end of a turn.
type TailBlock struct {
	Group     int
	Form      quant.KVForm
	Tokens    []token.ID
	SizeBytes int
	Copy      func(dst []byte) // fills the payload; called by the writer before Publish returns
}

// commit is a publish on its way through the writer.
type commit struct {
	manifest Manifest
	tail     []TailBlock
	flush    bool // no manifest, only the sync
	state    atomic.Int32
	done     chan error // of 1: the result

	// the writer's
	err error
	at  []location // of the tail frames
}

const (
	commitQueued = iota
	commitTaken
	commitAbandoned
)

// Publish makes a turn durable: when it returns nil, the blocks that m names, the
// tail and the manifest survive kill and power loss. The blocks must be stored, or
// have been appended before; with one that is not, nothing is published and the
// error is ErrMissing and why it was dropped, if it was. With tail blocks m.Tail
// is made from them, without it is kept as given. After another error the agent
// stands at this turn or at the one before; publishing again is allowed.
//
// When ctx ends before the writer has begun, nothing is published; after that,
// Publish waits for the result.
func (s *Store) Publish(ctx context.Context, m Manifest, tail []TailBlock) error {
	if err := format.CheckManifest(&m); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := s.commit(ctx, &commit{manifest: m, tail: tail}); err != nil {
		return fmt.Errorf("store: publish %q: %w", m.ID, err)
	}
	return nil
}

// Flush waits until all that was appended before is written, and syncs it.
func (s *Store) Flush(ctx context.Context) error {
	if err := s.commit(ctx, &commit{flush: true}); err != nil {
		return fmt.Errorf("store: flush: %w", err)
	}
	return nil
}

func (s *Store) commit(ctx context.Context, c *commit) error {
	c.done = make(chan error, 1)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.enqueue(c); err != nil {
		return err
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
	}
	if c.state.CompareAndSwap(commitQueued, commitAbandoned) {
		return ctx.Err()
	}
	return <-c.done
}

func (s *Store) enqueue(j job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.enqueueLocked(j)
	return nil
}

// run publishes this commit and those that follow it in the queue: all tails,
// one sync, then each manifest.
func (c *commit) run(w *writer) {
	all := w.s.takeCommits([]*commit{c})
	var taken []*commit
	for _, c := range all {
		if c.state.CompareAndSwap(commitQueued, commitTaken) {
			c.writeTail(w)
			taken = append(taken, c)
		}
	}
	syncErr := w.sync()
	for _, c := range taken {
		c.finish(w, syncErr)
	}
}

// writeTail appends the tail frames, when all else that the commit names is there.
func (c *commit) writeTail(w *writer) {
	if c.err = c.blocksThere(w); c.err != nil {
		return
	}
	if len(c.tail) == 0 {
		c.err = c.keptTailThere(w.s)
		return
	}
	var refs []TailRef
	for _, t := range c.tail {
		at, sum, err := w.append(c.tailFrame(t), t.Copy)
		if err != nil {
			c.err = err
			return
		}
		c.at = append(c.at, at)
		refs = append(refs, TailRef{
			Group: t.Group, Form: t.Form, Segment: at.seg.number, Offset: at.at,
			Tokens: len(t.Tokens), Bytes: t.SizeBytes, Sum: sum,
		})
	}
	c.manifest.Tail = refs
}

func (c *commit) tailFrame(t TailBlock) format.Frame {
	return format.Frame{
		Kind: format.Tail, Form: t.Form, Group: t.Group, Tokens: t.Tokens,
		PayloadBytes: t.SizeBytes, Parent: c.lastKey(),
	}
}

// lastKey is that of the block before the tail, zero without one.
func (c *commit) lastKey() kv.Key {
	if len(c.manifest.Keys) == 0 {
		return kv.Key{}
	}
	return c.manifest.Keys[len(c.manifest.Keys)-1]
}

// keptTailThere looks for the tail of an earlier turn that this one goes on naming.
func (c *commit) keptTailThere(s *Store) error {
	for _, ref := range c.manifest.Tail {
		if _, err := s.locate(ref); err != nil {
			return err
		}
	}
	return nil
}

func (c *commit) finish(w *writer, syncErr error) {
	if c.err == nil {
		c.err = c.durable(w, syncErr)
	}
	if c.err == nil && !c.flush {
		c.err = w.s.install(&c.manifest)
	}
	w.s.count(func(st *Stats) {
		switch {
		case c.err != nil:
			st.Errors++
		case !c.flush:
			st.Published++
		}
	})
	c.done <- c.err
}

// durable is asked after the sync: a sync that failed, now or when a segment was
// closed before, has made blocks missing and segments lost.
func (c *commit) durable(w *writer, syncErr error) error {
	if c.flush {
		return syncErr
	}
	for _, at := range c.at {
		if at.seg.lost != nil {
			return fmt.Errorf("tail is lost: %w", at.seg.lost)
		}
	}
	return c.blocksThere(w)
}

func (c *commit) blocksThere(w *writer) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for id := range blocksOf(&c.manifest) {
		if _, ok := w.s.index[id]; ok {
			continue
		}
		err := ofBlock(id, ErrMissing)
		if w.lastErr != nil {
			err = fmt.Errorf("%w: %w", err, w.lastErr)
		}
		return err
	}
	return nil
}

func (s *Store) install(m *Manifest) error {
	id := agentID{m.Namespace, m.ID}
	before := s.agent(id)
	s.complete(m, before)
	dir := s.agentDir(id)
	if before == nil {
		if err := s.makeAgentDir(dir); err != nil {
			return err
		}
	}
	data := format.EncodeManifest(m)
	if err := s.writeManifest(dir, data, before); err != nil {
		s.reload(id)
		return err
	}
	s.setAgent(id, &agent{headerOf(m, s.diskBytes(m, len(data))), true})
	return nil
}

// writeManifest keeps the one before, if there is one worth keeping.
func (s *Store) writeManifest(dir string, data []byte, before *agent) error {
	path := filepath.Join(dir, manifestName)
	if before == nil || !before.intact {
		return vfs.WriteFile(s.o.FS, path, data)
	}
	return vfs.WriteFileKeeping(s.o.FS, path, filepath.Join(dir, keptName), data)
}

// makeAgentDir makes an agent's folder and its name durable. The folder may be
// there from a publish that failed: its name is synced all the same.
func (s *Store) makeAgentDir(dir string) error {
	if err := s.o.FS.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return s.o.FS.SyncDir(s.agentsDir)
}

func (s *Store) complete(m *Manifest, before *agent) {
	now := s.o.Clock().UTC()
	if m.Created.IsZero() {
		m.Created = now
		if before != nil {
			m.Created = before.header.Created
		}
	}
	if m.LastUsed.IsZero() {
		m.LastUsed = now
	}
	m.ModelFingerprint, m.KVFingerprint = s.o.ModelFingerprint, s.o.KVFingerprint
}

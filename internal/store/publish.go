package store

import (
	"context"
	"fmt"
	"sync/atomic"

	"mneme/internal/quant"
	"mneme/internal/store/format"
	"mneme/internal/store/frames"
	"mneme/internal/token"
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
	fork     bool // the agent is new, and a member of a family
	state    atomic.Int32
	done     chan error // of 1: the result

	// the writer's
	err  error
	at   []frames.Place // of the tail frames
	pins *format.Card   // names its frames until it is finished: others let go of theirs
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
// is made from them, without it is kept as given: naming what is stored writes no frame. After another error the agent
// stands at this turn or at the one before; publishing again is allowed.
//
// When ctx ends before the writer has begun, nothing is published; after that,
// Publish waits for the result.
func (s *Store) Publish(ctx context.Context, m Manifest, tail []TailBlock) error {
	return s.publish(ctx, "publish", &commit{manifest: clipped(m), tail: tail})
}

func (s *Store) publish(ctx context.Context, what string, c *commit) error {
	m := &c.manifest
	m.ModelFingerprint, m.KVFingerprint = s.o.ModelFingerprint, s.o.KVFingerprint
	if err := format.CheckManifest(m); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := s.commit(ctx, c); err != nil {
		return fmt.Errorf("store: %s %q: %w", what, m.ID, err)
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
// one sync, then each agent's file.
func (c *commit) run(w *writer) {
	all := w.s.takeCommits([]*commit{c})
	var taken []*commit
	for _, c := range all {
		if c.state.CompareAndSwap(commitQueued, commitTaken) {
			c.writeTail(w)
			taken = append(taken, c)
		}
	}
	syncErr := w.out.Sync()
	for _, c := range taken {
		c.finish(w, syncErr)
	}
	w.out.Look()
}

// writeTail appends the tail frames, when all else that the commit names is there.
func (c *commit) writeTail(w *writer) {
	given := c.manifest.Tail
	if len(c.tail) > 0 {
		given = nil
	}
	c.manifest.Tail = given
	if c.err = c.framesThere(w); c.err != nil {
		return
	}
	for _, t := range c.tail {
		ref := TailRef{
			Key: c.manifest.TailKey(t.Tokens), Group: t.Group, Form: t.Form,
			Tokens: len(t.Tokens), Bytes: t.SizeBytes,
		}
		if c.err = c.appendTail(w, ref, t); c.err != nil {
			return
		}
		c.manifest.Tail = append(c.manifest.Tail, ref)
	}
	c.pin(w.s.frames)
}

func (c *commit) pin(shelf *frames.Shelf) {
	card := format.CardOf(&c.manifest, nil, format.Mark{})
	c.pins = &card
	shelf.Name(card.Frames())
}

func (c *commit) unpin(shelf *frames.Shelf) {
	if c.pins != nil {
		shelf.Unname(c.pins.Frames())
	}
	if c.err != nil {
		shelf.DropTails(c.manifest.Tail)
	}
}

// appendTail writes a tail that is not stored yet. Same key, same bytes.
func (c *commit) appendTail(w *writer, ref TailRef, t TailBlock) error {
	if w.s.frames.HasShape(ref.ID(), ref.Shape()) {
		return nil
	}
	f := format.Frame{
		Kind: format.Tail, Form: t.Form, Group: t.Group, Tokens: t.Tokens,
		PayloadBytes: t.SizeBytes, Key: ref.Key, Parent: c.manifest.LastKey(),
	}
	at, err := w.out.Append(c.manifest.Namespace, f, t.Copy)
	if err == nil {
		c.at = append(c.at, at)
	}
	return err
}

func (c *commit) finish(w *writer, syncErr error) {
	if c.err == nil {
		c.err = c.durable(w, syncErr)
	}
	switch {
	case c.err != nil || c.flush:
	case c.fork:
		c.err = w.fork(&c.manifest)
	default:
		c.err = w.install(&c.manifest)
	}
	c.unpin(w.s.frames)
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
// closed before, has made frames missing and segments lost.
func (c *commit) durable(w *writer, syncErr error) error {
	if c.flush {
		return syncErr
	}
	for _, at := range c.at {
		if err := at.Lost(); err != nil {
			return fmt.Errorf("tail is lost: %w", err)
		}
	}
	return c.framesThere(w)
}

func (c *commit) framesThere(w *writer) error {
	card := format.CardOf(&c.manifest, nil, format.Mark{})
	id, missing := w.s.frames.Missing(card.Frames())
	if !missing {
		return nil
	}
	err := ofBlock(id, ErrMissing)
	if last := w.out.LastErr(); last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return err
}

package store

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"mneme/internal/store/export"
	"mneme/internal/store/format"
)

// Imported is an export that was read and checked to its last byte: its manifest,
// and its frames one by one.
type Imported = export.Reader

// ImportReader checks all of an export before anything of it can be used: sums,
// keys, tokens. Memory is bounded by its manifest and one frame. Whether the
// fingerprints are ours is the caller's to ask.
func ImportReader(r io.ReaderAt, sizeBytes int64) (*Imported, error) {
	in, err := export.Open(r, sizeBytes)
	if err != nil {
		return nil, fmt.Errorf("store: import: %w", err)
	}
	return in, nil
}

// Adopt hands an export's blocks to the writer, no faster than that takes them, and
// gives its tails, for the Publish of Imported.Stored. It returns early with ctx.
func (s *Store) Adopt(ctx context.Context, in *Imported) (tails []TailBlock, err error) {
	for f, err := range in.Frames() {
		if err == nil && !s.Room() {
			err = s.Flush(ctx)
		}
		if err != nil {
			return nil, err
		}
		data := bytes.Clone(f.Payload)
		fill := func(dst []byte) { copy(dst, data) }
		if f.Kind == format.Tail {
			tails = append(tails, TailBlock{Group: f.Group, Form: f.Form, Tokens: f.Tokens, SizeBytes: len(data), Copy: fill})
			continue
		}
		s.Append(Block{
			Namespace: in.Manifest.Namespace, Key: in.Manifest.Keys[f.Index], Parent: f.Parent, Group: f.Group, Form: f.Form, Tokens: f.Tokens,
			SizeBytes: len(data), Copy: fill, Done: func() {},
		})
	}
	if len(in.Stored.Tail) == 0 {
		return nil, nil
	}
	return tails, nil
}

// Export writes an agent as one file: its manifest and, with KV, each frame it
// names that is stored, checked on the way. A frame that turns out damaged is
// left out and forgotten; who imports computes it anew.
func (s *Store) Export(w io.Writer, m Manifest, withKV bool) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if !withKV {
		m.Tail = nil
	}
	if err := s.export(w, &m, withKV); err != nil {
		return fmt.Errorf("store: export %q: %w", m.ID, err)
	}
	return nil
}

func (s *Store) export(w io.Writer, m *Manifest, withKV bool) error {
	out, err := export.New(w, m)
	if err != nil {
		return err
	}
	if withKV {
		card := format.CardOf(m, nil, format.Mark{})
		for id := range card.Frames() {
			if err := s.exportFrame(out, id); err != nil {
				return err
			}
		}
	}
	return out.Close()
}

func (s *Store) exportFrame(out *export.Writer, id format.BlockID) error {
	frame, err := s.frames.Raw(id)
	if err != nil {
		return nil // missing, or damaged and forgotten now
	}
	return out.Frame(frame)
}

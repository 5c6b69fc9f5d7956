package proof

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"mneme/internal/engine"
	"mneme/internal/kv"
	"mneme/internal/store"
	"mneme/internal/store/format"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// past is a data folder that was closed well, and what its agents would say next
// if nothing happened to it.
type past struct {
	cover    cover
	files    folder
	subjects []*subject
}

// subject is an agent of a past.
type subject struct {
	id       engine.AgentID
	manifest store.Manifest
	fresh    [2][]token.ID // what is said next, and after that
	want     [2]answer
}

// prompts are the next two: the whole history, and then that with what was said.
func (s *subject) prompt(n int) []token.ID {
	p := join(s.manifest.Tokens, s.fresh[0])
	if n == 1 {
		p = join(p, s.want[0].ids, s.fresh[1])
	}
	return p
}

// formula is what an unchanged agent has cached at its next turn.
func (s *subject) formula() int { return len(s.manifest.Tokens) - 1 }

func (s *subject) sealed() int { return len(s.manifest.Keys) * kv.BlockTokens }

// newPast: ada takes three turns, eve goes on from the second, and fay stands
// there and says nothing; a turn of bob cannot be written, so that his next one
// replaces his file and keeps the old one back.
func newPast(t testing.TB, c cover) *past {
	t.Helper()
	var full atomic.Bool
	inner := vfs.NewCrashable()
	h := mustOpen(t, vfs.NewFailing(inner, func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpWrite && !strings.HasSuffix(op.Name, ".seg") {
			return errInjected
		}
		return nil
	}), c)
	histories := map[engine.AgentID][]token.ID{}
	say := func(id engine.AgentID, n, seed int) error {
		prompt := join(histories[id], words(n, seed))
		a, done, err := h.ask(namespace, id, prompt)
		must(t, err)
		histories[id] = join(prompt, a.ids)
		return done.PublishErr
	}
	must(t, errors.Join(say("ada", 150, 3), say("bob", 90, 5), say("ada", 40, 7)))
	for _, id := range []engine.AgentID{"eve", "fay"} {
		_, err := h.Fork(context.Background(), namespace, "ada", id, engine.LastTurn)
		must(t, err)
		histories[id] = histories["ada"]
	}
	full.Store(true)
	if err := say("bob", 50, 9); !errors.Is(err, errInjected) {
		t.Fatalf("bob's second turn: %v", err)
	}
	full.Store(false)
	must(t, errors.Join(say("eve", 45, 11), say("ada", 60, 13), say("bob", 20, 15)))
	p := &past{cover: c}
	for i, id := range []engine.AgentID{"ada", "bob", "eve", "fay"} {
		m, err := h.store.Load(namespace, string(id))
		must(t, err)
		p.subjects = append(p.subjects, &subject{id: id, manifest: m, fresh: [2][]token.ID{words(30, 17+i), words(10, 20+i)}})
	}
	must(t, h.close())
	p.files = folderOf(t, inner)
	p.foresee(t)
	return p
}

// foresee asks what comes next of agents that nobody harms.
func (p *past) foresee(t testing.TB) {
	t.Helper()
	h := mustOpen(t, p.files.disk(t, "", nil), p.cover)
	for n := range 2 {
		for _, s := range p.subjects {
			a, done, err := h.ask(namespace, s.id, s.prompt(n))
			must(t, errors.Join(err, done.PublishErr))
			s.want[n] = a
			if n == 0 && done.Usage.Cached != s.formula() {
				t.Errorf("%s: %d tokens cached, want %d", s.id, done.Usage.Cached, s.formula())
			}
			alone, _, err := h.ask("alone", "", s.prompt(n))
			if must(t, err); !alone.same(a) {
				t.Errorf("%s says %v, uncached %v", s.id, a, alone)
			}
		}
	}
	must(t, h.close())
}

// region is a part of files that means one thing, such as the heads of frames.
type region struct {
	name  string
	spans []span
}

// span is a stretch of one file.
type span struct {
	path     string
	from, to int
	frame    kv.Key         // it is in, if it is in one
	owner    engine.AgentID // of an agent's file, if it says whose it is
}

// regions divides every file.
func (p *past) regions() []*region {
	byName := map[string]*region{}
	var list []*region
	add := func(name string, s span) {
		if s.from == s.to {
			return
		}
		if byName[name] == nil {
			byName[name] = &region{name: name}
			list = append(list, byName[name])
		}
		byName[name].spans = append(byName[name].spans, s)
	}
	for path, data := range p.files {
		switch name := filepath.Base(path); {
		case strings.HasSuffix(name, ".seg"):
			segmentRegions(path, data, add)
		case strings.HasSuffix(name, ".idx"):
			add("index head", span{path: path, to: 64})
			add("index entries", span{path: path, from: 64, to: len(data)})
		case strings.HasPrefix(name, "journal"):
			recordRegions(path, name, data, p.ownerOf(path), add)
		case filepath.Base(filepath.Dir(path)) == "families":
			recordRegions(path, "family"+filepath.Ext(path), data, "", add)
		case filepath.Base(filepath.Dir(path)) == "keys":
			add("key, first copy", span{path: path, to: 80})
			add("key, between", span{path: path, from: 80, to: 4096})
			add("key, second copy", span{path: path, from: 4096, to: len(data)})
		default:
			head := min(16, len(data))
			add(name+" head", span{path: path, to: head})
			add(name+" body", span{path: path, from: head, to: len(data)})
		}
	}
	slices.SortFunc(list, func(a, b *region) int { return strings.Compare(a.name, b.name) })
	for _, r := range list {
		slices.SortFunc(r.spans, func(a, b span) int { return strings.Compare(a.path, b.path) })
	}
	return list
}

func segmentRegions(path string, data []byte, add func(string, span)) {
	add("segment head", span{path: path, to: format.SegmentHeadBytes})
	for at := format.SegmentHeadBytes; at < len(data); {
		size, err := format.FrameBytesAt(bytes.NewReader(data), int64(at), int64(len(data)))
		if err != nil {
			add("segment rest", span{path: path, from: at, to: len(data)})
			return
		}
		frameRegions(path, data[at:at+int(size)], at, add)
		at += int(size)
	}
}

// frameRegions divides a frame that lies at an offset of a segment.
func frameRegions(path string, b []byte, at int, add func(string, span)) {
	le := binary.LittleEndian
	ids, payload := 4*int(le.Uint32(b[12:])), int(le.Uint64(b[16:]))
	idsAt := 96
	if le.Uint16(b[4:]) == 2 { // encrypted: key and nonces before the ids, and tags
		idsAt, ids, payload = 128, ids+16, payload+16
	}
	body := (idsAt + ids + 63) / 64 * 64
	kind := map[byte]string{1: "block", 2: "tail"}[b[6]]
	from := 0
	for _, part := range []struct {
		name string
		to   int
	}{
		{"head", 88}, {"sums", 96}, {"key and nonces", idsAt}, {"tokens", idsAt + ids}, {"head's zeros", body},
		{"payload", body + payload}, {"padding", len(b)},
	} {
		add(kind+" "+part.name, span{path: path, from: at + from, to: at + part.to, frame: kv.Key(b[24:56])})
		from = part.to
	}
}

// recordRegions divides a journal or a family.
func recordRegions(path, name string, data []byte, owner engine.AgentID, add func(string, span)) {
	le := binary.LittleEndian
	at := 20 + int(le.Uint32(data[16:]))
	add(name+" head", span{path: path, to: at, owner: owner})
	for kind := "first record"; at+12 <= len(data); kind = "later record" {
		end := min(len(data), at+12+int(le.Uint32(data[at:])))
		add(name+" "+kind+"'s head", span{path: path, from: at, to: at + 12, owner: owner})
		add(name+" "+kind, span{path: path, from: at + 12, to: end, owner: owner})
		at = end
	}
}

// ownerOf is the agent whose folder a file is in: its name is a digest of both of
// the agent's.
func (p *past) ownerOf(path string) engine.AgentID {
	for _, s := range p.subjects {
		digest := sha256.New()
		for _, name := range []string{namespace, string(s.id)} {
			_ = binary.Write(digest, binary.LittleEndian, uint32(len(name))) // a hash takes all
			digest.Write([]byte(name))
		}
		if filepath.Base(filepath.Dir(path)) == hex.EncodeToString(digest.Sum(nil)) {
			return s.id
		}
	}
	return ""
}

// least is how many tokens of its next prompt an agent has cached at least, when
// this span is damaged: all before the block that it is in.
func (s *subject) least(at span) int {
	switch {
	case at.frame != kv.Key{}:
		if i := slices.Index(s.manifest.Keys, at.frame); i >= 0 {
			return i * kv.BlockTokens
		}
		if len(s.manifest.Tail) > 0 && s.manifest.Tail[0].Key == at.frame {
			return s.sealed()
		}
	case at.owner == s.id && strings.HasPrefix(filepath.Base(at.path), "journal"):
		return s.sealed() // its last turns and their tail are lost at most
	}
	return s.formula()
}

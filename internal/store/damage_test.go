package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/store/roster"
	"mneme/internal/store/segments"
	"mneme/internal/vfs"
)

// change edits one file on disk.
func change(t *testing.T, fsys vfs.FS, path string, edit func(b []byte) []byte) {
	t.Helper()
	data, err := vfs.ReadFile(fsys, path)
	must(t, err)
	must(t, vfs.WriteFile(fsys, path, edit(data)))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 0x10
		return b
	}
}

// twoBlocks is a closed store with two blocks in one segment, the first frame at 64.
func twoBlocks(t *testing.T) (fsys *vfs.Crashable, first, second Block) {
	t.Helper()
	fsys = vfs.NewCrashable()
	s := open(t, fsys)
	m := newActor("ada").say(2 * blockTokens)
	must(t, publish(s, m))
	must(t, s.Close())
	both := blocks(m, func() {})
	return fsys, both[0], both[1]
}

const (
	frameBytes = 256 // of a block of the stories: head, payload and padding
	padding    = 28  // of these, zeros after the payload

	firstSegment = "/data/kv/" + fingerprint + "/000001.seg"
	firstIndex   = "/data/kv/" + fingerprint + "/000001.idx"
)

func readBack(s *Store, b Block) error {
	return s.Read(b.Key, b.Group, b.Tokens, make([]byte, payloadBytes))
}

// Any byte of a frame that is not as written is found out, whether the segment
// is known by its index or by a scan; the block next to it is untouched, and the
// damaged one can be appended anew.
func TestDamageInEveryByteOfAFrame(t *testing.T) {
	for at := range frameBytes - padding {
		for _, indexed := range []bool{true, false} {
			fsys, first, second := twoBlocks(t)
			change(t, fsys, firstSegment, flip(format.SegmentHeadBytes+at))
			if !indexed {
				must(t, fsys.Remove(firstIndex))
			}
			s := open(t, fsys)
			err := readBack(s, first)
			var damaged *DamagedError
			switch {
			case indexed && !errors.As(err, &damaged):
				t.Errorf("byte %d: read says %v", at, err)
			case !indexed && !errors.Is(err, ErrMissing):
				t.Errorf("byte %d, scanned: read says %v", at, err)
			}
			if s.Has(first.Key, 0) || s.Stats().Quarantined != 1 {
				t.Errorf("byte %d: still there, stats %+v", at, s.Stats())
			}
			must(t, readBack(s, second))
			if err := s.Check(); err == nil {
				t.Errorf("byte %d: Check finds nothing missing", at)
			}
			s.Append(first)
			must(t, s.Flush(t.Context()))
			must(t, readBack(s, first))
			must(t, s.Check())
			must(t, s.Close())
			s = open(t, fsys) // the newer frame is used
			must(t, readBack(s, first))
			must(t, s.Close())
		}
	}
}

// A block that is not what the reader says it is does not reach it, and is forgotten.
func TestReadComparesWhatItAsksFor(t *testing.T) {
	fsys, first, second := twoBlocks(t)
	s := open(t, fsys)
	defer s.Close()
	dst := make([]byte, payloadBytes)
	if err := s.Read(second.Key, 1, second.Tokens, dst); !errors.Is(err, ErrMissing) {
		t.Errorf("other group: %v", err)
	}
	must(t, readBack(s, second))
	err := s.Read(second.Key, 0, first.Tokens, dst)
	var damaged *DamagedError
	want := "frame at 320 of " + firstSegment + " is damaged: its 4 tokens are not the 4 expected"
	if !errors.As(err, &damaged) || err.Error() != want {
		t.Errorf("other tokens:\n got %v\nwant %s", err, want)
	}
	if got := fmt.Sprint(s.Has(first.Key, 0), s.Has(second.Key, 0), s.Stats().Quarantined); got != "true false 1" {
		t.Errorf("first there, second there, quarantined = %s", got)
	}
}

// A segment cut anywhere keeps the frames before the cut.
func TestTornSegment(t *testing.T) {
	for cut := range format.SegmentHeadBytes + 2*frameBytes {
		for _, indexed := range []bool{true, false} {
			fsys, first, second := twoBlocks(t)
			change(t, fsys, firstSegment, func(b []byte) []byte { return b[:cut] })
			if !indexed {
				must(t, fsys.Remove(firstIndex))
			}
			s := open(t, fsys)
			got := [2]bool{readBack(s, first) == nil, readBack(s, second) == nil}
			if want := [2]bool{cut >= format.SegmentHeadBytes+frameBytes, false}; got != want {
				t.Errorf("cut at %d: readable %v, want %v", cut, got, want)
			}
			must(t, s.Close())
		}
	}
}

// Segments that shrink under a running store are an error, not a signal.
func TestSegmentShrinksOrVanishesWhileOpen(t *testing.T) {
	o := options(vfs.Real())
	o.Dir = t.TempDir()
	s, err := Open(o)
	must(t, err)
	m := newActor("ada").say(2 * blockTokens)
	must(t, publish(s, m))
	seg := segments.Folder{Dir: filepath.Join(o.Dir, "kv", fingerprint)}.Path(1)
	must(t, os.Truncate(seg, 100))
	var damaged *DamagedError
	if err := readBack(s, blocks(m, nil)[0]); !errors.As(err, &damaged) {
		t.Errorf("shrunk: %v", err)
	}
	must(t, s.Close())

	s, err = Open(o)
	must(t, err)
	must(t, publish(s, m))
	must(t, s.Close())
	s, err = Open(o)
	must(t, err)
	must(t, os.Remove(segments.Folder{Dir: filepath.Join(o.Dir, "kv", fingerprint)}.Path(2)))
	if err := readBack(s, blocks(m, nil)[0]); !errors.As(err, &damaged) {
		t.Errorf("vanished: %v", err)
	}
	must(t, s.Close())
}

// Without a usable index the segment is scanned, with the same result, and has
// an index again.
func TestDamagedIndexIsMadeAnew(t *testing.T) {
	fsys, _, _ := twoBlocks(t)
	good, err := vfs.ReadFile(fsys, firstIndex)
	must(t, err)
	for at := range good {
		fsys, first, second := twoBlocks(t)
		change(t, fsys, firstIndex, flip(at))
		s := open(t, fsys)
		must(t, readBack(s, first))
		must(t, readBack(s, second))
		must(t, s.Check())
		must(t, s.Close())
		again, err := vfs.ReadFile(fsys, firstIndex)
		must(t, err)
		if string(again) != string(good) {
			t.Errorf("byte %d: index made anew differs", at)
		}
	}
}

func TestDamagedSegmentHeadCostsNothing(t *testing.T) {
	for at := range format.SegmentHeadBytes {
		fsys, first, second := twoBlocks(t)
		change(t, fsys, firstSegment, flip(at))
		must(t, fsys.Remove(firstIndex))
		s := open(t, fsys)
		must(t, readBack(s, first))
		must(t, readBack(s, second))
		must(t, s.Close())
	}
}

const cataloguePath = "/data/agents/" + roster.CatalogueName

func journalPath(ns, id, name string) string {
	return filepath.Join("/data/agents", journal.Folder(ns, id), name)
}

// threeTurns is a closed store whose one agent has a snapshot and two turn
// records in its file; marks are where these end.
func threeTurns(t *testing.T) (fsys *vfs.Crashable, ada *actor, marks [3]int64) {
	t.Helper()
	fsys, ada = vfs.NewCrashable(), newActor("ada")
	s := open(t, fsys)
	for i, n := range []int{6, 3, 4} {
		must(t, publish(s, ada.say(n)))
		marks[i] = s.roster.Agent(agentID{Namespace: "default", ID: "ada"}).Card.End
	}
	must(t, s.Close())
	must(t, fsys.Remove(cataloguePath))
	return fsys, ada, marks
}

// An agent's file, flipped or cut at any byte, gives the turn before the damage
// and says so; the next publish puts things right. Of a damaged snapshot nothing
// is left, and the agent says why.
func TestDamagedJournalFallsBack(t *testing.T) {
	path := journalPath("default", "ada", journal.Name)
	_, _, marks := threeTurns(t)
	for at := range marks[2] {
		want := 0
		for want < 2 && at >= marks[want] {
			want++
		}
		for _, edit := range []func([]byte) []byte{flip(int(at)), func(b []byte) []byte { return b[:at] }} {
			fsys, ada, _ := threeTurns(t)
			change(t, fsys, path, edit)
			s := open(t, fsys)
			if want == 0 {
				var damaged *DamagedError
				if _, err := s.Load("default", "ada"); !errors.As(err, &damaged) && !errors.Is(err, ErrNoAgent) {
					t.Errorf("byte %d: load says %v", at, err)
				}
				if len(s.Damaged()) != 1 || len(s.List()) == 1 && s.List()[0].Damaged == "" {
					t.Errorf("byte %d: damaged %v, listed %v", at, s.Damaged(), s.List())
				}
				must(t, s.Close())
				continue
			}
			turn, err := fallen(s, ada)
			must(t, err)
			wasCut := at == marks[want-1] && s.roster.Agent(agentID{Namespace: "default", ID: "ada"}).Appendable // cut between two records
			if turn != want || s.List()[0].Turns != want || s.Stats().DamagedManifests == 0 && !wasCut {
				t.Errorf("byte %d: turn %d, listed %+v, want turn %d", at, turn, s.List()[0], want)
			}
			must(t, publish(s, ada.say(2)))
			must(t, s.Check())
			must(t, s.Close())
			s = open(t, fsys)
			if turn, err = standsAt(s, ada); err != nil || turn != 4 {
				t.Errorf("byte %d: next turn is %d, %v", at, turn, err)
			}
			must(t, s.Close())
		}
	}
}

// grow publishes turns until an agent's file was written anew once.
func grow(t *testing.T, s *Store, a *actor) {
	t.Helper()
	for s.roster.Agent(agentID{Namespace: "default", ID: a.id}).Card.SnapshotBytes < compactBytes/2 {
		m := a.say(blockTokens * 64)
		must(t, publish(s, m))
		must(t, s.Collect(t.Context()))
	}
}

// With a file kept back a damaged snapshot costs turns, not the agent.
func TestDamagedSnapshotFallsBackToTheFileKeptBack(t *testing.T) {
	fsys, ada := vfs.NewCrashable(), newActor("ada")
	s := open(t, fsys)
	must(t, publish(s, ada.say(6)))
	grow(t, s, ada)
	turns := len(ada.turns)
	must(t, publish(s, ada.say(6)))
	must(t, s.Close())
	must(t, fsys.Remove(cataloguePath))
	change(t, fsys, journalPath("default", "ada", journal.Name), flip(200))
	s = open(t, fsys)
	turn, err := fallen(s, ada)
	must(t, err)
	if turn != turns || len(s.Damaged()) != 1 || s.Damaged()[0].ID != "ada" {
		t.Errorf("turn %d, want %d; damaged %v", turn, turns, s.Damaged())
	}
	must(t, publish(s, ada.say(3)))
	must(t, s.Check())
	must(t, s.Close())
	change(t, fsys, journalPath("default", "ada", journal.Kept), flip(200))
	must(t, fsys.Remove(cataloguePath))
	s = open(t, fsys)
	if turn, err = standsAt(s, ada); err != nil || turn != len(ada.turns) {
		t.Errorf("turn %d of %d, %v", turn, len(ada.turns), err)
	}
	must(t, s.Close())
}

// Damage that comes while the store runs is found when the file is read.
func TestJournalDamagedUnderWay(t *testing.T) {
	fsys, ada, marks := threeTurns(t)
	s := open(t, fsys)
	change(t, fsys, journalPath("default", "ada", journal.Name), flip(int(marks[1])+20))
	if err := s.Check(); err == nil {
		t.Error("Check finds nothing")
	}
	turn, err := fallen(s, ada)
	must(t, err)
	h, ok := s.Header("default", "ada")
	if got := fmt.Sprint(turn, h.Turns, ok, s.Stats().DamagedManifests); got != "2 2 true 1" {
		t.Errorf("turn, header, counted = %s", got)
	}
	must(t, publish(s, ada.say(1)))
	must(t, s.Check())
	must(t, s.Close())
}

// An agent that cannot be read is listed with the reason, survives restarts as
// that, can be begun anew, and can be deleted.
func TestDamagedAgentIsListed(t *testing.T) {
	fsys, ada, _ := threeTurns(t)
	change(t, fsys, journalPath("default", "ada", journal.Name), flip(60))
	for range 2 {
		s := open(t, fsys)
		var damaged *DamagedError
		if _, err := s.Load("default", "ada"); !errors.As(err, &damaged) || len(s.List()) != 1 || s.List()[0].Damaged == "" {
			t.Errorf("load: %v, list %v", err, s.List())
		}
		must(t, s.Close())
	}
	s := open(t, fsys)
	must(t, publish(s, ada.say(1)))
	if turn, err := standsAt(s, ada); err != nil || turn != 4 || s.List()[0].Damaged != "" {
		t.Errorf("turn %d, %v, list %v", turn, err, s.List())
	}
	must(t, s.Close())
	must(t, fsys.Remove(cataloguePath))
	change(t, fsys, journalPath("default", "ada", journal.Name), flip(60))
	s = open(t, fsys)
	must(t, s.Delete("default", "ada"))
	if len(s.List()) != 0 || s.Stats().Blocks != 0 {
		t.Errorf("left %v, %d blocks", s.List(), s.Stats().Blocks)
	}
	must(t, s.Close())
}

// An intact file of another version stops the start with both numbers.
func TestOtherVersions(t *testing.T) {
	le, castagnoli := binary.LittleEndian, crc32.MakeTable(crc32.Castagnoli)
	resum := func(b []byte) []byte {
		le.PutUint32(b[8:], 7)
		le.PutUint32(b[12:], crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:]))
		return b
	}
	for _, c := range []struct {
		path string
		know int
		edit func([]byte) []byte
	}{
		{journalPath("default", "ada", journal.Name), 3, func(b []byte) []byte {
			head := b[:20+le.Uint32(b[16:])]
			le.PutUint32(b[8:], 7)
			le.PutUint32(b[12:], crc32.Update(crc32.Checksum(head[:12], castagnoli), castagnoli, head[16:]))
			return b
		}},
		{firstSegment, 2, func(b []byte) []byte {
			le.PutUint32(b[8:], 7)
			le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
			return b
		}},
	} {
		fsys, _, _ := twoBlocks(t)
		change(t, fsys, c.path, c.edit)
		must(t, fsys.Remove(firstIndex))
		must(t, fsys.Remove(cataloguePath))
		_, err := Open(options(fsys))
		var version *VersionError
		if !errors.As(err, &version) || !strings.Contains(err.Error(), fmt.Sprint("has format version 7, this program reads version ", c.know)) {
			t.Errorf("%s: %v", c.path, err)
		}
		if fsys.Handles() != 0 {
			t.Errorf("%s: %d handles left", c.path, fsys.Handles())
		}
	}
	fsys, first, _ := twoBlocks(t) // an index is only made anew
	change(t, fsys, firstIndex, resum)
	s := open(t, fsys)
	must(t, readBack(s, first))
	must(t, s.Close())
}

// An agent whose KV has another fingerprint keeps its tokens; its blocks and its
// tail are not there.
func TestOtherKVFingerprint(t *testing.T) {
	fsys, ada := vfs.NewCrashable(), newActor("ada")
	s := open(t, fsys)
	must(t, publish(s, ada.say(6)))
	must(t, s.Close())
	o := options(fsys)
	o.KVFingerprint = "0f0f"
	s, err := Open(o)
	must(t, err)
	m, err := s.Load("default", "ada")
	must(t, err)
	if m.KVFingerprint != fingerprint || len(m.Tokens) != 6 || s.Has(m.Keys[0], 0) {
		t.Errorf("manifest %+v", m)
	}
	if err := s.ReadTail(m.Tail[0], m.Tokens[4:], make([]byte, payloadBytes)); !errors.Is(err, ErrMissing) {
		t.Errorf("tail: %v", err)
	}
	must(t, s.Check())
	must(t, s.Close())
}

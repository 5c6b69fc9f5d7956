package segments

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder has one segment of three frames of 192 bytes and a torn fourth.
func folder(t *testing.T) (Folder, []format.Entry) {
	t.Helper()
	f := Folder{FS: vfs.NewCrashable(), Dir: "/kv", Fingerprint: "a1"}
	must(t, vfs.MkdirDurable(f.FS, f.Dir))
	data := Head(7, "a1", format.Plain)
	var entries []format.Entry
	for i := range 4 {
		frame := format.Frame{Kind: format.Block, PayloadBytes: 10, Key: kv.Key{byte(i + 1)}}
		entries = append(entries, frame.Entry(int64(len(data))))
		b := make([]byte, frame.Shape().FrameBytes())
		frame.Encode(b, func(dst []byte) { copy(dst, bytes.Repeat([]byte{byte('a' + i)}, 10)) })
		data = append(data, b...)
	}
	must(t, vfs.WriteFile(f.FS, f.Path(7), data[:len(data)-60]))
	return f, entries[:3]
}

// Without an index a segment is scanned, cut after its last whole frame, and has
// an index that the next start believes.
func TestLoadMendsASegment(t *testing.T) {
	f, entries := folder(t)
	must(t, vfs.WriteFile(f.FS, f.IndexPath(3), nil))
	must(t, vfs.WriteFile(f.FS, "/kv/000007.idx.new", nil))
	listed, err := f.List()
	must(t, err)
	if got := fmt.Sprint(len(listed.Segments), listed.Segments[0].Number, listed.Stray); got != "1 7 [/kv/000003.idx /kv/000007.idx.new]" {
		t.Errorf("listed %s", got)
	}
	for _, scanned := range []bool{true, false} {
		listed, err = f.List()
		must(t, err)
		found, err := f.Load(listed.Segments[0])
		must(t, err)
		if !reflect.DeepEqual(found.Entries, entries) || found.End != entries[2].End() || (found.Why != nil) != scanned {
			t.Errorf("scanned %v: found %+v", scanned, found)
		}
	}
	if listed.Segments[0].Bytes != entries[2].End() {
		t.Errorf("the torn tail is still there: %d bytes", listed.Segments[0].Bytes)
	}
}

// Erasing leaves zeros for what is not kept, which a scan steps over in silence.
func TestErase(t *testing.T) {
	f, entries := folder(t)
	n, err := f.Erase(7, entries[2].End(), []format.Entry{entries[1]})
	must(t, err)
	data, err := vfs.ReadFile(f.FS, f.Path(7))
	must(t, err)
	if n != 2*192 || bytes.Contains(data, []byte("aa")) || bytes.Contains(data, []byte("cc")) || !bytes.Contains(data, []byte("bb")) {
		t.Errorf("%d bytes erased of %d", n, len(data))
	}
	must(t, f.FS.Remove(f.IndexPath(7)))
	found, err := f.Scan(Segment{7, int64(len(data))})
	must(t, err)
	if !slices.Equal(found.Entries, entries[1:2]) || found.Damaged != 0 {
		t.Errorf("found %+v", found)
	}
	if n, err = f.Erase(7, entries[2].End(), nil); err != nil || n != entries[2].End() {
		t.Errorf("%d bytes erased, %v", n, err)
	}
	if listed, err := f.List(); err != nil || len(listed.Segments) != 0 {
		t.Errorf("left %v, %v", listed, err)
	}
}

func TestWriteHead(t *testing.T) {
	f, entries := folder(t)
	data, err := vfs.ReadFile(f.FS, f.Path(7))
	must(t, err)
	data[9]++
	must(t, vfs.WriteFile(f.FS, f.Path(7), data))
	seg := Segment{7, int64(len(data))}
	found, err := f.Scan(seg)
	if err != nil || found.Head == nil || len(found.Entries) != len(entries) {
		t.Errorf("damaged head: %+v %v", found, err)
	}
	must(t, f.WriteHead(7, entries))
	if found, err = f.Scan(seg); err != nil || found.Head != nil {
		t.Errorf("mended head: %+v %v", found, err)
	}
}

package export

import (
	"bytes"
	"fmt"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/token"
)

// file is an agent of five tokens in blocks of two, two groups: those of the
// frames that have a name in have, in the order of an export.
func file(t testing.TB, have string) []byte {
	t.Helper()
	m := format.Manifest{Namespace: "team", ID: "ada", KVFingerprint: "a1", Tokens: []token.ID{1, 2, 3, 4, 5}, Groups: 2, KVTokens: 5, BlockTokens: 2}
	m.Keys = m.Scope().Chain(m.Tokens, 2)
	for group := range 2 {
		m.Tail = append(m.Tail, format.TailRef{Key: m.TailKey(m.Tokens[4:]), Group: group, Tokens: 1, Bytes: 8})
	}
	frames := map[byte]format.Frame{}
	for group := range 2 {
		for i, key := range m.Keys {
			frames["abcd"[2*group+i]] = format.Frame{Kind: format.Block, Group: group, Key: key, Tokens: m.Tokens[2*i : 2*i+2], PayloadBytes: 8}
		}
		frames["xy"[group]] = format.Frame{Kind: format.Tail, Group: group, Key: m.Tail[group].Key, Tokens: m.Tokens[4:], PayloadBytes: 8}
	}
	var out bytes.Buffer
	w, err := New(&out, &m)
	if err != nil {
		t.Fatal(err)
	}
	for i := range have {
		f := frames[have[i]]
		b := make([]byte, f.Shape().FrameBytes())
		f.Encode(b, func(dst []byte) { copy(dst, kv.Key{}.String()) })
		if err := w.Frame(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What is stored of an export are blocks that every group has, from the first on,
// and a tail that follows on all of them.
func TestWhatAnExportStores(t *testing.T) {
	for _, c := range []struct{ have, want string }{
		{"abcdxy", "2 keys, 5 tokens of KV, 2 tails"},
		{"abcd", "2 keys, 4 tokens of KV, 0 tails"},
		{"abcdx", "2 keys, 4 tokens of KV, 0 tails"},
		{"abcxy", "1 keys, 2 tokens of KV, 0 tails"},
		{"bcdxy", "0 keys, 0 tokens of KV, 0 tails"},
		{"", "0 keys, 0 tokens of KV, 0 tails"},
	} {
		b := file(t, c.have)
		r, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%q: %v", c.have, err)
			continue
		}
		if got := fmt.Sprintf("%d keys, %d tokens of KV, %d tails", len(r.Stored.Keys), r.Stored.KVTokens, len(r.Stored.Tail)); got != c.want {
			t.Errorf("%q stores %s, want %s", c.have, got, c.want)
		}
	}
	for _, have := range []string{"ba", "aa", "ca", "xa"} {
		b := file(t, have)
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%q is read", have)
		}
	}
}

// Bytes nobody wrote are an error, never a panic; what was checked once is read.
func FuzzImport(f *testing.F) {
	f.Add(file(f, "abcdxy"))
	f.Add(file(f, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, err := range r.Frames() {
			if err != nil {
				t.Errorf("checked, and yet: %v", err)
			}
		}
	})
}

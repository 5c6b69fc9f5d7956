package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/token"
)

// A manifest is a head of 24 bytes and a body of fields in a fixed order:
//
//	 0  magic "MNEMEMAN"
//	 8  version      u32
//	12  sum          u32  crc32c of [0,12) and [16,end)
//	16  body         u64  bytes
//	24  namespace, id, model, parent, model fingerprint, KV fingerprint: strings
//	    created, last used: times
//	    n, n * token id; 0 or 1, then n * (offset - offset before it)
//	    turns: n, n * (turn, tokens, text end, prompt, cached, completion, finish, created)
//	    keys: n, n * 32 bytes; groups; KV tokens; block tokens
//	    tail: n, n * (key, group, form, tokens, bytes)
//	    pinned: 0 or 1; since version 2
//
// Numbers are LEB128 varints, differences and times (Unix nanoseconds, 0 for
// none) zigzag; a string is its length and its bytes.
const (
	manifestMagic     = "MNEMEMAN"
	manifestVersion   = 2
	manifestHeadBytes = 24
)

// EncodeManifest is a manifest as a piece of its own, as exports carry it.
func EncodeManifest(m *Manifest) []byte {
	b := make(encoder, manifestHeadBytes, manifestHeadBytes+256+4*len(m.Tokens)+32*len(m.Keys))
	copy(b, manifestMagic)
	binary.LittleEndian.PutUint32(b[8:], manifestVersion)
	b.manifest(m)
	binary.LittleEndian.PutUint64(b[16:], uint64(len(b)-manifestHeadBytes))
	binary.LittleEndian.PutUint32(b[12:], fileSum(b))
	return b
}

func (b *encoder) manifest(m *Manifest) {
	each([]string{m.Namespace, m.ID, m.Model, m.Parent, m.ModelFingerprint, m.KVFingerprint}, b.string)
	b.time(m.Created)
	b.time(m.LastUsed)
	b.tokens(m.Tokens)
	b.ends(m.Ends, m.Ends != nil, 0)
	b.turns(m.Turns)
	b.keys(m.Keys)
	b.counts(m.Groups, m.KVTokens, m.BlockTokens)
	b.tails(m.Tail)
	b.flag(m.Pinned)
}

// encoder is a body being written.
type encoder []byte

func (b *encoder) count(n int)        { *b = binary.AppendUvarint(*b, uint64(n)) }
func (b *encoder) difference(n int)   { *b = binary.AppendVarint(*b, int64(n)) }
func (b *encoder) string(s string)    { b.count(len(s)); *b = append(*b, s...) }
func (b *encoder) time(t time.Time)   { *b = binary.AppendVarint(*b, unixNano(t)) }
func (b *encoder) counts(list ...int) { each(list, b.count) }

func (b *encoder) flag(yes bool) {
	if yes {
		b.count(1)
	} else {
		b.count(0)
	}
}

func each[T any](list []T, do func(T)) {
	for _, v := range list {
		do(v)
	}
}

func (b *encoder) tokens(ids []token.ID) {
	b.count(len(ids))
	each(ids, func(id token.ID) { b.count(int(uint32(id))) })
}

// ends writes, if there are text offsets at all, each less the one before.
func (b *encoder) ends(ends []int, have bool, before int) {
	if !have {
		b.count(0)
		return
	}
	b.count(1)
	for _, end := range ends {
		b.difference(end - before)
		before = end
	}
}

func (b *encoder) keys(keys []kv.Key) {
	b.count(len(keys))
	each(keys, func(key kv.Key) { *b = append(*b, key[:]...) })
}

func (b *encoder) turns(turns []Turn) {
	b.count(len(turns))
	for _, t := range turns {
		b.counts(t.Turn, t.Tokens, t.TextEnd, t.Prompt, t.Cached, t.Completion)
		b.string(t.Finish)
		b.time(t.Created)
	}
}

func (b *encoder) tails(tails []TailRef) {
	b.count(len(tails))
	for _, t := range tails {
		*b = append(*b, t.Key[:]...)
		b.counts(t.Group, int(t.Form), t.Tokens, t.Bytes)
	}
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// DecodeManifest reads a manifest file, which path names in errors: a *DamagedError
// for anything but what EncodeManifest wrote, a *VersionError for an intact one of
// another version.
func DecodeManifest(b []byte, path string) (Manifest, error) {
	version, err := checkManifestHead(b, path)
	if err != nil {
		return Manifest{}, err
	}
	d := decoder{rest: b[manifestHeadBytes:], version: version}
	m := d.manifest()
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.rest))
	}
	if d.err == nil {
		d.err = CheckManifest(&m)
	}
	if d.err != nil {
		return Manifest{}, &DamagedError{Where: path, Reason: d.err.Error()}
	}
	return m, nil
}

func checkManifestHead(b []byte, path string) (version uint32, err error) {
	le := binary.LittleEndian
	if len(b) < manifestHeadBytes || string(b[:8]) != manifestMagic {
		return 0, &DamagedError{Where: path, Reason: fmt.Sprintf("no manifest in %d bytes", len(b))}
	}
	if have, want := fileSum(b), le.Uint32(b[12:]); have != want {
		return 0, &DamagedError{Where: path, Reason: fmt.Sprintf("sums to %08x, written was %08x", have, want)}
	}
	version = le.Uint32(b[8:])
	if version < 1 || version > manifestVersion {
		return 0, &VersionError{Where: path, Have: version, Know: manifestVersion}
	}
	if body := le.Uint64(b[16:]); body != uint64(len(b)-manifestHeadBytes) {
		return 0, &DamagedError{Where: path, Reason: fmt.Sprintf("body of %d bytes, %d are there", body, len(b)-manifestHeadBytes)}
	}
	return version, nil
}

// decoder reads a body; after an error it gives zeros.
type decoder struct {
	rest    []byte
	version uint32 // of the file: fields that came later are zero
	err     error
}

var errShort = errors.New("ends in the middle of a field")

func (d *decoder) manifest() Manifest {
	var m Manifest
	for _, s := range []*string{&m.Namespace, &m.ID, &m.Model, &m.Parent, &m.ModelFingerprint, &m.KVFingerprint} {
		*s = d.string()
	}
	m.Created, m.LastUsed = d.time(), d.time()
	m.Tokens = d.tokens()
	if d.count() != 0 {
		m.Ends = d.ends(len(m.Tokens), 0)
	}
	m.Turns = list(d, 8, d.turn)
	m.Keys = list(d, len(kv.Key{}), d.key)
	m.Groups, m.KVTokens, m.BlockTokens = d.count(), d.count(), d.count()
	m.Tail = d.tails()
	m.Pinned = d.flag()
	return m
}

// flag is there since version 2.
func (d *decoder) flag() bool {
	if d.version < 2 {
		return false
	}
	v := d.count()
	if v > 1 {
		d.fail(errShort)
	}
	return v == 1
}

func (d *decoder) tokens() []token.ID {
	return list(d, 1, func() token.ID { return token.ID(int32(uint32(d.count()))) })
}

func (d *decoder) key() kv.Key { return kv.Key(d.take(len(kv.Key{}))) }

func (d *decoder) tails() []TailRef { return list(d, len(kv.Key{})+4, d.tail) }

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

// take is the next n bytes, zeros after an error.
func (d *decoder) take(n int) []byte {
	if n > len(d.rest) {
		d.fail(errShort)
		return make([]byte, min(n, len(kv.Key{})))
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) count() int {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > math.MaxInt {
		d.fail(errShort)
		return 0
	}
	d.rest = d.rest[n:]
	return int(v)
}

func (d *decoder) difference() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) string() string {
	n := d.count()
	if n > len(d.rest) {
		d.fail(errShort)
		return ""
	}
	return string(d.take(n))
}

func (d *decoder) time() time.Time {
	nanos := d.difference()
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

// list reads a count and that many elements of at least minBytes each; nil for none.
func list[T any](d *decoder, minBytes int, one func() T) []T {
	n := d.count()
	if n > len(d.rest)/minBytes {
		d.fail(errShort)
		return nil
	}
	if n == 0 {
		return nil
	}
	out := make([]T, n)
	for i := range out {
		out[i] = one()
	}
	return out
}

// ends gives an empty list, not nil, for none.
func (d *decoder) ends(n, before int) []int {
	if n > len(d.rest) {
		d.fail(errShort)
		return nil
	}
	out := make([]int, n)
	at := int64(before)
	for i := range out {
		at += d.difference()
		out[i] = int(at)
	}
	return out
}

func (d *decoder) turn() Turn {
	return Turn{
		Turn: d.count(), Tokens: d.count(), TextEnd: d.count(), Prompt: d.count(), Cached: d.count(), Completion: d.count(),
		Finish: d.string(), Created: d.time(),
	}
}

func (d *decoder) tail() TailRef {
	return TailRef{Key: d.key(), Group: d.count(), Form: quant.KVForm(d.count()), Tokens: d.count(), Bytes: d.count()}
}

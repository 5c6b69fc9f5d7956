package format

import (
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"mneme/internal/kv"
)

// The catalogue says of every agent what is needed before its file is read; it is
// there only between a Close and the next Open:
//
//	 0  magic "MNEMECAT"
//	 8  version      u32
//	12  sum          u32  crc32c of [0,12) and [16,end)
//	16  n, n * card
const (
	catalogueMagic     = "MNEMECAT"
	catalogueVersion   = 1
	catalogueHeadBytes = 16
)

// Card is what is known of an agent without its tokens.
type Card struct {
	Namespace, ID, Model, Parent    string
	ModelFingerprint, KVFingerprint string
	Tokens, KVTokens, Turns, Groups int
	Created, LastUsed               time.Time
	Keys                            []kv.Key // of its sealed blocks
	Tails                           []TailRef
	Former                          []kv.Key // Journal.Former
	DiskBytes                       int64    // its file and the frames it names, when it was published
	Mark                                     // of its journal
}

// CardOf describes a manifest whose journal ends at a mark.
func CardOf(m *Manifest, former []kv.Key, at Mark) Card {
	return Card{
		Namespace: m.Namespace, ID: m.ID, Model: m.Model, Parent: m.Parent,
		ModelFingerprint: m.ModelFingerprint, KVFingerprint: m.KVFingerprint,
		Tokens: len(m.Tokens), KVTokens: m.KVTokens, Turns: len(m.Turns), Groups: max(1, m.Groups),
		Created: m.Created, LastUsed: m.LastUsed,
		Keys: m.Keys, Tails: m.Tail, Former: former, Mark: at,
	}
}

// Frames gives every frame that an agent names: its blocks group by group, its tails.
func (c *Card) Frames() iter.Seq[BlockID] {
	return func(yield func(BlockID) bool) {
		for group := range c.Groups {
			for _, key := range c.Keys {
				if !yield(BlockID{Key: key, Group: group}) {
					return
				}
			}
		}
		for _, t := range c.Tails {
			if !yield(t.ID()) {
				return
			}
		}
	}
}

// EncodeCatalogue is the catalogue file.
func EncodeCatalogue(cards []Card) []byte {
	b := make(encoder, catalogueHeadBytes, catalogueHeadBytes+1024*len(cards))
	copy(b, catalogueMagic)
	binary.LittleEndian.PutUint32(b[8:], catalogueVersion)
	b.count(len(cards))
	for i := range cards {
		b.card(&cards[i])
	}
	binary.LittleEndian.PutUint32(b[12:], fileSum(b))
	return b
}

func (b *encoder) card(c *Card) {
	for _, s := range []string{c.Namespace, c.ID, c.Model, c.Parent, c.ModelFingerprint, c.KVFingerprint} {
		b.string(s)
	}
	b.counts(c.Tokens, c.KVTokens, c.Turns, c.Groups)
	b.time(c.Created)
	b.time(c.LastUsed)
	b.keys(c.Keys)
	b.tails(c.Tails)
	b.keys(c.Former)
	b.counts(int(c.DiskBytes), int(c.End), int(c.SnapshotBytes), int(c.Sum))
}

// DecodeCatalogue reads the catalogue. Any error means: read every agent's file.
func DecodeCatalogue(b []byte) ([]Card, error) {
	if len(b) < catalogueHeadBytes || string(b[:8]) != catalogueMagic {
		return nil, fmt.Errorf("no catalogue in %d bytes", len(b))
	}
	if have, want := fileSum(b), binary.LittleEndian.Uint32(b[12:]); have != want {
		return nil, fmt.Errorf("catalogue sums to %08x, written was %08x", have, want)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != catalogueVersion {
		return nil, fmt.Errorf("catalogue version %d, this program reads version %d", v, catalogueVersion)
	}
	d := &decoder{rest: b[catalogueHeadBytes:]}
	cards := list(d, 19, d.card)
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.rest))
	}
	return cards, d.err
}

func (d *decoder) card() (c Card) {
	for _, s := range []*string{&c.Namespace, &c.ID, &c.Model, &c.Parent, &c.ModelFingerprint, &c.KVFingerprint} {
		*s = d.string()
	}
	c.Tokens, c.KVTokens, c.Turns, c.Groups = d.count(), d.count(), d.count(), d.count()
	c.Created, c.LastUsed = d.time(), d.time()
	c.Keys = list(d, len(kv.Key{}), d.key)
	c.Tails = d.tails()
	c.Former = list(d, len(kv.Key{}), d.key)
	c.DiskBytes = int64(d.count())
	c.Mark = Mark{int64(d.count()), int64(d.count()), uint32(d.count())}
	return c
}

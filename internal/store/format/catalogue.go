package format

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"time"

	"mneme/internal/kv"
	"mneme/internal/store/records"
)

// The catalogue says of every agent what is needed before its file is read; it is
// there only between a Close and the next Open:
//
//	 0  magic "MNEMECAT"
//	 8  version      u32  2 plain, 3 encrypted
//	12  sum          u32  crc32c of [0,12) and [16,end)
//	16  plain: families: n, n * (card, members: n, n * member)
//	    agents: n, n * card
//
//	16  encrypted: for each namespace
//	    key id 6, zeros 2, bytes u32, nonce 12, what a plain one has, encrypted, tag 16
//
// Additional data is [0,12) of the file, and the key id.
const (
	catalogueMagic     = "MNEMECAT"
	plainCatalogue     = 2
	encryptedCatalogue = 3
	catalogueHeadBytes = 16
	partHeadBytes      = 12
	minCardBytes       = 22
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
	Pinned                          bool
	Family                          FamilyID // that it is a member of, zeros for none
	DiskBytes                       int64    // its file and the frames it names, when it was published
	Mark                                     // of its journal; End is 0 for a member that has none
}

// Kin is a family without its members' tokens.
type Kin struct {
	Card             // of what they have in common; End is the bytes of its file
	Members []Member // those whose cards are not listed elsewhere
}

// Catalogue is what is known of all agents, or of a namespace's.
type Catalogue struct {
	Families []Kin
	Agents   []Card
}

// CardOf describes a member as long as it has no journal.
func (k *Kin) CardOf(m Member) Card {
	c := k.Card
	c.ID, c.Parent, c.Model, c.Created, c.LastUsed, c.Pinned = m.ID, m.Parent, m.Model, m.Created, m.LastUsed, m.Pinned
	c.Mark = Mark{}
	return c
}

// Member is what a family's file says of the agent.
func (c *Card) Member() Member {
	return Member{ID: c.ID, Parent: c.Parent, Model: c.Model, Created: c.Created, LastUsed: c.LastUsed, Pinned: c.Pinned}
}

// CardOf describes a manifest whose journal ends at a mark.
func CardOf(m *Manifest, former []kv.Key, at Mark) Card {
	return Card{
		Namespace: m.Namespace, ID: m.ID, Model: m.Model, Parent: m.Parent,
		ModelFingerprint: m.ModelFingerprint, KVFingerprint: m.KVFingerprint,
		Tokens: len(m.Tokens), KVTokens: m.KVTokens, Turns: len(m.Turns), Groups: max(1, m.Groups),
		Created: m.Created, LastUsed: m.LastUsed, Pinned: m.Pinned,
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

// EncodeCatalogue is the catalogue file of a plain folder.
func EncodeCatalogue(c Catalogue) []byte {
	b := newCatalogue(plainCatalogue)
	b.catalogue(&c, plainCatalogue)
	return b.summed()
}

// Part is what the catalogue of an encrypted folder says of one namespace.
type Part struct {
	Catalogue
	Cipher
}

// EncryptCatalogue is the catalogue file of an encrypted folder. Errors are those of
// the ciphers' Random.
func EncryptCatalogue(parts []Part) ([]byte, error) {
	file := newCatalogue(encryptedCatalogue)
	for _, p := range parts {
		var plain encoder
		plain.catalogue(&p.Catalogue, encryptedCatalogue)
		sealed, err := p.Seal(nil, plain, partAdditional(file, p.Cipher.ID))
		if err != nil {
			return nil, err
		}
		file = append(append(file, p.Cipher.ID[:]...), 0, 0)
		file = binary.LittleEndian.AppendUint32(file, uint32(len(sealed)))
		file = append(file, sealed...)
	}
	return file.summed(), nil
}

func partAdditional(file []byte, id KeyID) []byte { return slices.Concat(file[:12], id[:]) }

func newCatalogue(version uint32) encoder {
	b := make(encoder, catalogueHeadBytes)
	copy(b, catalogueMagic)
	binary.LittleEndian.PutUint32(b[8:], version)
	return b
}

func (b encoder) summed() []byte {
	binary.LittleEndian.PutUint32(b[12:], fileSum(b))
	return b
}

func (b *encoder) catalogue(c *Catalogue, version uint32) {
	*b = slices.Grow(*b, 1024*len(c.Agents))
	b.count(len(c.Families))
	for i := range c.Families {
		b.card(&c.Families[i].Card, version)
		b.count(len(c.Families[i].Members))
		each(c.Families[i].Members, b.member)
	}
	b.count(len(c.Agents))
	for i := range c.Agents {
		b.card(&c.Agents[i], version)
	}
}

func (b *encoder) card(c *Card, version uint32) {
	each([]string{c.Namespace, c.ID, c.Model, c.Parent, c.ModelFingerprint, c.KVFingerprint}, b.string)
	b.counts(c.Tokens, c.KVTokens, c.Turns, c.Groups)
	b.time(c.Created)
	b.time(c.LastUsed)
	b.keys(c.Keys)
	b.tails(c.Tails)
	b.keys(c.Former)
	b.flag(c.Pinned)
	b.flag(c.Family != FamilyID{})
	if c.Family != (FamilyID{}) {
		*b = append(*b, c.Family[:]...)
	}
	b.counts(int(c.DiskBytes), int(c.End), int(c.SnapshotBytes), int(c.Sum), int(c.Version))
	if version == encryptedCatalogue {
		*b = append(*b, c.Nonce[:]...)
	}
}

// DecodeCatalogue reads the catalogue. Of an encrypted one what is missing is what
// there are no keys of. Any error means: read every agent's file.
func DecodeCatalogue(b []byte, keys Keys) (Catalogue, error) {
	if len(b) < catalogueHeadBytes || string(b[:8]) != catalogueMagic {
		return Catalogue{}, fmt.Errorf("no catalogue in %d bytes", len(b))
	}
	if have, want := fileSum(b), binary.LittleEndian.Uint32(b[12:]); have != want {
		return Catalogue{}, fmt.Errorf("catalogue sums to %08x, written was %08x", have, want)
	}
	switch v := binary.LittleEndian.Uint32(b[8:]); v {
	case plainCatalogue:
		return decodeCatalogue(b[catalogueHeadBytes:], v)
	case encryptedCatalogue:
		return decryptCatalogue(b, keys)
	default:
		return Catalogue{}, fmt.Errorf("catalogue version %d, this program reads versions %d and %d", v, plainCatalogue, encryptedCatalogue)
	}
}

func decodeCatalogue(b []byte, version uint32) (Catalogue, error) {
	d := &decoder{rest: b, version: version}
	c := Catalogue{Families: list(d, minCardBytes, d.kin), Agents: list(d, minCardBytes, d.card)}
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.rest))
	}
	return c, d.err
}

func decryptCatalogue(b []byte, keys Keys) (all Catalogue, err error) {
	for rest := b[catalogueHeadBytes:]; len(rest) > 0; {
		if len(rest) < partHeadBytes || int64(binary.LittleEndian.Uint32(rest[8:])) > int64(len(rest)-partHeadBytes) {
			return Catalogue{}, errShort
		}
		id, sealed := KeyID(rest), rest[partHeadBytes:][:binary.LittleEndian.Uint32(rest[8:])]
		rest = rest[partHeadBytes+len(sealed):]
		aead, err := records.Find(keys, id)
		if err != nil {
			continue
		}
		plain, err := records.Unseal(aead, sealed, partAdditional(b, id))
		if err != nil {
			return Catalogue{}, err
		}
		part, err := decodeCatalogue(plain, encryptedCatalogue)
		if err != nil {
			return Catalogue{}, err
		}
		all.Families, all.Agents = append(all.Families, part.Families...), append(all.Agents, part.Agents...)
	}
	return all, nil
}

func (d *decoder) kin() Kin { return Kin{d.card(), list(d, 6, d.member)} }

func (d *decoder) card() (c Card) {
	for _, s := range []*string{&c.Namespace, &c.ID, &c.Model, &c.Parent, &c.ModelFingerprint, &c.KVFingerprint} {
		*s = d.string()
	}
	c.Tokens, c.KVTokens, c.Turns, c.Groups = d.count(), d.count(), d.count(), d.count()
	c.Created, c.LastUsed = d.time(), d.time()
	c.Keys = list(d, len(kv.Key{}), d.key)
	c.Tails = d.tails()
	c.Former = list(d, len(kv.Key{}), d.key)
	c.Pinned = d.flag()
	if d.flag() {
		c.Family = FamilyID(d.take(len(FamilyID{})))
	}
	c.DiskBytes = int64(d.count())
	c.End, c.SnapshotBytes, c.Sum, c.Version = int64(d.count()), int64(d.count()), uint32(d.count()), uint32(d.count())
	if d.version == encryptedCatalogue {
		c.Nonce = records.Nonce(d.take(len(c.Nonce)))
	}
	return c
}

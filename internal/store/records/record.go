package records

import "encoding/binary"

// A record:
//
//	 0  body  u32  bytes
//	 4  kind  u32
//	 8  sum   u32  crc32c of the sum before it (the head's, for the first), [0,8) and the body
//	12  body; in an encrypted file a nonce of 12, the body encrypted, a tag of 16
//
// A record's sum goes on from the one before it: it counts only in its place.
// Additional data is the nonce of the head, the record's offset (u64) and kind (u32).
const (
	bodyAt    = 12
	kindAt    = 4
	ownSumAt  = 8
	additionB = nonceBytes + 8 + 4
)

// Record is a record at that place, which must take the cipher, and the place
// behind it. Errors are those of c.Random.
func (at Place) Record(c Cipher, kind uint32, body []byte) (record []byte, next Place, err error) {
	record = make([]byte, bodyAt, bodyAt+nonceBytes+len(body)+tagBytes)
	if at.Encrypted() {
		if record, err = c.Seal(record, body, at.additional(kind)); err != nil {
			return nil, at, err
		}
	} else {
		record = append(record, body...)
	}
	le := binary.LittleEndian
	le.PutUint32(record, uint32(len(record)-bodyAt))
	le.PutUint32(record[kindAt:], kind)
	next = at
	next.End, next.Sum = at.End+int64(len(record)), recordSum(at.Sum, record)
	le.PutUint32(record[ownSumAt:], next.Sum)
	return record, next, nil
}

func recordSum(before uint32, record []byte) uint32 {
	return sum(binary.LittleEndian.AppendUint32(nil, before), record[:ownSumAt], record[bodyAt:])
}

func (at Place) additional(kind uint32) []byte {
	b := append(make([]byte, 0, additionB), at.Nonce[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(at.End))
	return binary.LittleEndian.AppendUint32(b, kind)
}

// Record is one that was read.
type Record struct {
	Kind  uint32
	Body  []byte // decrypted
	Whole bool   // it is what was written there
	Next  Place  // behind it, by the length and the sum that it says
}

// Next reads the record at the file's place and does not take it; false when the
// file is shorter than it says.
func (f *File) Next() (Record, bool) {
	le, b := binary.LittleEndian, f.data[f.End:]
	if len(b) < bodyAt {
		return Record{}, false
	}
	size := bodyAt + int64(le.Uint32(b))
	if size > int64(len(b)) {
		return Record{}, false
	}
	r := Record{Kind: le.Uint32(b[kindAt:]), Body: b[bodyAt:size], Next: f.Place}
	r.Next.End, r.Next.Sum = f.End+size, le.Uint32(b[ownSumAt:])
	r.Whole = recordSum(f.Sum, b[:size]) == r.Next.Sum
	if r.Whole && f.Encrypted() && !f.sums {
		var err error
		r.Body, err = Unseal(f.aead, r.Body, f.additional(r.Kind))
		r.Whole = err == nil
	}
	return r, true
}

// Take goes on behind a record.
func (f *File) Take(r Record) { f.Place = r.Next }

// Rest is how many bytes follow the records that were taken.
func (f *File) Rest() int { return len(f.data) - int(f.End) }

// Taken is the file up to its place.
func (f *File) Taken() []byte { return f.data[:f.End:f.End] }

// Inner tells whether more follows a record than it.
func (f *File) Inner(r Record) bool { return r.Next.End < int64(len(f.data)) }

// Checked is what the sums of a file say, which takes no key.
type Checked struct {
	Place       // behind the last whole record
	Records int // whole ones
	Rest    int // bytes after them: torn, or damaged
}

// Check reads a file up to its first record that is not whole. Errors are those of
// Open but for keys.
func Check(data []byte, magic, path string) (c Checked, err error) {
	f, _, err := open(data, magic, path)
	if err != nil {
		return c, err
	}
	f.sums = true
	for {
		r, ok := f.Next()
		if !ok || !r.Whole {
			return Checked{f.Place, c.Records, f.Rest()}, nil
		}
		f.Take(r)
		c.Records++
	}
}

package format

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/token"
)

// keyed is a ring of one key; its nonces are counted.
type keyed struct {
	Cipher
	next byte
}

func (k *keyed) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = k.next
		k.next++
	}
	return len(b), nil
}

func (k *keyed) Find(id KeyID) (cipher.AEAD, error) {
	if id != k.ID {
		return nil, errors.New("no such key")
	}
	return k.AEAD, nil
}

// key is 32 times the letter, and its id the letter.
func key(letter byte) *keyed {
	block, err := aes.NewCipher(bytes.Repeat([]byte{letter}, 32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	k := &keyed{Cipher: Cipher{ID: KeyID{letter}, AEAD: aead}}
	k.Random = k
	return k
}

func encrypted(t testing.TB, k *keyed, f Frame) []byte {
	t.Helper()
	b := bytes.Repeat([]byte{0xff}, int(f.Shape().Under(Encrypted).FrameBytes())) // a used buffer
	if err := f.Encrypt(b, k.Cipher, count); err != nil {
		t.Fatal(err)
	}
	return b
}

// resum makes the sums right again, as nobody but who means harm does.
func resum(b []byte, s Shape) []byte {
	putSums(s.split(b))
	return b
}

// The bytes of version 2, with a fixed key and nonces: another implementation of AES-GCM gives the same.
func TestEncryptedBytes(t *testing.T) {
	f, _ := block(2, 10)
	b := encrypted(t, key('k'), f)
	want := `
  0 4d4b5646020001020300000002000000
 16 0a000000000000000200000000000000
 80 0000000000000001bda2ba73aa0a1b73
 96 6b000000000000000001020304050607
112 08090a0b0c0d0e0f1011121314151617
128 6dddf42e00d384744eb122599a6aab0d
144 9f52db929617eba50000000000000000
192 f0d4496f2e5ca3ea73371845d0d2e7ff
208 4e56450c0cf45c7e224b000000000000
256 bytes`
	if got := "\n" + dump(b); got != want {
		t.Errorf("got%s", got)
	}
}

// An encrypted frame is read with its key and with no other, and says the same
// as the plain one.
func TestEncryptedIsReadBack(t *testing.T) {
	k := key('k')
	for _, n := range []int{0, 1, 16, 48, 64, 5000} {
		f, _ := block(2, n)
		f.Tokens = make([]token.ID, n%70)
		plain := make([]byte, f.Shape().FrameBytes())
		f.Encode(plain, count)
		b, shape, dst := encrypted(t, k, f), f.Shape().Under(Encrypted), make([]byte, n)
		d := Reader{Keys: k}
		if err := d.Read(bytes.NewReader(b), 0, shape, wanted(f), dst); err != nil || !bytes.Equal(dst, plain[f.Shape().HeadBytes():][:n]) {
			t.Errorf("payload of %d bytes: %v %x", n, err, dst)
		}
		if again, err := Decrypt(b, k); err != nil || !bytes.Equal(again, plain) {
			t.Errorf("payload of %d bytes decrypted: %v", n, err)
		}
		if same, err := Decrypt(plain, nil); err != nil || !bytes.Equal(same, plain) {
			t.Errorf("a plain frame: %v", err)
		}
	}
	f, _ := block(2, 10)
	b, shape := encrypted(t, k, f), f.Shape().Under(Encrypted)
	other := key('o')
	other.ID = k.ID
	for want, keys := range map[string]Keys{
		"it is encrypted, and there are no keys":             nil,
		"no such key":                                        key('o'),
		"it is not what was encrypted, or for another place": other,
	} {
		d := Reader{Keys: keys}
		err := d.Read(bytes.NewReader(b), 0, shape, wanted(f), make([]byte, 10))
		if _, again := Decrypt(b, keys); fmt.Sprint(err) != want || fmt.Sprint(again) != want {
			t.Errorf("got %v and %v, want %s", err, again, want)
		}
	}
	if _, _, err := Parse(b); fmt.Sprint(err) != "frame version 2, which is encrypted, instead of 1" {
		t.Errorf("parsed: %v", err)
	}
}

// What is wanted of an encrypted frame is compared as of a plain one.
func TestEncryptedIsCompared(t *testing.T) {
	k := key('k')
	f, plain := block(2, 10)
	b, shape := encrypted(t, k, f), f.Shape().Under(Encrypted)
	for _, c := range []struct {
		change func(w *Wanted)
		file   []byte
		noted  Shape
		want   string
	}{
		{func(*Wanted) {}, b, shape, "<nil>"},
		{func(w *Wanted) { w.Tokens, w.AnyTokens = nil, true }, b, shape, "<nil>"},
		{func(w *Wanted) { w.Tokens = []token.ID{7, 8} }, b, shape, "its 2 tokens are not the 2 expected"},
		{func(w *Wanted) { w.Tokens = w.Tokens[:1] }, b, shape, "its 2 tokens are not the 1 expected"},
		{func(w *Wanted) { w.Group = 1 }, b, shape, "group 3 instead of 1"},
		{func(*Wanted) {}, b, Shape{3, 10, Encrypted}, "version 2 with 2 tokens instead of 2 with 3"},
		{func(*Wanted) {}, b[:130], shape, "130 of 218 bytes at 0: unexpected EOF"},
		{func(*Wanted) {}, append(plain, make([]byte, 64)...), shape, "head of 128 bytes instead of 192"},
	} {
		w := wanted(f)
		c.change(&w)
		d := Reader{Keys: k}
		if err := d.Read(bytes.NewReader(c.file), 0, c.noted, w, make([]byte, 10)); fmt.Sprint(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// Every bit matters: to the sums, and to the key where the sums were made right.
func TestEncryptedDamageIsFound(t *testing.T) {
	k := key('k')
	f, _ := block(2, 10)
	whole, shape := encrypted(t, k, f), f.Shape().Under(Encrypted)
	used := shape.HeadBytes() + shape.bodyBytes()
	for at := range 8 * used {
		b := bytes.Clone(whole)
		b[at/8] ^= 1 << (at % 8)
		d := Reader{Keys: k}
		if d.Read(bytes.NewReader(b), 0, shape, wanted(f), make([]byte, 10)) == nil {
			t.Errorf("nobody sees bit %d change", at)
		}
		if _, err := CheckFrame(b); err == nil {
			t.Errorf("no sum sees bit %d change", at)
		}
		if at/8 >= sumsAt && at/8 < FixedBytes {
			continue
		}
		if _, err := Decrypt(resum(b, shape), k); err == nil {
			t.Errorf("the key does not see bit %d change", at)
		}
	}
}

// Parts of two frames under one key do not go together, nor does a frame pass for
// another.
func TestEncryptedPartsBelongTogether(t *testing.T) {
	k := key('k')
	f, _ := block(2, 10)
	g := f
	g.Key = kv.Key{3}
	a, b, shape := encrypted(t, k, f), encrypted(t, k, g), f.Shape().Under(Encrypted)
	n := shape.HeadBytes()
	same := Frame{Tokens: []token.ID{1, 2}, PayloadBytes: 8} // ids and payload of one size
	turned := encrypted(t, k, same)
	m := same.Shape().Under(Encrypted).HeadBytes()
	ids, payload := bytes.Clone(turned[idsAt:][:8+tagBytes]), bytes.Clone(turned[m:][:8+tagBytes])
	nonces := slices.Concat(turned[payloadNonceAt:idsAt], turned[idsNonceAt:payloadNonceAt])
	copy(turned[idsNonceAt:], nonces)
	copy(turned[idsAt:], payload)
	copy(turned[m:], ids)
	for name, mixed := range map[string][]byte{
		"head of another":         slices.Concat(b[:FixedBytes], a[FixedBytes:]),
		"ids of another":          slices.Concat(a[:idsAt], b[idsAt:n], a[n:]),
		"ids, nonce of another":   slices.Concat(a[:idsNonceAt], b[idsNonceAt:payloadNonceAt], a[payloadNonceAt:idsAt], b[idsAt:n], a[n:]),
		"payload of another":      slices.Concat(a[:n], b[n:]),
		"payload, nonce":          slices.Concat(a[:payloadNonceAt], b[payloadNonceAt:idsAt], a[idsAt:n], b[n:]),
		"ids and payload in turn": turned,
	} {
		s, err := ParseShape(mixed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decrypt(resum(mixed, s), k); err != errNotGenuine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A nonce that cannot be drawn is an error, not a nonce.
func TestNoNonce(t *testing.T) {
	k := key('k')
	k.Random = strings.NewReader("too few")
	f, _ := block(2, 10)
	err := f.Encrypt(make([]byte, f.Shape().Under(Encrypted).FrameBytes()), k.Cipher, count)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// Reading a frame allocates nothing once the buffer has grown, with a key or without.
func TestReadingAllocatesNothing(t *testing.T) {
	k := key('k')
	f, plain := block(2, 5000)
	dst, want := make([]byte, 5000), wanted(f)
	for c, b := range map[Cover]*bytes.Reader{Plain: bytes.NewReader(plain), Encrypted: bytes.NewReader(encrypted(t, k, f))} {
		d, shape := Reader{Keys: k}, f.Shape().Under(c)
		if n := testing.AllocsPerRun(100, func() {
			if err := d.Read(b, 0, shape, want, dst); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("version %d: %v allocations", version(c), n)
		}
	}
}

// Bytes nobody wrote are an error, never a panic.
func FuzzEncrypted(f *testing.F) {
	k := key('k')
	fr, _ := block(2, 10)
	f.Add(encrypted(f, k, fr))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseShape(append(bytes.Clone(b), make([]byte, FixedBytes)...))
		if err != nil || int64(len(b)) != s.FrameBytes() {
			return
		}
		if plain, err := Decrypt(resum(b, s), k); err == nil {
			if _, _, err := Parse(plain); err != nil {
				t.Errorf("what was decrypted is no frame: %v", err)
			}
		}
	})
}

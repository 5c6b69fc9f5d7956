package proof

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"mneme/internal/engine"
	"mneme/internal/store/format"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

const mutations = 500

// traveller is an agent that leaves one house as a file: what it says next, there
// or anywhere.
type traveller struct {
	file    []byte
	history []token.ID
	prompt  []token.ID
	want    answer
}

func newTraveller(t testing.TB, withKV bool) traveller {
	t.Helper()
	h := mustOpen(t, vfs.NewCrashable(), plain)
	var tr traveller
	for i, n := range []int{120, 40, 70} {
		prompt := join(tr.history, words(n, 41+i))
		a, done, err := h.ask(namespace, "ada", prompt)
		must(t, errors.Join(err, done.PublishErr))
		tr.history = join(prompt, a.ids)
	}
	var file bytes.Buffer
	must(t, h.Export(namespace, "ada", withKV, &file))
	tr.file, tr.prompt = file.Bytes(), join(tr.history, words(30, 50))
	a, _, err := h.ask(namespace, "ada", tr.prompt)
	must(t, err)
	tr.want = a
	must(t, h.close())
	return tr
}

func (tr traveller) arrive(h *house, id engine.AgentID, file []byte) (engine.AgentInfo, error) {
	return h.Import(context.Background(), namespace, id, bytes.NewReader(file), int64(len(file)))
}

// Exported from one folder and imported into another, an agent's next turn
// computes its new tokens and no other, and says the same; without KV it computes
// all and says the same. A restart in between changes nothing.
func TestMove(t *testing.T) { each(t, proveMove) }

func proveMove(t *testing.T, c cover) {
	for _, withKV := range []bool{true, false} {
		tr := newTraveller(t, withKV)
		disk := vfs.NewCrashable()
		h := mustOpen(t, disk, c)
		for _, id := range []engine.AgentID{"ada", "eve"} {
			if info, err := tr.arrive(h, id, tr.file); err != nil || info.Turns != 3 || info.Tokens != len(tr.history) {
				t.Fatalf("import: %+v, %v", info, err)
			}
		}
		for _, id := range []engine.AgentID{"ada", "eve"} {
			a, done, err := h.ask(namespace, id, tr.prompt)
			must(t, errors.Join(err, done.PublishErr))
			want := len(tr.history) - 1
			if !withKV {
				want = 0
				if id == "eve" {
					want = (len(tr.prompt) - 1) / 64 * 64 // ada has computed them
				}
			}
			if !a.same(tr.want) || done.Usage.Cached != want || done.Turn != 4 {
				t.Errorf("with KV %t: turn %d of %s says %v with %d tokens cached, want %v with %d", withKV, done.Turn, id, a, done.Usage.Cached, tr.want, want)
			}
			must(t, h.close())
			h = mustOpen(t, disk, c)
		}
		must(t, h.close())
		t.Logf("moved with KV %t: %d bytes for %d tokens", withKV, len(tr.file), len(tr.history))
	}
}

// An export that was changed on its way is refused, or the agent says what it
// would have said. One whose sums were made right again, as no accident does, is
// refused or taken; whatever it holds, the house stands.
func TestMutatedExports(t *testing.T) {
	seed := seedOf(t)
	tr := newTraveller(t, true)
	h := mustOpen(t, vfs.NewCrashable(), plain)
	refused, taken, forged := 0, 0, 0
	for i := range int64(max(10, mutations/share)) {
		r := rng(seed, i)
		file := mutated(r, tr.file)
		id := engine.AgentID(fmt.Sprint("x", i))
		if _, err := tr.arrive(h, id, file); err != nil {
			refused++
			var input *engine.InputError
			if !errors.As(err, &input) && !errors.Is(err, engine.ErrOtherModel) {
				t.Errorf("seed %d, try %d: refused without a reason: %v", seed, i, err)
			}
		} else {
			taken++
			a, done, err := h.ask(namespace, id, tr.prompt)
			if err = errors.Join(err, done.PublishErr); err != nil || !a.same(tr.want) {
				t.Errorf("seed %d, try %d: taken, and says %v (%v), want %v", seed, i, a, err, tr.want)
			}
		}
		if tr.endures(t, resealed(file)) {
			forged++
		}
	}
	must(t, h.close())
	t.Logf("%d mutated exports: %d refused with a reason, %d taken without a wrong token; of as many with their sums made right %d were taken: no crash", refused+taken, refused, taken, forged)
}

// endures imports what may be forged into a house of its own and lets it speak;
// true if it was taken.
func (tr traveller) endures(t testing.TB, file []byte) bool {
	t.Helper()
	h := mustOpen(t, vfs.NewCrashable(), plain)
	info, err := tr.arrive(h, "", file)
	if err == nil {
		if _, done, err := h.ask(namespace, info.ID, tr.prompt); err != nil || done.PublishErr != nil {
			t.Errorf("taken as %+v, and then: %v", info, errors.Join(err, done.PublishErr))
		}
	}
	must(t, h.close())
	return err == nil
}

func mutated(r *rand.Rand, file []byte) []byte {
	b := slices.Clone(file)
	switch at := r.IntN(len(b)); r.IntN(7) {
	case 0:
		b[at] ^= 1 << r.IntN(8)
	case 1:
		return append(b[:at], b[min(len(b), at+1+r.IntN(200)):]...)
	case 2:
		return slices.Concat(b[:at], make([]byte, 1+r.IntN(200)), b[at:])
	case 3:
		copy(b[at:], b[r.IntN(len(b)):])
	case 4:
		return b[:at]
	case 5: // what comes before the frames
		b[r.IntN(600)] ^= byte(1 + r.IntN(255))
	default:
		for i := at; i < min(len(b), at+8); i++ {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

// resealed makes the sums of an export right, as far as it can be made out.
func resealed(file []byte) []byte {
	b, le := slices.Clone(file), binary.LittleEndian
	if len(b) < 128 {
		return b
	}
	sum := func(parts ...[]byte) (s uint32) {
		for _, p := range parts {
			s = crc32.Update(s, crc32.MakeTable(crc32.Castagnoli), p)
		}
		return s
	}
	le.PutUint32(b[12:], sum(b[:12], b[16:32]))
	body, frames := le.Uint64(b[16:]), uint64(0)
	if end := 32 + body; body >= 24 && end <= uint64(len(b)-32) {
		le.PutUint32(b[32+12:], sum(b[32:32+12], b[32+16:end]))
		for at := (end + 63) / 64 * 64; ; frames++ {
			size, err := format.FrameBytesAt(bytes.NewReader(b), int64(at), int64(len(b)-32))
			if err != nil {
				break
			}
			resealFrame(b[at:at+uint64(size)], sum)
			at += uint64(size)
		}
	}
	foot := b[len(b)-32:]
	le.PutUint64(foot[8:], frames)
	le.PutUint64(foot[16:], uint64(len(b)))
	le.PutUint32(foot[24:], sum(b[:len(b)-8]))
	return b
}

func resealFrame(f []byte, sum func(...[]byte) uint32) {
	le := binary.LittleEndian
	head := (96 + 4*int(le.Uint32(f[12:])) + 63) / 64 * 64
	end := head + int(le.Uint64(f[16:]))
	le.PutUint32(f[88:], sum(f[:88], f[96:head]))
	le.PutUint32(f[92:], sum(f[:88], f[96:end]))
}

// Whatever is put in the place of whatever part of an export: it is refused, or it
// is an agent that speaks.
func FuzzImport(f *testing.F) {
	tr, bare := newTraveller(f, true), newTraveller(f, false)
	f.Add(uint(100), uint(1), []byte{7}, true, true)
	f.Add(uint(40), uint(0), []byte("MNEMEMAN"), false, true)
	f.Add(uint(9000), uint(64), []byte{}, true, false)
	f.Fuzz(func(t *testing.T, at, cut uint, put []byte, withKV, seal bool) {
		file := bare.file
		if withKV {
			file = tr.file
		}
		at %= uint(len(file))
		file = slices.Concat(file[:at], put, file[at+min(cut, uint(len(file))-at):])
		if seal {
			file = resealed(file)
		}
		tr.endures(t, file)
	})
}

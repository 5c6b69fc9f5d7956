package durable

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mneme/internal/arena"
	"mneme/internal/kv"
)

const (
	leastOfPlainRead = 0.5  // a restore's rate against a plain read's
	mostForKeys      = 1.25 // a restored first token with encryption against without
	leastRestored    = 128  // tokens
	readPiece        = 1 << 20
)

// restores times the first turn after kill -9 of a long conversation, without
// and with encryption, and a restore alone against a plain read.
func (r *run) restores(ctx context.Context) (err error) {
	var homes []*home // without keys, with
	defer func() { closeAll(&err, homes...) }()
	homes, err = r.restoreHomes(ctx)
	if err != nil {
		return err
	}
	talks, err := r.longTalks(ctx, homes)
	if err != nil {
		return err
	}
	first := make([][]float64, len(homes)) // ms
	times := r.restoreTimes()
	for n := range times {
		r.Say("restore: first token, %d of %d", n+1, times)
		question := r.words.Text(askTokens)
		for i := range homes {
			at := (i + n) % len(homes)
			if err := r.restored(ctx, homes[at], &talks[at], question, &first[at]); err != nil {
				return err
			}
		}
		r.report.Differs = r.report.Differs || !slices.Equal(talks[0].last.Tokens, talks[len(talks)-1].last.Tokens)
	}
	what := fmt.Sprintf("restored first token after %d tokens", r.Tokens)
	if len(homes) == 2 {
		r.report.compare(what, "ms", 1, "plain", first[0], "encrypted", first[1], atMost(mostForKeys))
	} else {
		r.report.row(what, "ms", 1, first[0], none, "with the keys given")
	}
	return r.rates(ctx, homes[0], talks[0].agent)
}

func (r *run) restoreTimes() int { return min(r.Rounds*restoresPerRound, mostRestores) }

// restoreHomes are a home without keys and one with; or one, as the flags say.
// After an error they are those that are there.
func (r *run) restoreHomes(ctx context.Context) ([]*home, error) {
	always := []string{"--restore", "always"} // also where the server would rather compute
	plain, err := r.open(ctx, always...)
	homes := []*home{plain}
	if err != nil || r.KeyFile == GivenKeys {
		return homes, err
	}
	key := make([]byte, 32)
	rand.Read(key)
	path := filepath.Join(filepath.Dir(plain.Data()), "bench.key")
	if err := os.WriteFile(path, key, 0o600); err != nil {
		return homes, err
	}
	keyed, err := r.open(ctx, append(always, "--kv-key-file", path)...)
	return append(homes, keyed), err
}

// longTalks gives every home an agent with the same long first turn.
func (r *run) longTalks(ctx context.Context, homes []*home) ([]talk, error) {
	server, err := homes[0].client.Server(ctx)
	if err != nil {
		return nil, err
	}
	r.Tokens = min(r.Tokens, server.Context-roomForFirst-turnTokens*r.restoreTimes())
	if r.Tokens < leastRestored {
		return nil, fmt.Errorf("a context of %d tokens is too short for %d turns behind a long one", server.Context, r.restoreTimes())
	}
	text, err := r.words.Sized(ctx, homes[0].client.Tokens, r.Tokens)
	if err != nil {
		return nil, err
	}
	talks := make([]talk, len(homes))
	for i, h := range homes {
		r.Say("restore: %d tokens on server %d of %d", r.Tokens, i+1, len(homes))
		talks[i].agent = "returns"
		if err := talks[i].add(ctx, h, text, answerTokens); err != nil {
			return nil, err
		}
		h.Kill()
	}
	return talks, nil
}

// restored starts a home, runs the next turn of its agent and kills it.
func (r *run) restored(ctx context.Context, h *home, t *talk, question string, first *[]float64) error {
	if err := r.begin(ctx, h); err != nil {
		return err
	}
	defer h.Kill()
	had := t.tokens()
	if err := t.add(ctx, h, question, answerTokens); err != nil {
		return err
	}
	if t.last.Cached < had-kv.BlockTokens {
		return fmt.Errorf("of %d tokens before a kill %d were restored", had, t.last.Cached)
	}
	*first = append(*first, milliseconds(t.last.First))
	return nil
}

// rates restores an agent some times and reads as many bytes of the
// same files into memory of the same kind. Both find the bytes in the system's
// page cache; a restore also checks them, and its time is a request's.
func (r *run) rates(ctx context.Context, h *home, agent string) error {
	var restored, read, ratio []float64 // MB/s
	times := r.restoreTimes()
	for n := range times {
		r.Say("restore: rate, %d of %d", n+1, times)
		if err := r.begin(ctx, h); err != nil {
			return err
		}
		bytes, plain, took, err := h.restoreAndRead(ctx, agent, n%2 == 0)
		h.Kill()
		if err != nil {
			return err
		}
		restored, read = append(restored, rate(bytes, took)), append(read, rate(bytes, plain))
		ratio = append(ratio, plain.Seconds()/took.Seconds())
	}
	r.report.row("restore to memory", "MB/s", 0, restored, none, fmt.Sprintf("%d tokens", r.Tokens))
	r.report.row("plain read to memory", "MB/s", 0, read, none, "the same bytes, also cached by the system")
	r.report.row("restore against plain read", "x", 2, ratio, atLeast(leastOfPlainRead), "")
	return nil
}

func rate(bytes int64, d time.Duration) float64 { return float64(bytes) / 1e6 / d.Seconds() }

// restoreAndRead times both, in the order asked for.
func (h *home) restoreAndRead(ctx context.Context, agent string, readFirst bool) (bytes int64, plain, restored time.Duration, err error) {
	var a struct{ Bytes struct{ Disk int64 } }
	if err := h.client.Get(ctx, "/v1/agents/"+agent, &a); err != nil {
		return 0, 0, 0, err
	}
	read := func() error {
		var err error
		plain, err = readSegments(h.Data(), a.Bytes.Disk)
		return err
	}
	warm := func() error {
		began := time.Now()
		err := h.client.Exchange(ctx, "POST", "/v1/agents/"+agent+"/warm", nil, nil)
		restored = time.Since(began)
		return err
	}
	steps := []func() error{warm, read}
	if readFirst {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return 0, 0, 0, err
		}
	}
	return a.Bytes.Disk, plain, restored, nil
}

// readSegments reads n bytes of a folder's segments, in the order they were
// written, into fresh memory of the kind the pool has.
func readSegments(data string, n int64) (took time.Duration, err error) {
	paths, err := filepath.Glob(filepath.Join(data, "kv", "*", "*.seg"))
	if err != nil {
		return 0, err
	}
	region, err := arena.Map(int(n))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, region.Unmap()) }()
	into := region.Bytes()[:n]
	began := time.Now()
	for _, path := range paths { // Glob sorts
		got, err := readInto(into, path)
		if err != nil {
			return 0, err
		}
		into = into[got:]
	}
	if len(into) > 0 {
		return 0, fmt.Errorf("the segments are %d bytes short of what the agent has", len(into))
	}
	return time.Since(began), nil
}

// readInto fills dst with the beginning of a file, piece by piece.
func readInto(dst []byte, path string) (n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	dst = dst[:min(int64(len(dst)), info.Size())]
	for n < len(dst) {
		got, err := f.ReadAt(dst[n:min(n+readPiece, len(dst))], int64(n))
		if err != nil {
			return n, err
		}
		n += got
	}
	return n, nil
}

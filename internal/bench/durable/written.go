package durable

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// mostBeside is what a turn may write beside its frames, in bytes.
const mostBeside = 1 << 10

// folder is how long every file of a data folder is.
type folder map[string]int64

func measure(dir string) (folder, error) {
	sizes := folder{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sizes[path] = info.Size()
		}
		return err
	})
	return sizes, err
}

// grown is what a turn left on disk.
type grown struct {
	all    int64 // bytes by which files grew
	frames int64 // of these: each sealed block once, and one tail per group
}

// since compares with an earlier state and reads what was appended to segments.
func (f folder) since(before folder) (g grown, err error) {
	for path, size := range f {
		if size <= before[path] {
			continue
		}
		g.all += size - before[path]
		if filepath.Ext(path) == ".seg" {
			if err := g.weigh(path, before[path], size); err != nil {
				return g, err
			}
		}
	}
	return g, nil
}

// weigh counts the frames that a segment has behind an offset.
func (g *grown) weigh(path string, from, size int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	blocks, tails := map[[36]byte]int64{}, map[[4]byte]int64{}
	for at := max(from, segmentHead); at < size; {
		var head [frameHead]byte
		if _, err := file.ReadAt(head[:], at); err != nil {
			return err
		}
		n, err := frameBytes(head)
		if err != nil {
			return fmt.Errorf("%s at %d: %w", path, at, err)
		}
		group := [4]byte(head[8:])
		if head[6] == kindBlock {
			blocks[[36]byte(slices.Concat(group[:], head[24:56]))] = n
		} else {
			tails[group] = n
		}
		at += n
	}
	for _, n := range blocks {
		g.frames += n
	}
	for _, n := range tails {
		g.frames += n
	}
	return nil
}

// Of a segment, as docs/FORMAT.md has it.
const (
	segmentHead = 64
	frameHead   = 96
	kindBlock   = 1
	whole       = 64 // frames and their parts are multiples of it
)

// frameBytes is the size of the frame that begins so.
func frameBytes(head [frameHead]byte) (int64, error) {
	ids, payload := int64(4*binary.LittleEndian.Uint32(head[12:])), int64(binary.LittleEndian.Uint64(head[16:]))
	switch version := binary.LittleEndian.Uint16(head[4:]); {
	case string(head[:4]) != "MKVF":
		return 0, errors.New("no frame")
	case version == 1:
		return up(frameHead+ids) + up(payload), nil
	case version == 2: // encrypted: a key's id and two nonces before the ids, a tag behind them and behind the payload
		return up(frameHead+32+ids+16) + up(payload+16), nil
	default:
		return 0, fmt.Errorf("frame of version %d, known are 1 and 2", version)
	}
}

func up(n int64) int64 { return (n + whole - 1) / whole * whole }

// written weighs what each of some turns leaves on disk.
func (r *run) written(ctx context.Context) (err error) {
	r.Say("bytes written: %d turns behind %d tokens", turnsWritten, shortTokens)
	h, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer closeAll(&err, h)
	text, err := r.words.Sized(ctx, h.client.Tokens, shortTokens)
	if err != nil {
		return err
	}
	t := talk{agent: "writes"}
	if err := t.add(ctx, h, text, longAnswer); err != nil {
		return err
	}
	var perToken, beside, new []float64
	for range turnsWritten {
		had := t.tokens()
		g, err := r.turnGrows(ctx, h, &t)
		if err != nil {
			return err
		}
		n := float64(t.tokens() - had)
		perToken, new = append(perToken, float64(g.all)/n), append(new, n)
		beside = append(beside, float64(g.all-g.frames))
	}
	about := fmt.Sprintf("turns of %.0f new tokens", mean(new))
	r.report.row("bytes written per new token", "bytes", 0, perToken, none, about)
	r.report.row("bytes of a turn beside its sealed blocks and one tail", "bytes", 0, beside, atMost(mostBeside), about)
	return nil
}

// turnGrows runs one turn and says what it left.
func (r *run) turnGrows(ctx context.Context, h *home, t *talk) (grown, error) {
	before, err := measure(h.Data())
	if err != nil {
		return grown{}, err
	}
	if err := t.add(ctx, h, r.words.Text(askTokens), longAnswer); err != nil {
		return grown{}, err
	}
	after, err := measure(h.Data())
	if err != nil {
		return grown{}, err
	}
	return after.since(before)
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

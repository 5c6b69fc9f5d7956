package perplexity

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mneme/internal/token"
)

// maxFileBytes bounds files of token ids, which are read whole.
const maxFileBytes = 64 << 20

// Stream is the text that is foretold, as windows that know nothing of each
// other.
type Stream struct {
	Name    string
	Windows [][]token.ID
	// Truth is what other software found for each window, in nats per token; nil
	// where the file says none, or not for windows of this size.
	Truth []float64
}

// ReadStreams reads a file and cuts it into whole windows of size tokens, most
// of them at most. By its name's end the file is
//   - .json: a list of token ids, or {"streams": {name: {"windows": [[ids]]}}},
//     whose windows stay apart and are cut to size; "mean_nll_per_window" beside
//     them is the truth;
//   - .bin: token ids, u32 little endian;
//   - else a text. Where the vocabulary asks for it every window of a text begins
//     with its BOS.
func ReadStreams(path string, tokens *token.Tokenizer, size, most int) ([]Stream, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var streams []Stream
	switch filepath.Ext(path) {
	case ".json":
		streams, err = fromJSON(f, streamName(path), size, most)
	case ".bin":
		streams, err = fromBinary(f, streamName(path), size, most)
	default:
		streams, err = fromText(f, streamName(path), tokens, size, most)
	}
	if err == nil {
		err = check(streams, tokens.Size())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return streams, nil
}

// streamName is what a file's only stream is called.
func streamName(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

func check(streams []Stream, vocab int) error {
	if len(streams) == 0 {
		return errors.New("no stream")
	}
	for _, s := range streams {
		if len(s.Windows) == 0 {
			return fmt.Errorf("stream %s has no window", s.Name)
		}
		for i, w := range s.Windows {
			if at := slices.IndexFunc(w, func(id token.ID) bool { return id < 0 || int(id) >= vocab }); at >= 0 {
				return fmt.Errorf("stream %s, window %d: token %d is %d, the vocabulary has %d", s.Name, i+1, at, w[at], vocab)
			}
		}
	}
	return nil
}

// readAll reads a file that is not too long.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("more than %d bytes of token ids", maxFileBytes)
	}
	return data, err
}

// golden is the shape of files that have windows and truth.
type golden struct {
	Streams map[string]struct {
		Windows [][]token.ID `json:"windows"`
		NLL     []float64    `json:"mean_nll_per_window"`
	} `json:"streams"`
}

func fromJSON(r io.Reader, name string, size, most int) ([]Stream, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, err
	}
	var ids []token.ID
	if json.Unmarshal(data, &ids) == nil {
		return cut(name, ids, nil, size, most)
	}
	var file golden
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("neither token ids nor streams of windows: %w", err)
	}
	var out []Stream
	for _, name := range slices.Sorted(maps.Keys(file.Streams)) {
		given := file.Streams[name]
		s := Stream{Name: name, Truth: given.NLL}
		for i, w := range given.Windows[:min(most, len(given.Windows))] {
			if len(w) < size {
				return nil, fmt.Errorf("stream %s, window %d has %d tokens, asked for are %d", name, i+1, len(w), size)
			}
			if len(w) > size || len(given.NLL) != len(given.Windows) {
				s.Truth = nil // it is of other windows
			}
			s.Windows = append(s.Windows, w[:size])
		}
		s.Truth = s.Truth[:min(len(s.Windows), len(s.Truth))]
		out = append(out, s)
	}
	return out, nil
}

func fromBinary(r io.Reader, name string, size, most int) ([]Stream, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, err
	}
	if len(data)%4 != 0 {
		return nil, fmt.Errorf("%d bytes are no whole number of u32 token ids", len(data))
	}
	ids := make([]token.ID, len(data)/4)
	for i := range ids {
		ids[i] = token.ID(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return cut(name, ids, nil, size, most)
}

// fromText encodes no more of a text than the windows can take.
func fromText(r io.Reader, name string, tokens *token.Tokenizer, size, most int) ([]Stream, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(size)*int64(most)*int64(tokens.LongestToken())))
	if err != nil {
		return nil, err
	}
	ids, err := tokens.IDs(strings.ToValidUTF8(string(data), ""), token.Options{})
	if err != nil {
		return nil, err
	}
	lead, err := tokens.IDs("", token.Options{AddSpecial: true})
	if err != nil {
		return nil, err
	}
	if len(lead) > 0 && lead[0] == tokens.BOS() {
		return cut(name, ids, lead[:1], size, most)
	}
	return cut(name, ids, nil, size, most)
}

// cut makes windows of size tokens, lead in front of each. A rest that fills no
// window is left out.
func cut(name string, ids, lead []token.ID, size, most int) ([]Stream, error) {
	s := Stream{Name: name}
	for part := range slices.Chunk(ids, size-len(lead)) {
		if len(part) == size-len(lead) && len(s.Windows) < most {
			s.Windows = append(s.Windows, slices.Concat(lead, part))
		}
	}
	if len(s.Windows) == 0 {
		return nil, fmt.Errorf("%d tokens do not fill a window of %d", len(ids), size-len(lead))
	}
	return []Stream{s}, nil
}

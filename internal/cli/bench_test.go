package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The quality of KV formats over a text: f16 first, then what was asked for, as
// a table and as JSON. What cannot be read is said.
func TestPerplexity(t *testing.T) {
	s := newStage(t)
	text := s.write(t, "text", strings.Repeat("the cat in the hat sat on a mat ", 40))
	args := []string{"bench", "--perplexity", text, "--model", tinyModel(t), "--kv-format", "q4", "--window", "256", "--windows", "1", "--threads", "1"}
	if code := s.run(append(args, "--json")...); code != exitDone {
		t.Fatalf("exit %d: %s", code, &s.err)
	}
	var got struct {
		Streams []struct {
			Windows, Window int
			Formats         []struct{ Format string }
		}
	}
	if err := json.Unmarshal(s.out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Streams) != 1 || got.Streams[0].Window != 256 || got.Streams[0].Windows != 1 || len(got.Streams[0].Formats) != 2 || got.Streams[0].Formats[1].Format != "q4" {
		t.Errorf("measured %+v", got)
	}
	if code := s.run(args...); code != exitDone || !strings.Contains(s.out.String(), "q4") {
		t.Errorf("exit %d: %s%s", code, &s.out, &s.err)
	}
	if err := os.Remove(filepath.Join(s.home, "text")); err != nil {
		t.Fatal(err)
	}
	if code := s.run(args...); code != exitFailed || !strings.Contains(s.err.String(), "no such file") {
		t.Errorf("exit %d: %s", code, &s.err)
	}
}

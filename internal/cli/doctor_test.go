package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mneme/internal/cli/value"
	"mneme/internal/kv"
)

// With a model at hand the doctor finds nothing essential missing and says how
// many agents fit.
func TestDoctor(t *testing.T) {
	s := newStage(t)
	if code := s.run("doctor", "--model", tinyModel(t), "--kv-memory", "1GiB"); code != exitDone {
		t.Errorf("exit %d:\n%s%s", code, &s.out, &s.err)
	}
	// Per token and layer 64 dims of K and V: 4 bits and a scale and a middle
	// per channel or token of a block make 1 GiB hold this many.
	spec := kv.Spec{Format: kv.FormatQ4, Groups: []kv.Group{{Layers: []int{0, 1}, KVHeads: 1, KDim: 64, VDim: 64}}}
	for _, want := range []string{"numerics class", "llama, 2 layers, context 4096", "KV q4", "KV q8", "KV f16", "1.0 GiB hold"} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("no %q in\n%s", want, &s.out)
		}
	}
	if agentBytes(spec, 4096) >= agentBytes(kv.Spec{Format: kv.FormatF16, Groups: spec.Groups}, 4096)/3 {
		t.Error("an agent in q4 should take less than a third of one in f16")
	}
}

// What is missing is named, and the exit code says so.
func TestDoctorMisses(t *testing.T) {
	s := newStage(t)
	if code := s.run("doctor", "--model", "/nowhere/model.gguf"); code != exitFailed || !strings.Contains(s.out.String(), "FAIL  model") {
		t.Errorf("exit %d:\n%s", code, &s.out)
	}
	if code := s.run("doctor", "--model", tinyModel(t), "--data", "/proc/agents"); code != exitFailed || !strings.Contains(s.out.String(), "FAIL  data") {
		t.Errorf("exit %d:\n%s", code, &s.out)
	}
}

func TestModelFiles(t *testing.T) {
	s := newStage(t)
	dir := filepath.Join(s.home, ".cache/mneme/models")
	s.write(t, ".cache/mneme/models/mine.gguf", "GGUF")
	if code := s.run("ls"); code != exitDone {
		t.Fatalf("ls: exit %d: %s", code, &s.err)
	}
	for _, want := range []string{"mine     4 B", filepath.Join(dir, "mine.gguf"), "fetch it with: mneme pull smollm2"} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("ls lacks %q:\n%s", want, &s.out)
		}
	}
	if code := s.run("pull", filepath.Join(dir, "mine.gguf")); code != exitDone || s.out.String() != filepath.Join(dir, "mine.gguf")+"\n" {
		t.Errorf("pull of what is here: exit %d, %q %q", code, &s.out, &s.err)
	}
	if code := s.run("rm", "mine.gguf"); code != exitDone {
		t.Errorf("rm: exit %d: %s", code, &s.err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mine.gguf")); !os.IsNotExist(err) {
		t.Errorf("after rm: %v", err)
	}
	if code := s.run("rm", "mine.gguf"); code != exitFailed {
		t.Errorf("rm of nothing: exit %d", code)
	}
}

func TestKVBudget(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		says          string
		asked         value.Size
		free, context int64
		want          int64
		fails         bool
	}{
		{says: "a quarter of what is free", free: 8 * gib, context: gib, want: 2 * gib},
		{says: "but room for one context", free: 8 * gib, context: 3 * gib, want: 3 * gib},
		{says: "a context that cannot fit", free: 8 * gib, context: 9 * gib, fails: true},
		{says: "a share", asked: value.Size{Percent: 50}, free: 8 * gib, context: gib, want: 4 * gib},
		{says: "bytes", asked: value.Size{Bytes: 77}, free: 8 * gib, context: gib, want: 77},
		{says: "bytes where free memory is unknown", asked: value.Size{Bytes: 77}, want: 77},
		{says: "a share of the unknown", asked: value.Size{Percent: 50}, fails: true},
		{says: "nothing known, nothing asked", fails: true},
	} {
		got, err := kvBudget(c.asked, c.free, c.context)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d (%v), want %d", c.says, got, err, c.want)
		}
	}
}

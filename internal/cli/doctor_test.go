package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/hub"
	"mneme/internal/kv"
	"mneme/internal/testkit"
)

// With a model at hand the doctor finds nothing essential missing and says how
// many agents fit: of one that was asked for as a table, else on a line each.
func TestDoctor(t *testing.T) {
	s := newStage(t)
	model := tinyModel(t)
	if code := s.run("doctor", "--model", model, "--kv-memory", "1GiB"); code != exitDone {
		t.Errorf("exit %d:\n%s%s", code, &s.out, &s.err)
	}
	for _, want := range []string{"numerics class", "llama, 2 layers, context 4096", "ok  KV group", "ok  fits", "KV FORMAT", "q3 ", "q4 (asked for)", "q8 ", "f16 ", "AGENTS OF 4096\n"} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("no %q in\n%s", want, &s.out)
		}
	}
	s.Environ = append(s.Environ, "MNEME_MODEL="+model)
	if code := s.run("doctor", "--kv-memory", "1GiB"); code != exitDone {
		t.Errorf("exit %d:\n%s%s", code, &s.out, &s.err)
	}
	for _, want := range []string{"llama, 2 layers, context 4096", "KV q3", "KV q4", "KV q8", "KV f16", "1.0 GiB hold"} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("no %q in\n%s", want, &s.out)
		}
	}
}

// What is missing is named, and the exit code says so.
func TestDoctorMisses(t *testing.T) {
	s := newStage(t)
	if code := s.run("doctor", "--model", "/nowhere/model.gguf"); code != exitFailed || !strings.Contains(s.out.String(), "FAIL  model") || s.err.String() != "mneme doctor: something essential is missing: model\n" {
		t.Errorf("exit %d:\n%s%s", code, &s.out, &s.err)
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

// A model file of the right length with other bytes is found by whoever opens
// it, in its head or in its weights; nobody serves it.
func TestDamagedModel(t *testing.T) {
	alias := hub.Aliases()[0]
	s := newStage(t)
	path := s.write(t, filepath.Join(".cache/mneme/models", alias.File), "GGUF")
	for where, damage := range map[string]func() error{
		"head":    func() error { return os.Truncate(path, alias.SizeBytes) }, // nothing after GGUF
		"weights": func() error { return flip(testkit.SmolLM2(t), path) },
	} {
		if err := os.WriteFile(path, []byte("GGUF"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		_, wrong := hub.Model{Path: path, Alias: alias.Name, SHA256: alias.SHA256}.Verify().(*hub.DigestError)
		if !wrong {
			t.Fatal("the file is not damaged")
		}
		for _, line := range []string{"serve --addr 127.0.0.1:0", "run", "doctor"} {
			code := s.run(strings.Fields(line)...)
			said := s.out.String() + s.err.String()
			for _, want := range []string{"is damaged: its sha256 is ", "that of smollm2 is " + alias.SHA256, "mneme rm smollm2 && mneme pull smollm2"} {
				if code != exitFailed || !strings.Contains(said, want) {
					t.Errorf("damaged %s, %s: exit %d, want %d and %q in\n%s", where, line, code, exitFailed, want, said)
				}
			}
		}
	}
}

// flip copies a file and changes a bit in its second half.
func flip(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	data[len(data)*2/3] ^= 4
	return os.WriteFile(to, data, 0o600)
}

// A context that does not fit the memory for it is said, with both numbers.
func TestLittleMemory(t *testing.T) {
	s := newStage(t)
	code := s.run("doctor", "--model", tinyModel(t), "--kv-memory", "300KiB", "--context", "2048")
	want := "warn  fits       --kv-memory: 300.0 KiB are less than the 360.0 KiB of one context of 2048 tokens: longer conversations will not fit"
	if code != exitDone || !strings.Contains(s.out.String(), want) {
		t.Errorf("exit %d, no %q in\n%s", code, want, &s.out)
	}
	var log bytes.Buffer
	rooms, err := wire.Open(context.Background(), wire.Settings{Model: tinyModel(t), DataDir: s.home, KVFormat: kv.FormatQ4, KVMemory: value.Size{Bytes: 300 << 10}, Context: 2048, Threads: 1}, newLogger(&log, "text"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rooms.Close(); err != nil || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "300.0 KiB are less than the 360.0 KiB of one context") {
		t.Errorf("%v; the server's log:\n%s", err, &log)
	}
	if code := s.run("doctor", "--model", tinyModel(t), "--kv-memory", "9999TiB"); code != exitFailed || !strings.HasSuffix(s.err.String(), "tiny.gguf does not fit here\n") || !strings.Contains(s.out.String(), "FAIL  fits       no: --kv-memory 9999TiB: must be at most") {
		t.Errorf("exit %d:\n%s", code, &s.out)
	}
}

package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// cast is a command line that is to say something, or to fail with it.
type cast struct {
	line, out, err string
	code           int
}

func (s *stage) play(t *testing.T, lines ...cast) {
	t.Helper()
	for _, c := range lines {
		code := s.run(strings.Fields(c.line)...)
		if code != c.code || s.out.String() != c.out || !strings.Contains(s.err.String(), c.err) || (c.err == "") != (s.err.Len() == 0) {
			t.Errorf("%s: exit %d, want %d\nout %q\nwant %q\nerr %q\nwant %q", c.line, code, c.code, &s.out, c.out, &s.err, c.err)
		}
	}
}

// ada has a turn; bob goes on from her and is put back to before it; she leaves
// as a file and comes back as cy, who goes on with all she knew. Then nobody
// serves, and the folder is looked at.
func TestAgentsMove(t *testing.T) {
	model, data := tinyModel(t), t.TempDir()
	p := startServe(t, model, data)
	url := p.url()
	ada, question, first := p.askForText(url)
	file := filepath.Join(t.TempDir(), "ada.mneme")
	s := newStage(t, "MNEME_ADDR="+strings.TrimPrefix(url, "http://"))
	tokens := regexpOne(t, `"tokens":(\d+)`, string(get(t.Context(), t, url+"/v1/agents/"+ada)))
	one := ": 1 turns, " + tokens + " tokens\n"
	s.play(t,
		cast{line: "agents fork " + ada + " bob", out: "bob" + one},
		cast{line: "agents fork " + ada + " new --turn 0", out: "new: 0 turns, 0 tokens\n"},
		cast{line: "agents fork " + ada + " bob", err: "agent bob exists already (409 Conflict)", code: exitFailed},
		cast{line: "agents fork " + ada + " eve --turn 9", err: "9 is none of agent " + ada, code: exitFailed},
		cast{line: "agents rollback bob 0", out: "bob: 0 turns, 0 tokens\n"},
		cast{line: "agents export " + ada + " -o " + file},
		cast{line: "agents import " + file, err: "exists already", code: exitFailed},
		cast{line: "agents import " + file + " --id cy", out: "cy" + one},
		cast{line: "agents import " + model + " --id eve", err: "(400 Bad Request)", code: exitFailed},
		cast{line: "agents export nobody -o " + file, err: "no such agent: nobody", code: exitFailed},
		cast{line: "agents ls --data " + data, err: "in use by another process (pid ", code: exitFailed},
		cast{line: "agents verify --data " + data, err: "in use by another process (pid ", code: exitFailed},
	)
	small := filepath.Join(filepath.Dir(file), "small.mneme")
	s.play(t, cast{line: "agents export " + ada + " --no-kv -o " + small})
	if whole, without := fileSize(t, file), fileSize(t, small); without == 0 || without >= whole {
		t.Errorf("with KV %d bytes, without %d", whole, without)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 2 {
		t.Errorf("left in the folder: %v (%v), want the two exports", left, err)
	}
	second := p.ask(url, "cy", says("user", question), says("assistant", first.Choices[0].Message.Content), says("user", "and then?"))
	if got, want := second.Usage.Details.Cached, first.Usage.Prompt+first.Usage.Completion-1; got != want {
		t.Errorf("cy's turn: %d tokens cached, want %d", got, want)
	}
	if code := p.end(syscall.SIGTERM); code != exitDone {
		t.Fatalf("exit %d; it said:\n%s", code, p.said)
	}
	s.lookAt(t, data, ada, tokens)
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// What cannot be meant is refused before a server is asked.
func TestWrongOperations(t *testing.T) {
	addr := answering(t, http.StatusOK, `{"object":"list","data":[]}`)
	s := newStage(t, "MNEME_ADDR="+addr)
	s.play(t,
		cast{line: "agents fork ada", err: "takes an agent id and a new one, got 1 arguments", code: exitUsage},
		cast{line: "agents fork ada a/b", err: `new agent id "a/b"`, code: exitUsage},
		cast{line: "agents fork ada bob --turn -1", err: "must be a whole number, 0 or more", code: exitUsage},
		cast{line: "agents rollback ada", err: "takes an agent id and a turn, got 1 arguments", code: exitUsage},
		cast{line: "agents rollback ada last", err: `turn "last": must be a whole number, 0 or more`, code: exitUsage},
		cast{line: "agents import", err: "takes a file, got 0 arguments", code: exitUsage},
		cast{line: "agents import /proc/nowhere", err: "no such file", code: exitFailed},
		cast{line: "agents import /proc/nowhere --id a/b", err: `--id "a/b"`, code: exitUsage},
		cast{line: "agents fork ada bob", err: `server's answer is "list", want "agent"`, code: exitFailed},
		cast{line: "agents export ada", err: `want application/octet-stream`, code: exitFailed},
	)
}

package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func regexpOne(t *testing.T, pattern, text string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %s", pattern, text)
	}
	return m[1]
}

// lookAt lists and checks the folder of TestAgentsMove, whose server has ended,
// and then damages it.
func (s *stage) lookAt(t *testing.T, data, ada, tokens string) {
	t.Helper()
	if code := s.run("agents", "ls", "--data", data); code != exitDone {
		t.Errorf("ls: exit %d: %s", code, &s.err)
	}
	rows := strings.Split(strings.TrimSpace(s.out.String()), "\n")
	var got []string
	for _, row := range rows {
		cells := strings.Fields(row)
		if other := strings.HasPrefix(cells[0], "ada-") && cells[0] != ada; !other { // of askForText
			got = append(got, strings.Join(cells[:3], " "))
		}
	}
	if want := ada + " 1 " + tokens; len(got) != 5 || got[0] != "AGENT TURNS TOKENS" || got[1] != want || got[2] != "bob 0 0" || !strings.HasPrefix(got[3], "cy 2 ") || got[4] != "new 0 0" {
		t.Errorf("listed %q, want %s, bob, cy with 2 turns and new", got, want)
	}
	if code := s.run("agents", "ls", "--data", data, "--json"); code != exitDone || !strings.HasPrefix(s.out.String(), `{"object":"list","data":[`) || !strings.Contains(s.out.String(), `"id":"bob","model":"tiny","tokens":0,"turns":0,"parent":"`+ada+`"`) {
		t.Errorf("as JSON, exit %d: %s", code, &s.out)
	}
	s.play(t,
		cast{line: "agents verify --data " + data, out: data + " is whole\n"},
		cast{line: "agents ls --data " + data + " --addr :1", err: "give --addr or --data, not both", code: exitUsage},
		cast{line: "agents ls --data " + s.home, err: "is no data folder", code: exitFailed},
		cast{line: "agents verify --data " + s.home, err: "is no data folder", code: exitFailed},
	)
	s.damage(t, data)
}

// damage flips a byte in the middle of a segment: verify says so, fails, repairs
// and has nothing to say about the segment afterwards.
func (s *stage) damage(t *testing.T, data string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(data, "kv", "*", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments (%v)", err)
	}
	bytes, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	bytes[len(bytes)/2] ^= 1
	if err := os.WriteFile(segments[0], bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := s.run("agents", "verify", "--data", data); code != exitFailed || !strings.Contains(s.out.String(), segments[0]) || !strings.Contains(s.err.String(), "findings are left") {
		t.Errorf("verify of a damaged folder, exit %d: %s%s", code, &s.out, &s.err)
	}
	if code := s.run("agents", "verify", "--data", data, "--repair"); !strings.Contains(s.out.String(), " (repaired)\n") {
		t.Errorf("repair, exit %d: %s%s", code, &s.out, &s.err)
	}
	if s.run("agents", "verify", "--data", data); strings.Contains(s.out.String(), segments[0]) {
		t.Errorf("after the repair: %s", &s.out)
	}
}

// The folder in the configuration is a server's: ls asks the server.
func TestListIsOnlineByDefault(t *testing.T) {
	addr := answering(t, 200, `{"object":"list","data":[]}`)
	s := newStage(t, "MNEME_ADDR="+addr, "MNEME_DATA=/proc/nowhere")
	if code := s.run("agents", "ls"); code != exitDone || !strings.HasPrefix(s.out.String(), "AGENT ") {
		t.Errorf("exit %d: %s%s", code, &s.out, &s.err)
	}
}

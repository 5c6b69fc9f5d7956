package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"mneme/internal/cli/transcript"
	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/model/modeltest"
)

// asProgram makes the test binary be the program: the tests below start it as a
// process that can be killed.
const asProgram = "MNEME_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main(os.Args[1:], Process()))
	}
	os.Exit(m.Run())
}

const patience = 30 * time.Second

// program is a running `mneme` process.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	said *safeBuffer // standard error
}

// safeBuffer is written by a process while a test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// tinyModel writes a small random model to a file.
func tinyModel(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(path, modeltest.File(1), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// startServe runs `mneme serve` on a free port. What is on disk is read, even where
// to compute it again would be quicker, as it is with a tiny model.
func startServe(t *testing.T, model, data string, environ ...string) *program {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--model", model, "--data", data, "--addr", "127.0.0.1:0", "--kv-memory", "64MiB", "--threads", "1", "--restore", "always")
	cmd.Env = append(os.Environ(), append(environ, asProgram+"=1", "HOME="+t.TempDir())...)
	p := &program{t: t, cmd: cmd, said: &safeBuffer{}}
	cmd.Stderr = p.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			p.end(syscall.SIGKILL)
		}
	})
	return p
}

// end sends a signal and waits for the exit; -1 is the end by a signal.
func (p *program) end(s os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("signal: %v", err)
	}
	return p.wait()
}

func (p *program) wait() int {
	p.t.Helper()
	timer := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

var listens = regexp.MustCompile(`mneme listens on (http://\S+)`)

// url waits until the server is ready and says where it is.
func (p *program) url() string {
	p.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		m := listens.FindStringSubmatch(p.said.String())
		if m == nil {
			continue
		}
		resp, err := http.Get(m[1] + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return m[1]
			}
		}
	}
	p.t.Fatalf("not ready; it said:\n%s", p.said)
	return ""
}

// answer is what these tests look at in a chat's answer.
type answer struct {
	Choices []struct {
		Message struct{ Role, Content string }
	}
	Usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Details    struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
}

// ask runs one greedy turn of an agent.
func (p *program) ask(url, agent string, messages ...map[string]string) answer {
	p.t.Helper()
	body, _ := json.Marshal(map[string]any{"messages": messages, "max_tokens": 8, "temperature": 0, "ignore_eos": true})
	req, _ := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", bytes.NewReader(body))
	req.Header.Set("X-Agent-ID", agent)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatalf("%v; the server said:\n%s", err, p.said)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var a answer
	if err := json.Unmarshal(text, &a); err != nil || resp.StatusCode != http.StatusOK || len(a.Choices) != 1 {
		p.t.Fatalf("%s: %s (%v)", resp.Status, text, err)
	}
	return a
}

// askForText asks, each time as another agent, until the answer of the random
// model is text: bytes that are no UTF-8 cannot be sent back as they were.
func (p *program) askForText(url string) (agent, question string, a answer) {
	p.t.Helper()
	for i := range 200 {
		agent, question = fmt.Sprintf("ada-%d", i), strings.Repeat(fmt.Sprintf("the rain in park %d ", i), 12)
		a = p.ask(url, agent, says("user", question))
		if said := a.Choices[0].Message.Content; said != "" && !strings.ContainsRune(said, utf8.RuneError) && !strings.Contains(said, "<|") {
			return agent, question, a
		}
	}
	p.t.Fatal("200 answers and none of them text")
	return
}

func says(role, content string) map[string]string {
	return map[string]string{"role": role, "content": content}
}

// ada speaks, the server is killed, ada goes on: all but her new message is
// known. SIGTERM then ends the server well.
func TestServeKillServe(t *testing.T) {
	model, data := tinyModel(t), t.TempDir()
	p := startServe(t, model, data)
	agent, question, first := p.askForText(p.url())
	if first.Usage.Details.Cached >= 64 || first.Usage.Completion != 8 {
		t.Errorf("first turn: %+v", first.Usage)
	}
	if code := p.end(syscall.SIGKILL); code != -1 {
		t.Fatalf("killed, but exit %d", code)
	}

	p = startServe(t, model, data)
	url := p.url()
	second := p.ask(url, agent, says("user", question), says("assistant", first.Choices[0].Message.Content), says("user", "and then?"))
	if got, want := second.Usage.Details.Cached, first.Usage.Prompt+first.Usage.Completion-1; got != want {
		t.Errorf("second turn of %s: %d tokens cached, want %d", agent, got, want)
	}
	if code := p.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("SIGTERM: exit %d, want %d; it said:\n%s", code, exitDone, p.said)
	}
	if resp, err := http.Get(url + "/healthz"); err == nil {
		resp.Body.Close()
		t.Error("it still answers")
	}
	for _, want := range []string{"Three things to try", url + "/v1/agents", `"msg":"serving"`} {
		if !strings.Contains(p.said.String(), want) {
			t.Errorf("it did not say %q:\n%s", want, p.said)
		}
	}
}

// keyFile writes a master key, which the stage's servers are to use.
func keyFile(t *testing.T, letter string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(path, []byte(strings.Repeat(letter, 32)), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// An encrypted folder is read again with its key, by a server after a kill and
// offline; without it, or with another one, nobody serves it. To verify it takes
// no key.
func TestEncryptedFolder(t *testing.T) {
	model, data, key := tinyModel(t), t.TempDir(), keyFile(t, "k", 0o600)
	p := startServe(t, model, data, "MNEME_KV_KEY_FILE="+key)
	agent, question, first := p.askForText(p.url())
	p.end(syscall.SIGKILL)
	p = startServe(t, model, data, "MNEME_KV_KEY_FILE="+key)
	second := p.ask(p.url(), agent, says("user", question), says("assistant", first.Choices[0].Message.Content), says("user", "and then?"))
	if got, want := second.Usage.Details.Cached, first.Usage.Prompt+first.Usage.Completion-1; got != want {
		t.Errorf("second turn of %s: %d tokens cached, want %d", agent, got, want)
	}
	if code := p.end(syscall.SIGTERM); code != exitDone {
		t.Fatalf("exit %d; it said:\n%s", code, p.said)
	}
	s := newStage(t)
	serve := "serve --addr 127.0.0.1:0 --threads 1 --kv-memory 64MiB --model " + model + " --data " + data
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{serve, "is encrypted; --kv-key-file is needed", exitFailed},
		{serve + " --kv-key-file " + keyFile(t, "o", 0o600), "the master key is not the one that the folder is encrypted with", exitFailed},
		{serve + " --kv-key-file " + keyFile(t, "k", 0o644), "--kv-key-file: key file: ", exitUsage},
		{serve + " --kv-key-file /nowhere/key", "--kv-key-file: key file: open /nowhere/key: no such file", exitUsage},
		{"agents verify --data " + data, data + " is whole\n", exitDone},
		{"agents ls --data " + data, "is encrypted; --kv-key-file is needed", exitFailed},
		{"agents ls --data " + data + " --kv-key-file " + keyFile(t, "o", 0o600), "the master key is not the one that the folder is encrypted with", exitFailed},
		{"agents ls --data " + data + " --kv-key-file " + key, agent, exitDone},
		{"agents ls --data " + data + " --kv-key-file /nowhere/key", "--kv-key-file: key file: open /nowhere/key: no such file", exitUsage},
	} {
		if code := s.run(strings.Fields(c.args)...); code != c.code || !strings.Contains(s.out.String()+s.err.String(), c.want) {
			t.Errorf("%s: exit %d, want %d and %q in\n%s%s", c.args, code, c.code, c.want, &s.out, &s.err)
		}
	}
}

// An agent that nobody uses is gone after --agent-ttl.
func TestAgentTTL(t *testing.T) {
	p := startServe(t, tinyModel(t), t.TempDir(), "MNEME_AGENT_TTL=1ms")
	url := p.url()
	if status, said := request(t, http.MethodPost, url+"/v1/agents", `{"id":"ada"}`); status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, said)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		status, said := request(t, http.MethodGet, url+"/v1/agents/ada", "")
		if status == http.StatusNotFound {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still there: %d %s", status, said)
		}
	}
}

// stream begins a long turn and returns its body once the first event is there.
func (p *program) stream(url string, maxTokens int) *bufio.Reader {
	p.t.Helper()
	body := fmt.Sprintf(`{"stream":true,"ignore_eos":true,"max_tokens":%d,"messages":[{"role":"user","content":"go on"}]}`, maxTokens)
	resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { resp.Body.Close() })
	events := bufio.NewReader(resp.Body)
	if _, err := events.ReadString('\n'); err != nil {
		p.t.Fatal(err)
	}
	return events
}

// While a turn is under way after SIGTERM the server answers: new turns and the
// probe are told that it goes away. The turn is finished, then the line closed.
func TestDraining(t *testing.T) {
	p := startServe(t, tinyModel(t), t.TempDir())
	url := p.url()
	events := p.stream(url, 3000)
	p.signal(syscall.SIGTERM)
	p.waitFor(`"msg":"stopping","limit":"30s"`)
	for _, path := range []string{"/readyz", "/v1/chat/completions"} {
		method, body := http.MethodGet, ""
		if path != "/readyz" {
			method, body = http.MethodPost, `{"messages":[{"role":"user","content":"me too"}]}`
		}
		if status, said := request(t, method, url+path, body); status != http.StatusServiceUnavailable || !strings.Contains(said, `"code":"draining"`) {
			t.Errorf("%s while draining: %d %s", path, status, said)
		}
	}
	if status, said := request(t, http.MethodGet, url+"/healthz", ""); status != http.StatusOK {
		t.Errorf("/healthz while draining: %d %s", status, said)
	}
	if rest, err := io.ReadAll(events); err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("the stream ended with %q (%v)", rest[max(0, len(rest)-80):], err)
	}
	if code := p.wait(); code != exitDone {
		t.Errorf("exit %d, want %d; it said:\n%s", code, exitDone, p.said)
	}
	if _, err := http.Get(url + "/healthz"); err == nil {
		t.Error("it still answers")
	}
}

func request(t *testing.T, method, url, body string) (status int, said string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// waitFor waits until the process has said something.
func (p *program) waitFor(text string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(p.said.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it does not say %q:\n%s", text, p.said)
		}
	}
}

// A second SIGTERM does not wait.
func TestTwoSignals(t *testing.T) {
	p := startServe(t, tinyModel(t), t.TempDir())
	url := p.url()
	for range 8 { // long enough not to be over before the second signal
		p.stream(url, 4000)
	}
	p.signal(syscall.SIGTERM)
	p.waitFor(`"msg":"stopping"`)
	began := time.Now()
	if code := p.end(syscall.SIGTERM); code != -1 {
		t.Errorf("second SIGTERM: exit %d after %v, want the end by a signal", code, time.Since(began))
	}
}

// A second server on the same folder refuses and names the first.
func TestServeTwiceOnOneFolder(t *testing.T) {
	model, data := tinyModel(t), t.TempDir()
	first := startServe(t, model, data)
	first.url()
	second := startServe(t, model, data)
	if code := second.wait(); code != exitFailed {
		t.Errorf("second server: exit %d, want %d", code, exitFailed)
	}
	if holder := fmt.Sprint(first.cmd.Process.Pid); !strings.Contains(second.said.String(), holder) {
		t.Errorf("it does not name process %s:\n%s", holder, second.said)
	}
	if code := first.end(os.Interrupt); code != exitDone {
		t.Errorf("first server: exit %d", code)
	}
}

// The hook for crash tests kills the process before the n-th change on disk.
func TestCrashAt(t *testing.T) {
	p := startServe(t, tinyModel(t), t.TempDir(), "MNEME_CRASH_AT=1")
	if code := p.wait(); code != -1 {
		t.Errorf("exit %d, want the end by a signal; it said:\n%s", code, p.said)
	}
}

// What cannot be served is said and fails; nothing is left open behind it.
func TestServeRefuses(t *testing.T) {
	model := tinyModel(t)
	broken := filepath.Join(t.TempDir(), "broken.gguf")
	if err := os.WriteFile(broken, []byte("GGUF and then nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, environ, want string
		code                int
	}{
		{"--model " + broken, "", "gguf", exitFailed},
		{"--model nobody", "", `unknown model "nobody"`, exitFailed},
		{"--model " + model + " --context 5000", "", "--context 5000: must be from 16 to 4096, the model was trained on 4096 tokens", exitUsage},
		{"--model " + model + " --kv-memory 9000TiB", "", "--kv-memory 9000TiB: must be at most", exitUsage},
		{"--model " + model + " --kv-memory 1KiB", "", "--kv-memory: kv pool: 1024 bytes are too few", exitUsage},
		{"--model " + model + " --kv-disk 9000TiB", "", "--kv-disk 9000TiB: must be at most", exitUsage},
		{"--model " + model + " --min-free 9000TiB", "", "--min-free 9000TiB: must be at most", exitUsage},
		{"--model " + model, "MNEME_KERNEL=quantum", `MNEME_KERNEL: tensor: no kernels "quantum" on this machine`, exitUsage},
		{"--model " + model, "MNEME_CRASH_AT=soon", "MNEME_CRASH_AT", exitUsage},
		{"--model " + model + " --data /proc/nowhere", "", "/proc/nowhere", exitFailed},
	} {
		s := newStage(t, c.environ)
		args := append(strings.Fields("serve --addr 127.0.0.1:0 --threads 1 --kv-memory 64MiB"), strings.Fields(c.args)...)
		if code := s.run(args...); code != c.code || !strings.Contains(s.err.String(), c.want) {
			t.Errorf("%s %s: exit %d, want %d and %q in\n%s", c.args, c.environ, code, c.code, c.want, &s.err)
		}
	}
}

// A chat over a pipe, and the next day another one that sends what was said.
func TestRunRemembers(t *testing.T) {
	model := tinyModel(t)
	s := newStage(t)
	args := []string{"run", "--model", model, "--threads", "1", "--kv-memory", "64MiB", "--context", "512"}
	s.In = strings.NewReader("hello\n/help\n/exit\nnot read\n")
	if code := s.run(args...); code != exitDone {
		t.Fatalf("exit %d:\n%s", code, &s.err)
	}
	messages, err := transcript.File{Path: transcript.Path(dataHome(s.World), terminalAgent)}.Load()
	if err != nil || len(messages) != 2 || messages[0].Content != "hello" || messages[1].Role != "assistant" {
		t.Fatalf("after one turn the transcript is %+v (%v)", messages, err)
	}
	if got := strings.TrimSuffix(s.out.String(), "\n"); got != messages[1].Content {
		t.Errorf("printed %q, remembered %q", got, messages[1].Content)
	}

	s.In = strings.NewReader("a prompt that does not fit: " + strings.Repeat("too long ", 200))
	if code := s.run(args...); code != exitDone || !strings.Contains(s.err.String(), "start afresh with another --agent") {
		t.Errorf("exit %d:\n%s", code, &s.err)
	}
	if again, err := (transcript.File{Path: transcript.Path(dataHome(s.World), terminalAgent)}).Load(); err != nil || len(again) != 2 {
		t.Errorf("a refused turn is remembered: %+v (%v)", again, err)
	}
}

// Ctrl-C in mid-answer stops the answer, and the turn never was; while nobody
// speaks it ends the conversation.
func TestInterrupts(t *testing.T) {
	s := newStage(t)
	f := engineFlags{}
	f.register(s.World, pflag.NewFlagSet("test", pflag.ContinueOnError))
	settings := f.settings(s.World)
	settings.Model, settings.Threads, settings.KVMemory = tinyModel(t), 1, value.Size{Bytes: 64 << 20}
	rooms, err := wire.Open(context.Background(), settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer rooms.Close()
	c, err := newConversation(s.World, rooms.Engine, "ada", transcript.Path(settings.DataDir, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	interrupts := make(chan os.Signal, 2)
	interrupts <- os.Interrupt
	if err := c.answer(context.Background(), "go on", interrupts); err != nil || len(c.messages) != 0 {
		t.Errorf("after a stopped answer: %+v (%v), want nothing remembered", c.messages, err)
	}
	c.world.In, _ = io.Pipe() // nobody types
	interrupts <- os.Interrupt
	if err := c.talk(context.Background(), interrupts); err != nil {
		t.Errorf("talk: %v", err)
	}
}

// The whole serve command inside this process: its context ends it.
func TestServeEndsWithItsContext(t *testing.T) {
	said := &safeBuffer{}
	s := newStage(t)
	s.Err = said
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		code <- MainContext(ctx, []string{"serve", "--model", tinyModel(t), "--addr", "127.0.0.1:0", "--threads", "1", "--kv-memory", "64MiB"}, s.World)
	}()
	(&program{t: t, said: said}).url()
	cancel()
	select {
	case got := <-code:
		if got != exitDone {
			t.Errorf("exit %d:\n%s", got, said)
		}
	case <-time.After(patience):
		t.Fatal("serve does not end")
	}
}

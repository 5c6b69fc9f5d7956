package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mneme/internal/chat"
	"mneme/internal/engine"
)

// pty is a terminal: what is written to keys is typed, what the program and the
// echo write is collected.
type pty struct {
	keys, program *os.File
	shown         *safeBuffer
}

func newPTY(t *testing.T) *pty {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{keys: keys, program: program, shown: &safeBuffer{}}
	go func() { // ends when the terminal is closed
		for buf := make([]byte, 1024); ; {
			n, err := keys.Read(buf)
			if err != nil {
				return
			}
			p.shown.Write(buf[:n])
		}
	}()
	t.Cleanup(func() { program.Close(); keys.Close() })
	return p
}

func (p *pty) types(text string) { _, _ = p.keys.WriteString(text) }

// waitFor waits until the terminal shows text.
func (p *pty) waitFor(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(p.shown.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the terminal does not show %q:\n%s", text, p.shown)
		}
	}
}

// slowEngine tells when a turn begins and fails it when it is let go.
type slowEngine struct {
	asked chan string
	free  chan struct{}
}

func (s slowEngine) Info() engine.Info {
	t, err := chat.Compile("{{ messages[-1]['content'] }}", chat.Options{})
	if err != nil {
		panic(err)
	}
	return engine.Info{Model: "slow", Template: t}
}

func (s slowEngine) Submit(_ context.Context, r engine.Request) (*engine.Stream, error) {
	s.asked <- r.Text
	<-s.free
	return nil, engine.ErrQueueFull
}

// What is typed while an answer comes is neither shown in it nor asked after
// it, whether its line was ended or not; /help says what else can be typed.
func TestTypingDuringAnAnswer(t *testing.T) {
	p := newPTY(t)
	e := slowEngine{make(chan string), make(chan struct{})}
	c, err := newConversation(World{In: p.program, Out: p.program, Err: p.program}, e, "ada", filepath.Join(t.TempDir(), "talk.json"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- c.talk(context.Background(), nil) }()
	p.waitFor(t, "> ")
	p.types("/help\nfirst\n")
	p.waitFor(t, "/help prints this")
	if got := <-e.asked; got != "first" {
		t.Fatalf("asked %q", got)
	}
	p.types("unseen\nhalf a line")
	time.Sleep(50 * time.Millisecond) // for an echo that must not come
	if strings.Contains(p.shown.String(), "unseen") || strings.Contains(p.shown.String(), "half") {
		t.Errorf("typing landed in the answer:\n%s", p.shown)
	}
	e.free <- struct{}{}
	p.waitFor(t, "too many requests waiting\r\n> ")
	p.types("second\n")
	if got := <-e.asked; got != "second" {
		t.Errorf("asked %q, want the line that was typed after the answer", got)
	}
	e.free <- struct{}{}
	p.waitFor(t, "> second\r\n\r\nmneme run: too many requests waiting\r\n> ")
	p.types("/exit\n")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

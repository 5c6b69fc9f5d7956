package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"mneme/internal/chat"
	"mneme/internal/cli/machine"
	"mneme/internal/cli/transcript"
	"mneme/internal/cli/wire"
	"mneme/internal/engine"
	"mneme/internal/sample"
)

const (
	terminalAgent       = "terminal" // who we talk to when --agent is not given
	terminalTemperature = 0.7
	terminalTopP        = 0.95
)

// defaultNamespace is everybody's as long as there are no API keys.
const defaultNamespace = "default"

// runCommand is `mneme run` with its flags.
type runCommand struct {
	world  World
	engine engineFlags
	agent  string
}

func newRun(w World) *cobra.Command {
	r := &runCommand{world: w}
	cmd := &cobra.Command{
		Use: "run", Short: "Chat in the terminal with an agent that remembers", Args: exactly(0, "no arguments, only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context()) },
	}
	r.engine.register(w, cmd.Flags())
	cmd.Flags().StringVar(&r.agent, "agent", terminalAgent, "the agent's `name`")
	return cmd
}

func (r *runCommand) run(ctx context.Context) error {
	if err := checkAgent("--agent", r.agent); err != nil {
		return err
	}
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)

	rooms, err := wire.Open(ctx, r.engine.settings(r.world), newLogger(io.Discard, "text"))
	if err != nil {
		return err
	}
	c, err := newConversation(r.world, rooms.Engine, r.agent, transcript.Path(r.engine.data, r.agent))
	if err == nil {
		err = c.talk(ctx, interrupts)
	}
	return errors.Join(err, rooms.Close())
}

// turnEngine is what a conversation needs of the engine.
type turnEngine interface {
	Submit(ctx context.Context, r engine.Request) (*engine.Stream, error)
	Info() engine.Info
}

// conversation is a chat with one agent on a terminal, or over a pipe.
type conversation struct {
	world      World
	engine     turnEngine
	agent      string
	transcript transcript.File
	messages   []chat.Message
	quiet      bool        // nobody watches: no prompt signs
	answering  atomic.Bool // on a terminal: what is typed now is dropped
}

func newConversation(w World, e turnEngine, agent, path string) (*conversation, error) {
	if e.Info().Template == nil {
		return nil, fmt.Errorf("%s has no chat template: it is a base model, which continues text but does not talk", e.Info().Model)
	}
	t := transcript.File{Path: path}
	messages, err := t.Load()
	return &conversation{world: w, engine: e, agent: agent, transcript: t, messages: messages, quiet: !terminal(w.In)}, err
}

// talk reads lines and answers them until /exit, the end of the input, or an
// interrupt while nobody speaks.
func (c *conversation) talk(ctx context.Context, interrupts <-chan os.Signal) error {
	c.say("%s, agent %s, %d messages remembered. /help says what else there is.\n", c.engine.Info().Model, c.agent, len(c.messages))
	lines := c.lines()
	for {
		c.say("> ")
		select {
		case line, ok := <-lines:
			if !ok || line == "/exit" {
				return nil
			}
			if err := c.hear(ctx, line, interrupts); err != nil {
				return err
			}
		case <-interrupts:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// hear answers one line, or does what it says.
func (c *conversation) hear(ctx context.Context, line string, interrupts <-chan os.Signal) error {
	switch line {
	case "":
		return nil
	case "/help":
		c.say("/exit ends, and so do Ctrl-D and, between answers, Ctrl-C.\n/help prints this. Ctrl-C stops an answer; its turn is then forgotten.\n")
		return nil
	}
	defer c.hush()()
	return c.answer(ctx, line, interrupts)
}

// hush keeps a terminal from mixing what is typed into an answer. Lines typed
// before listen is called are dropped: nobody saw them.
func (c *conversation) hush() (listen func()) {
	in, ok := c.world.In.(*os.File)
	if c.quiet || !ok {
		return func() {}
	}
	c.answering.Store(true)
	restore := machine.Quiet(in)
	return func() {
		restore()
		c.answering.Store(false)
	}
}

// lines reads the input line by line. Its goroutine ends with the input, which
// for a terminal is the end of the process.
func (c *conversation) lines() <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(c.world.In)
		in.Buffer(nil, 16<<20)
		for in.Scan() {
			if c.answering.Load() {
				continue
			}
			lines <- strings.TrimSpace(in.Text())
		}
	}()
	return lines
}

// answer runs one turn; an interrupt stops it, and then it never was. Only an
// error after which nothing can go on is returned.
func (c *conversation) answer(ctx context.Context, line string, interrupts <-chan os.Signal) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-interrupts:
			stop()
		case <-ended:
		}
	}()
	asked := append(c.messages[:len(c.messages):len(c.messages)], chat.Message{Role: "user", Content: line})
	said, err := c.turn(ctx, asked)
	fmt.Fprintln(c.world.Out)
	switch {
	case errors.Is(err, context.Canceled):
		c.say("(stopped; this turn is forgotten)\n")
		return nil
	case err != nil:
		fmt.Fprintln(c.world.Err, "mneme run:", hint(err))
		return nil
	}
	c.messages = append(asked, chat.Message{Role: "assistant", Content: said})
	return c.transcript.Save(c.messages)
}

// hint adds what one can do about an error.
func hint(err error) error {
	var full *engine.ContextError
	if errors.As(err, &full) {
		return fmt.Errorf("%w; start afresh with another --agent", err)
	}
	return err
}

// turn asks the engine and prints the answer as it comes.
func (c *conversation) turn(ctx context.Context, messages []chat.Message) (string, error) {
	text, err := c.engine.Info().Template.Render(messages, true)
	if err != nil {
		return "", err
	}
	params := sample.Defaults()
	params.Temperature, params.TopP, params.Seed = terminalTemperature, terminalTopP, rand.Uint64()
	stream, err := c.engine.Submit(ctx, engine.Request{Agent: engine.AgentID(c.agent), Namespace: defaultNamespace, Text: text, Sampling: params})
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var said strings.Builder
	for {
		out, ok := stream.Next(ctx)
		if !ok {
			break
		}
		said.WriteString(out.Text)
		fmt.Fprint(c.world.Out, out.Text)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	done, err := stream.Result()
	if err == nil && done.PublishErr != nil {
		fmt.Fprintln(c.world.Err, "\nmneme run: this turn is not on disk:", done.PublishErr)
	}
	return said.String(), err
}

// say prints what belongs to the dialogue, not to the answers.
func (c *conversation) say(format string, args ...any) {
	if !c.quiet {
		fmt.Fprintf(c.world.Err, format, args...)
	}
}

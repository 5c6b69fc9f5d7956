// Package durable measures what a memory that lasts costs: bytes written for
// what is new, a start with many agents on disk, a restore against a plain read
// of the same bytes, and encryption. It starts servers of its own, kills them
// and looks at what they left on disk (docs/FORMAT.md); of a server's inside it
// knows nothing else.
package durable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mneme/internal/bench/probe"
)

const (
	turnsWritten     = 8 // that are weighed
	startsPerRound   = 2
	restoresPerRound = 4  // they are short, and vary more
	mostRestores     = 16 // each is a turn, and needs room behind the one before

	askTokens    = 9 // with the template around it, about 20 tokens are new
	answerTokens = 16
	longAnswer   = 64  // where what is written is weighed: about a block is new
	agentWords   = 40  // of each of many agents: with the template, about a block and a little
	makers       = 8   // agents that are made at once
	shortTokens  = 500 // of the conversation whose turns are weighed
	turnTokens   = 64  // of a question, its short answer and what the template adds, at most
	roomForFirst = 256 // the same of a first turn, beside its text
)

// Options say what to start and how often to measure.
type Options struct {
	Program  string
	Args     []string // of its serve command
	Rounds   int
	Seed     uint64
	Agents   int           // on disk when a start is timed; 1,000
	Tokens   int           // of the conversation that is restored; 7,000, or what the context allows
	KeyFile  KeyFlag       // whether encryption is compared
	Patience time.Duration // how long a server may say nothing
	Say      func(format string, args ...any)
}

// KeyFlag is what can be compared.
type KeyFlag string

const (
	// CompareKeys runs a second server with a key file of its own.
	CompareKeys KeyFlag = "compare"
	// GivenKeys leaves that out: the server's own flags say which keys it has.
	GivenKeys KeyFlag = "given"
)

// DefaultOptions are those of `mneme bench --spawn`.
func DefaultOptions() Options {
	return Options{Rounds: 3, Agents: 1000, Tokens: 7000, KeyFile: CompareKeys, Patience: probe.AnswerPatience, Say: func(string, ...any) {}}
}

// run is one measurement on its way.
type run struct {
	Options
	words  *probe.Words
	report Report
}

func newRun(o Options) *run { return &run{Options: o, words: probe.NewWords(^o.Seed)} }

// Run measures everything on folders that are gone afterwards.
func Run(ctx context.Context, o Options) (Report, error) {
	r := newRun(o)
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{{"bytes written", r.written}, {"start", r.starts}, {"restore", r.restores}} {
		if err := step.do(ctx); err != nil {
			return Report{}, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return r.report, nil
}

// home is a server on a folder of its own.
type home struct {
	*probe.Spawned
	client *probe.Client
}

func (r *run) open(ctx context.Context, args ...string) (*home, error) {
	s, err := probe.Spawn(ctx, r.Program, append(append([]string(nil), r.Args...), args...))
	if err != nil {
		return nil, err
	}
	return &home{s, probe.NewClient(s.URL(), r.Patience)}, nil
}

// begin starts a home's server, which does not run, and spends a short answer,
// so that no measurement pays for the first touch of the weights.
func (r *run) begin(ctx context.Context, h *home) error {
	if _, err := h.Start(ctx); err != nil {
		return err
	}
	_, err := h.client.Chat(ctx, probe.Chat{Messages: probe.User(r.words.Text(8)), MaxTokens: 4})
	return err
}

// talk is an agent's conversation.
type talk struct {
	agent    string
	messages []probe.Message
	last     probe.Answer
}

// add asks a question on a home and takes the answer into the conversation.
func (t *talk) add(ctx context.Context, h *home, question string, maxTokens int) error {
	asked := append(t.messages, probe.Message{Role: "user", Content: question})
	a, err := h.client.Chat(ctx, probe.Chat{Agent: t.agent, Messages: asked, MaxTokens: maxTokens, IgnoreEOS: true})
	if err != nil {
		return err
	}
	t.messages, t.last = append(asked, probe.Message{Role: "assistant", Content: a.Text}), a
	return nil
}

// tokens is what the conversation has.
func (t *talk) tokens() int { return t.last.Prompt + t.last.Completion }

// closeAll ends homes and joins what that said to err.
func closeAll(err *error, homes ...*home) {
	for _, h := range homes {
		if h != nil {
			*err = errors.Join(*err, h.Close())
		}
	}
}

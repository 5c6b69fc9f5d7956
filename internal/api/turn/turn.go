// Package turn is the one way from a dialect's request to the engine and back:
// the model that is asked for, the prompt, the turn as it runs, its end in the
// ledger.
// It leaves to the dialects how a request reads and what an answer looks like,
// and to wire the exchange itself.
package turn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"mneme/internal/api/diagnose"
	"mneme/internal/api/fields"
	"mneme/internal/api/talk"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// Engine is what turns need of engine.Engine; see Of.
type Engine interface {
	Submit(ctx context.Context, r engine.Request) (Stream, error)
	Member(ns engine.Namespace, family engine.AgentID, prompt string) (id, parent engine.AgentID)
	Said(ns engine.Namespace, id engine.AgentID) []string
	Await(ns engine.Namespace, id engine.AgentID, until time.Time)
	Info() engine.Info
	Stats() engine.Stats
}

// Stream is a turn under way; engine.Stream is one.
type Stream interface {
	Prompt() []token.ID
	Next(ctx context.Context) (engine.Output, bool)
	Result() (engine.Completed, error)
	Close()
}

// predicted is a stream that was told, as it began, when its first output is
// expected.
type predicted interface{ Predicted() (time.Duration, bool) }

// knowing is a stream that knows, once its first output has come, how many
// tokens of its prompt were not computed for it.
type knowing interface{ Cached() int }

// timing is a stream that knows by then where the time went.
type timing interface{ Timings() engine.Timings }

// Desk takes the turns of one exchange.
type Desk struct {
	*wire.Exchange
	Engine  Engine
	Room    *talk.Room // where conversations with the model begin; nil when it has no chat template
	Aliases []string   // further names a request may give the model
	Since   time.Time  // when the model began to be served

	// Prints is where conversations are noted, and Answer what this one's is called;
	// "" for an answer without a name.
	Prints *diagnose.Log
	Answer string

	parent engine.AgentID // of the agent, should its turn make it
	about  *conversation  // once it is opened
}

// Ask is what a request of any dialect says about its turn, besides the prompt.
type Ask struct {
	Sampling  sample.Params
	Seeded    bool // the request chose its seed
	MaxTokens int  // 0: as many as there is room for
	Stop      []string
	IgnoreEOS bool
	Priority  int // the higher goes first
}

// Sink hears a turn as it runs; an error of it ends the turn, and its agent
// stays as it was.
type Sink interface {
	Begin(prompt []token.ID) error // once it is accepted; before the first output
	Output(engine.Output) error
}

// CheckModel refuses a name that is neither the model's nor an alias of it.
// Naming none is fine.
func (d *Desk) CheckModel(asked string) error {
	served := d.Engine.Info().Model
	if asked == "" || asked == served || slices.Contains(d.Aliases, asked) {
		return nil
	}
	return &wire.Error{
		Status:  http.StatusNotFound,
		Message: fmt.Sprintf("the model %q does not exist here; this server has %q", fields.Clip(asked), served),
		Param:   "model",
		Code:    "model_not_found",
	}
}

// Started is a Sink that hears, before a turn's first output, what of its prompt
// was not computed; 0 where the stream does not know before its end.
type Started interface{ Started(cachedTokens int) error }

// NewTurn is a turn of the exchange's agent, without a prompt yet. One that chose
// no seed has a random one.
func (d *Desk) NewTurn(a Ask) engine.Request {
	if !a.Seeded {
		a.Sampling.Seed = rand.Uint64()
	}
	return engine.Request{
		Agent:     d.Agent,
		Parent:    d.parent,
		Namespace: d.Namespace,
		MaxTokens: a.MaxTokens,
		Sampling:  a.Sampling,
		Stop:      a.Stop,
		IgnoreEOS: a.IgnoreEOS,
		Priority:  a.Priority,
		Weight:    float64(d.Account.Weight()),
	}
}

// Run submits a turn, has to hear it and enters its end in the ledger. It
// returns once the turn is published; a client that leaves ends it.
func (d *Desk) Run(r engine.Request, to Sink) (engine.Completed, error) {
	done, err := d.RunAll([]engine.Request{r}, []Sink{to})
	if err != nil {
		return engine.Completed{}, err
	}
	return done[0], nil
}

// RunAll is Run for several turns of one prompt, which run together and are heard
// one after the other. The prompt is entered in the ledger once.
func (d *Desk) RunAll(requests []engine.Request, to []Sink) ([]engine.Completed, error) {
	ctx := d.Request.Context()
	if err := d.mayRun(requests); err != nil {
		return nil, err
	}
	most, err := d.MaxFirst()
	if err != nil {
		return nil, err
	}
	d.begin(requests[0].Text)
	streams, began := make([]Stream, len(requests)), make([]time.Time, len(requests))
	for i, r := range requests {
		r.MaxFirst = most
		began[i] = d.Now()
		if streams[i], err = d.Engine.Submit(ctx, r); err != nil {
			return nil, err
		}
		defer streams[i].Close()
	}
	d.predict(streams[0])
	all := make([]engine.Completed, len(requests))
	for i, stream := range streams {
		done, heard, err := d.hearOut(ctx, stream, to[i])
		taken := wire.Turn{Model: d.Engine.Info().Model, Began: began[i], Completed: done}
		if err != nil {
			d.Unfinished(taken)
			if ctx.Err() != nil || errors.Is(err, wire.ErrGone) {
				d.Spend(begun(streams[i:], heard.outputs, i == 0))
			}
			return nil, err
		}
		if i == 0 {
			d.note(requests[0].Agent, heard.text.String(), done)
		} else {
			done.Usage.Prompt, done.Usage.Cached = 0, 0
		}
		taken.Completed = done
		d.Completed(taken)
		all[i] = done
	}
	return all, nil
}

// predict has the answer say when the first token is expected, if that is known.
func (d *Desk) predict(s Stream) {
	if p, ok := s.(predicted); ok {
		if first, known := p.Predicted(); known {
			d.Predicts(first)
		}
	}
}

// mayRun refuses turns that would have agents take more of the disk than they may.
func (d *Desk) mayRun(requests []engine.Request) error {
	for _, r := range requests {
		if r.Agent != "" {
			return d.Account.MayGrow()
		}
	}
	return nil
}

// begun is the tokens that were computed for turns whose client has left: what was
// heard of the first; as much of the others, which ran beside it; and the prompt,
// unless it is paid for or was cached.
func begun(streams []Stream, heard int, prompt bool) int {
	tokens := heard * len(streams)
	if prompt {
		tokens += len(streams[0].Prompt()) - cached(streams[0])
	}
	return tokens
}

// heard is what came of a stream.
type heard struct {
	desk    *Desk
	outputs int
	text    strings.Builder
}

// hearOut has to hear a stream to its end. What is known of the time of one that
// broke off is in done too.
func (d *Desk) hearOut(ctx context.Context, stream Stream, to Sink) (done engine.Completed, h heard, err error) {
	h.desk = d
	if err = h.all(ctx, stream, to); err == nil {
		done, err = stream.Result()
	}
	if s, knows := stream.(timing); knows && err != nil && done.Timings == (engine.Timings{}) {
		done.Timings = s.Timings()
	}
	return done, h, err
}

// all has to hear all that comes of a stream.
func (h *heard) all(ctx context.Context, stream Stream, to Sink) error {
	if err := to.Begin(stream.Prompt()); err != nil {
		return err
	}
	out, ok := stream.Next(ctx)
	if s, knows := stream.(timing); ok && knows {
		h.desk.Begun(s.Timings())
	}
	if s, waits := to.(Started); ok && waits {
		if err := s.Started(cached(stream)); err != nil {
			return err
		}
	}
	for ; ok; out, ok = stream.Next(ctx) {
		h.outputs++
		h.text.WriteString(out.Text)
		if err := to.Output(out); err != nil {
			return err
		}
	}
	return nil
}

func cached(s Stream) int {
	if k, ok := s.(knowing); ok {
		return k.Cached()
	}
	return 0
}

// Result is a whole turn.
type Result struct {
	Prompt  []token.ID // all of it
	Text    string     // generated
	Outputs []engine.Output
	Done    engine.Completed
}

// Collect runs a turn to its end.
func (d *Desk) Collect(r engine.Request) (Result, error) {
	var c collector
	done, err := d.Run(r, &c)
	return Result{c.prompt, c.text.String(), c.outputs, done}, err
}

type collector struct {
	prompt  []token.ID
	text    strings.Builder
	outputs []engine.Output
}

func (c *collector) Begin(prompt []token.ID) error {
	c.prompt = prompt
	return nil
}

func (c *collector) Output(out engine.Output) error {
	c.text.WriteString(out.Text)
	c.outputs = append(c.outputs, out)
	return nil
}

// IDs are the tokens of outputs.
func IDs(outputs []engine.Output) []token.ID {
	ids := make([]token.ID, len(outputs))
	for i, out := range outputs {
		ids[i] = out.ID
	}
	return ids
}

// Of makes an engine one whose streams are an interface.
func Of(e *engine.Engine) Owned { return Owned{e} }

// Owned is an engine that fits Engine.
type Owned struct{ *engine.Engine }

// Submit is the engine's.
func (o Owned) Submit(ctx context.Context, r engine.Request) (Stream, error) {
	s, err := o.Engine.Submit(ctx, r)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Note is ours: what went wrong beside an answer that is itself complete.
type Note struct {
	PublishError string `json:"publish_error"`
}

// NoteOf says that a turn will not survive a restart; nil when it will.
func NoteOf(done engine.Completed) *Note {
	if done.PublishErr == nil {
		return nil
	}
	return &Note{PublishError: "this turn could not be written to disk and will not survive a restart"}
}

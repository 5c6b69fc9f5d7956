package turn

import (
	"errors"
	"slices"
	"time"

	"mneme/internal/api/diagnose"
	"mneme/internal/api/talk"
	"mneme/internal/api/wire"
	"mneme/internal/chat"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// counter is an engine that counts a prompt as a turn of the agent would.
type counter interface {
	Count(ns engine.Namespace, id engine.AgentID, text string) (int, error)
}

// Open makes a conversation into a prompt, in the model's template, and what its
// answer is held to and read with. Where the request names a family of agents,
// the prompt says which member is the exchange's agent.
func (d *Desk) Open(q talk.Request) (*talk.Talk, error) {
	if d.Room == nil {
		return nil, wire.Invalid(d.Input, "the model %q has no chat template", d.Engine.Info().Model)
	}
	opened, err := d.open(q)
	if err == nil && d.Family != "" {
		d.Join(opened.Prompt)
		if slices.ContainsFunc(q.Messages, calls) {
			opened, err = d.open(q) // now that it is known who has said what
		}
	}
	if err == nil {
		d.about = &conversation{opened: opened, asked: diagnose.Asked{Print: diagnose.Of(d.Engine.Info().Fingerprint, q)}}
	}
	return opened, err
}

// open renders for the agent as far as it is known.
func (d *Desk) open(q talk.Request) (*talk.Talk, error) {
	opened, err := d.Room.Open(d.Request.Context(), d.withSaid(q))
	return opened, contradiction(err)
}

// withSaid is a conversation of which is known what the agent has said in it.
func (d *Desk) withSaid(q talk.Request) talk.Request {
	if d.Agent != "" {
		q.Said = func() []string { return d.Engine.Said(d.Namespace, d.Agent) }
	}
	return q
}

// calls tells whether a message may be rendered otherwise once it is known how the
// model said it.
func calls(m chat.Message) bool { return len(m.ToolCalls) > 0 }

// Join makes the exchange's agent the member of its family that a prompt goes on
// from; the answer carries its name.
func (d *Desk) Join(prompt string) {
	id, parent := d.Engine.Member(d.Namespace, d.Family, prompt)
	d.IsAbout(id)
	d.parent = parent
}

// contradiction is an error of talk as a field's.
func contradiction(err error) error {
	var bad *talk.Error
	if errors.As(err, &bad) {
		return wire.Invalid(bad.Field, "%v", bad)
	}
	return err
}

// Count is how many tokens a prompt has for the exchange's agent.
func (d *Desk) Count(prompt string) (int, error) {
	if c, ok := d.Engine.(counter); ok {
		return c.Count(d.Namespace, d.Agent, prompt)
	}
	ids, err := d.Engine.Info().Tokenizer.IDs(prompt, token.Options{AddSpecial: true, ParseSpecial: true})
	if err != nil {
		return 0, &engine.InputError{Field: "messages", Problem: err.Error()}
	}
	return len(ids), nil
}

// awaitLimit is how long an agent that has called tools is taken to be at work.
const awaitLimit = 10 * time.Minute

// Await notes that the exchange's agent waits for the results of its tools.
func (d *Desk) Await() {
	if d.Agent != "" {
		d.Engine.Await(d.Namespace, d.Agent, d.Now().Add(awaitLimit))
	}
}

// Before is how many bytes of an opened conversation's prompt come before a place.
func (d *Desk) Before(q talk.Request, opened *talk.Talk, at talk.Place) (int, error) {
	return d.Room.Before(d.Request.Context(), d.withSaid(q), opened.Prompt, at)
}

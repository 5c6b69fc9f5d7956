package responses

import (
	"cmp"
	"errors"
	"net/http"
	"slices"

	"mneme/internal/api/openai/ask"
	"mneme/internal/api/talk"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// making is one request and the response that is made of it.
type making struct {
	*composer
	desk     Desk
	ask      Request
	talk     *talk.Talk
	request  engine.Request
	answer   *Response
	previous string // the response before
}

func (d Desk) newMaking() (*making, error) {
	body, err := d.Body()
	if err != nil {
		return nil, err
	}
	m := &making{desk: d}
	if m.ask, err = Decode(body, d.Engine.Info().Tokenizer.Size()); err != nil {
		return nil, err
	}
	if err := d.CheckModel(m.ask.Model); err != nil {
		return nil, err
	}
	if err := m.open(); err != nil {
		return nil, err
	}
	m.answer = newResponse(d.Desk, &m.ask)
	d.Answer = m.answer.ID
	if m.ask.Names.Conversation == "" && m.previous != "" {
		m.answer.Previous = &m.previous
	}
	m.composer = &composer{response: m.answer, newID: d.NewID, sealed: m.ask.Sealed}
	return m, nil
}

// open finds out what came before and whose the conversation is, and renders it.
func (m *making) open() error {
	before, err := m.desk.past(&m.ask)
	if err != nil {
		return err
	}
	items, err := m.desk.resolve(slices.Concat(before.items, m.ask.Items))
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return wire.Invalid("input", "input must hold at least one item that is not left out")
	}
	m.previous = before.last
	names := m.ask.Names
	names.Previous = before.family
	m.desk.NameFamily(names)
	m.talk, err = m.desk.Open(talk.Request{
		Messages: messages(m.ask.Instructions, items), Tools: m.ask.Tools, Choice: m.ask.Choice,
		Format: m.ask.Format, Variables: m.ask.Variables,
	})
	if err != nil {
		return renamed(err)
	}
	m.request = m.desk.NewTurn(m.ask.Ask)
	m.request.Text, m.request.Within = m.talk.Prompt, m.talk.Within
	return nil
}

// renamed is an error about the format, which has another name here.
func renamed(err error) error {
	var bad *wire.Error
	if errors.As(err, &bad) && bad.Param == "response_format" {
		bad.Param = "text.format"
	}
	return err
}

// family is what goes on from this response belongs to.
func (m *making) family() string {
	return cmp.Or(string(m.desk.Family), string(m.desk.Agent), m.answer.ID)
}

// Begin implements turn.Sink.
func (m *making) Begin([]token.ID) error { return m.begin() }

// Output implements turn.Sink.
func (m *making) Output(out engine.Output) error { return m.take(m.talk.Push(out.Text)) }

// run takes the turn and keeps the response, before its end is told.
func (m *making) run() error {
	done, err := m.desk.Run(m.request, m)
	if err != nil {
		return err
	}
	if err := m.take(m.talk.Flush()); err != nil {
		return err
	}
	status := completed
	if done.Finish == engine.FinishLength {
		status = incomplete
	}
	if err := m.finish(status); err != nil {
		return err
	}
	if m.calls > 0 {
		m.desk.Await()
	}
	m.answer.Usage = newUsage(done.Usage, m.talk.Thought)
	m.answer.Diagnostics = ask.Diagnose(m.desk.Desk, m.ask.Earlier, done.Usage)
	kept := m.keep()
	m.desk.Unstored(kept)
	if done.PublishErr != nil || kept != nil {
		m.answer.Note = &turn.Note{PublishError: "this response could not be written to disk and will not survive a restart"}
	}
	return nil
}

// whole answers with one JSON body.
func (m *making) whole() error {
	if err := m.run(); err != nil {
		return err
	}
	return m.desk.JSON(http.StatusOK, m.answer)
}

// streamed answers with events.
func (m *making) streamed() error {
	events := m.desk.Stream()
	defer events.Close()
	m.emit = func(e event) error { return events.Send(wire.Event{Name: e.Type, Data: e}) }
	m.desk.Broken = m.broken
	if err := m.run(); err != nil {
		return err
	}
	return m.last()
}

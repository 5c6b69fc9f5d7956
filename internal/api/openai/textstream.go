package openai

import (
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// streamed answers with events, prompt by prompt: the prompt if it is echoed, the
// text as it comes, the finish; at the end the usage if asked for.
func (t *texts) streamed() error {
	events := t.desk.Stream()
	defer events.Close()
	for i := range t.ask.Prompts {
		p, err := t.prompt(i)
		if err != nil {
			return err
		}
		if err := p.stream(&textEvents{textTurn: p, events: events}); err != nil {
			return err
		}
	}
	if t.ask.IncludeUsage {
		usage := TextCompletion{Head: t.head, Choices: []TextChoice{}, Usage: newUsage(t.usage).raw()}
		if err := events.Send(wire.Event{Data: usage}); err != nil {
			return err
		}
	}
	return events.SendText(doneText)
}

// stream runs the turn and sends it.
func (p *textTurn) stream(to *textEvents) error {
	done, err := to.run()
	if err != nil {
		return err
	}
	p.completed(done)
	finish := string(done.Finish)
	last := p.piece(TextChoice{FinishReason: &finish})
	last.Note = turn.NoteOf(done)
	return to.events.Send(wire.Event{Data: last})
}

// textEvents sends a turn while it runs.
type textEvents struct {
	*textTurn
	events *wire.Events
	scores []engine.PromptToken // of a turn that is sent late
}

// run sends the turn while it runs; one that is scored afterwards, since the
// logprobs of its prompt, which is the beginning of the answer, are known at the
// end.
func (e *textEvents) run() (engine.Completed, error) {
	if e.ask.scored() {
		return e.late()
	}
	return e.desk.Run(e.request, e)
}

func (e *textEvents) late() (engine.Completed, error) {
	result, err := e.desk.Collect(e.request)
	if err != nil {
		return engine.Completed{}, err
	}
	e.scores = result.Done.Prompt
	if err := e.Begin(result.Prompt); err != nil {
		return engine.Completed{}, err
	}
	for _, out := range result.Outputs {
		if err := e.Output(out); err != nil {
			return engine.Completed{}, err
		}
	}
	return result.Done, nil
}

// Begin sends the prompt where the answer has it.
func (e *textEvents) Begin(prompt []token.ID) error {
	if !e.ask.Echo && !e.ask.ReturnTokenIDs {
		return nil
	}
	ids := e.ask.ids(prompt)
	choice := TextChoice{TokenIDs: e.ask.ids(nil)}
	if e.ask.Echo {
		choice.Text = e.script.text
	}
	if e.ask.scored() {
		choice.Logprobs = newTextLogprobs()
		e.textTurn.scores(choice.Logprobs, e.scores)
	}
	if len(e.ask.Prompts) > 1 {
		choice.PromptTokenIDs, ids = ids, nil
	}
	first := e.piece(choice)
	first.PromptTokenIDs = ids
	return e.events.Send(wire.Event{Data: first})
}

// Output leaves out what adds nothing, as half a character does.
func (e *textEvents) Output(out engine.Output) error {
	if out.Text == "" && !e.ask.Logprobs && !e.ask.ReturnTokenIDs {
		return nil
	}
	choice := TextChoice{Text: out.Text, TokenIDs: e.ask.ids([]token.ID{out.ID})}
	if e.ask.Logprobs {
		choice.Logprobs = newTextLogprobs()
		e.outputs(choice.Logprobs, out)
	}
	return e.events.Send(wire.Event{Data: e.piece(choice)})
}

// piece is an event of the turn's choice.
func (p *textTurn) piece(choice TextChoice) TextCompletion {
	choice.Index = p.index
	piece := TextCompletion{Head: p.head, Choices: []TextChoice{choice}}
	if p.ask.IncludeUsage {
		piece.Usage = noUsage
	}
	return piece
}

package turn

import (
	"strings"

	"mneme/internal/api/diagnose"
	"mneme/internal/api/talk"
	"mneme/internal/engine"
)

// conversation is what the exchange's turn is about, to be compared with others.
type conversation struct {
	opened *talk.Talk
	asked  diagnose.Asked
}

// begin notes the prompt as it is asked.
func (d *Desk) begin(prompt string) {
	if c := d.about; c != nil {
		c.asked.Text, c.asked.Print = prompt, c.asked.Prompted(prompt)
	}
}

// note keeps the print of a conversation that was answered. What a prompt has
// behind the conversation begins the answer.
func (d *Desk) note(agent engine.AgentID, said string, done engine.Completed) {
	c := d.about
	if c == nil {
		if agent != "" {
			d.Prints.NoteOther(d.Namespace, agent, done.Turn)
		}
		return
	}
	a := c.asked
	a.Tokens, a.Cached = done.Usage.Prompt, done.Usage.Cached
	m := c.opened.Message(strings.TrimPrefix(a.Text, c.opened.Prompt) + said)
	a.Print = a.Answered(a.Text, said, m, a.Tokens+done.Usage.Completion-1)
	d.Prints.Note(d.Namespace, diagnose.Key{Answer: d.Answer, Agent: agent, Turn: done.Turn}, a)
}

// Compare says in what the exchange's conversation differs from the one that an
// earlier answer ended, and what of its prompt was computed again for that. It is
// called once the turn has begun.
func (d *Desk) Compare(answer string, promptTokens, cachedTokens int) diagnose.Finding {
	before, ok := d.Prints.Answer(d.Namespace, answer)
	if !ok || d.about == nil {
		return diagnose.Finding{Reason: diagnose.NotFound}
	}
	a := d.about.asked
	a.Tokens, a.Cached = promptTokens, cachedTokens
	return diagnose.Compare(before, a).Slight()
}

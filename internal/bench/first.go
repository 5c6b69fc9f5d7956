package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mneme/internal/bench/figures"
	"mneme/internal/bench/probe"
)

const (
	minPrompt    = 64
	roomForTurns = 256 // tokens for the template, two answers and a second question
	answerTokens = 16
	askTokens    = 9 // with the template around it, about 20 tokens are new
)

// FirstToken is how soon the first token of a turn comes at one length.
// Times are in milliseconds from sending the request.
type FirstToken struct {
	Tokens        int            `json:"tokens"`     // of the first prompt
	NewTokens     int            `json:"new_tokens"` // computed by a hot or restored turn
	Uncached      figures.Spread `json:"uncached_ms"`
	Hot           figures.Spread `json:"hot_ms"`
	Restored      figures.Spread `json:"restored_ms"`
	HotRatio      figures.Spread `json:"hot_over_uncached"`
	RestoredRatio figures.Spread `json:"restored_over_uncached"`
	SameTokens    bool           `json:"same_tokens"` // restored said what hot said, in every round

	uncached, hot, restored []float64
}

// pair is two agents with the same first turn: one goes on at once, the other
// when it has to be read from disk.
type pair struct {
	stays, leaves string
	messages      []probe.Message // of the second turn
	hot           probe.Answer
}

// firstTokens measures every length in every round. The rounds share nothing:
// each has new texts.
func (r *run) firstTokens(ctx context.Context) error {
	rows := make([]FirstToken, len(r.Lengths))
	for i, n := range r.Lengths {
		rows[i] = FirstToken{Tokens: n, SameTokens: true}
	}
	for round := range r.Rounds {
		if err := r.firstTokenRound(ctx, round, rows); err != nil {
			return fmt.Errorf("first token, round %d: %w", round+1, err)
		}
	}
	for i := range rows {
		rows[i].summarise()
	}
	r.report.FirstToken = rows
	return nil
}

func (r *run) firstTokenRound(ctx context.Context, round int, rows []FirstToken) error {
	pairs := make([]pair, len(rows))
	for i := range rows {
		r.say("first token: round %d of %d, %d tokens, uncached and hot", round+1, r.Rounds, rows[i].Tokens)
		var err error
		if pairs[i], err = r.uncachedAndHot(ctx, round, &rows[i]); err != nil {
			return err
		}
	}
	r.say("first token: round %d of %d, restored", round+1, r.Rounds)
	if err := r.forget(ctx, pairs); err != nil {
		return err
	}
	for i := range rows {
		if err := r.restored(ctx, pairs[i], &rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// uncachedAndHot gives two agents the same first turn and one of them a second.
func (r *run) uncachedAndHot(ctx context.Context, round int, row *FirstToken) (pair, error) {
	p := pair{stays: r.agent("stays-%d-%d", row.Tokens, round), leaves: r.agent("leaves-%d-%d", row.Tokens, round)}
	text, err := r.words.Sized(ctx, r.client.Tokens, row.Tokens)
	if err != nil {
		return p, err
	}
	ask, err := r.words.Sized(ctx, r.client.Tokens, askTokens)
	if err != nil {
		return p, err
	}
	first, err := r.client.Chat(ctx, probe.Chat{Agent: p.stays, Messages: probe.User(text), MaxTokens: answerTokens})
	if err != nil {
		return p, err
	}
	if first.Cached > first.Prompt/10 { // a template's own beginning may be known
		return p, fmt.Errorf("a prompt nobody has seen had %d of %d tokens cached", first.Cached, first.Prompt)
	}
	same, err := r.client.Chat(ctx, probe.Chat{Agent: p.leaves, Messages: probe.User(text), MaxTokens: answerTokens})
	if err != nil {
		return p, err
	}
	row.SameTokens = row.SameTokens && slices.Equal(first.Tokens, same.Tokens)
	p.messages = append(probe.User(text), probe.Message{Role: "assistant", Content: first.Text}, probe.Message{Role: "user", Content: ask})
	p.hot, err = r.client.Chat(ctx, probe.Chat{Agent: p.stays, Messages: p.messages, MaxTokens: answerTokens})
	row.uncached, row.hot = append(row.uncached, milliseconds(first.First)), append(row.hot, milliseconds(p.hot.First))
	row.NewTokens = p.hot.Prompt - p.hot.Cached
	return p, err
}

// forget takes all pairs out of memory and makes sure of it.
func (r *run) forget(ctx context.Context, pairs []pair) error {
	var agents []string
	for _, p := range pairs {
		agents = append(agents, p.stays, p.leaves)
	}
	if err := r.target.Forget(ctx, agents); err != nil {
		return err
	}
	for _, id := range agents {
		tier, err := r.client.Tier(ctx, id)
		if err != nil {
			return err
		}
		if tier == "hot" {
			return fmt.Errorf("agent %s is still in memory", id)
		}
	}
	return r.warmUp(ctx)
}

// restored runs the turn that the other agent of the pair had hot.
func (r *run) restored(ctx context.Context, p pair, row *FirstToken) error {
	a, err := r.client.Chat(ctx, probe.Chat{Agent: p.leaves, Messages: p.messages, MaxTokens: answerTokens})
	if err != nil {
		return err
	}
	if a.Cached < p.hot.Cached { // more is possible: the other agent has sealed the block that this one left open
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("%d tokens: restored had %d cached tokens, hot had %d", row.Tokens, a.Cached, p.hot.Cached))
	}
	row.restored = append(row.restored, milliseconds(a.First))
	row.SameTokens = row.SameTokens && slices.Equal(a.Tokens, p.hot.Tokens)
	return nil
}

func (f *FirstToken) summarise() {
	f.Uncached, f.Hot, f.Restored = figures.SpreadOf(f.uncached), figures.SpreadOf(f.hot), figures.SpreadOf(f.restored)
	f.HotRatio, f.RestoredRatio = figures.SpreadOf(figures.Ratios(f.hot, f.uncached)), figures.SpreadOf(figures.Ratios(f.restored, f.uncached))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

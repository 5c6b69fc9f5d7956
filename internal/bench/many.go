package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mneme/internal/bench/figures"
	"mneme/internal/bench/probe"
)

const (
	someAgents   = 3
	manyAgents   = 8
	decodeTokens = 96 // generated per agent
	decodePrompt = 24 // tokens: a short question, so that decoding is what is measured

	// A prompt that ends shortly after a block of 64 tokens: what lies behind
	// the last full block is every agent's own, however much they share.
	sharedPrompt = 32*64 + 12
)

// Decode is how fast tokens follow each other, in tokens per second.
type Decode struct {
	One   figures.Spread `json:"one"` // an agent alone, from its first token to its last
	Three Together       `json:"three"`
	Eight Together       `json:"eight"`
}

// Together compares agents at once with the same ones one after another, prompts
// included, in tokens per second.
type Together struct {
	AtOnce figures.Spread `json:"together"`
	InTurn figures.Spread `json:"one_after_other"`
	Ratio  figures.Spread `json:"together_over_one_after_other"`
}

// Shared is what agents cost that start at once with the same beginning.
type Shared struct {
	Prompt  int            `json:"prompt_tokens"`
	Alone   figures.Spread `json:"computed_by_one"`   // tokens
	AllOf   figures.Spread `json:"computed_by_eight"` // tokens, all eight together
	Ratio   figures.Spread `json:"eight_over_one"`
	Seconds figures.Spread `json:"seconds"` // until all eight had their answer
}

// decode measures three and eight agents together and one after another, in
// each round both, and which comes first alternates.
func (r *run) decode(ctx context.Context) error {
	var one []float64
	var rates [2][2][]float64 // [three, eight][at once, in turn]
	for round := range r.Rounds {
		r.say("decode: round %d of %d, one, %d and %d agents", round+1, r.Rounds, someAgents, manyAgents)
		a, err := r.client.Chat(ctx, r.generate("one", round, 0))
		if err != nil {
			return fmt.Errorf("decode, one agent: %w", err)
		}
		one = append(one, float64(a.Completion-1)/(a.Last-a.First).Seconds())
		for i, agents := range []int{someAgents, manyAgents} {
			if err := r.decodeRound(ctx, round, agents, &rates[i][0], &rates[i][1]); err != nil {
				return err
			}
		}
	}
	r.report.Decode = Decode{One: figures.SpreadOf(one), Three: togetherOf(rates[0]), Eight: togetherOf(rates[1])}
	return nil
}

func togetherOf(rates [2][]float64) Together {
	return Together{AtOnce: figures.SpreadOf(rates[0]), InTurn: figures.SpreadOf(rates[1]), Ratio: figures.SpreadOf(figures.Ratios(rates[0], rates[1]))}
}

func (r *run) decodeRound(ctx context.Context, round, agents int, atOnce, inTurn *[]float64) error {
	for half := range 2 {
		kind, rates, workers := fmt.Sprintf("together-%d", agents), atOnce, agents
		if half == round%2 {
			kind, rates, workers = fmt.Sprintf("inturn-%d", agents), inTurn, 1
		}
		questions := make([]probe.Chat, agents)
		for i := range questions {
			questions[i] = r.generate(kind, round, i)
		}
		start := time.Now()
		answers, err := r.ask(ctx, questions, workers)
		if err != nil {
			return fmt.Errorf("decode, %s: %w", kind, err)
		}
		tokens := 0
		for _, a := range answers {
			tokens += a.Completion
		}
		*rates = append(*rates, float64(tokens)/time.Since(start).Seconds())
	}
	return nil
}

// generate is a turn of a new agent with a short question and a long answer.
func (r *run) generate(kind string, round, i int) probe.Chat {
	return probe.Chat{
		Agent:    r.agent("%s-%d-%d", kind, round, i),
		Messages: probe.User(r.words.Text(decodePrompt)), MaxTokens: decodeTokens, IgnoreEOS: true,
	}
}

// ask sends all questions, at most workers of them at a time.
func (r *run) ask(ctx context.Context, questions []probe.Chat, workers int) ([]probe.Answer, error) {
	answers, errs := make([]probe.Answer, len(questions)), make([]error, len(questions))
	slots := make(chan struct{}, workers)
	var wg sync.WaitGroup
	for i, q := range questions {
		slots <- struct{}{}
		wg.Go(func() {
			answers[i], errs[i] = r.client.Chat(ctx, q)
			<-slots
		})
	}
	wg.Wait()
	return answers, errors.Join(errs...)
}

// together measures a common beginning that is new to the server.
func (r *run) together(ctx context.Context) error {
	var alone, all, seconds []float64
	for round := range r.Rounds {
		r.say("common beginning: round %d of %d, %d tokens", round+1, r.Rounds, sharedPrompt)
		one, _, err := r.computed(ctx, round, 1)
		if err != nil {
			return fmt.Errorf("common beginning, one agent: %w", err)
		}
		eight, took, err := r.computed(ctx, round, manyAgents)
		if err != nil {
			return fmt.Errorf("common beginning, %d agents: %w", manyAgents, err)
		}
		alone, all, seconds = append(alone, one), append(all, eight), append(seconds, took)
	}
	r.report.Shared = Shared{Prompt: sharedPrompt, Alone: figures.SpreadOf(alone), AllOf: figures.SpreadOf(all), Ratio: figures.SpreadOf(figures.Ratios(all, alone)), Seconds: figures.SpreadOf(seconds)}
	return nil
}

// computed lets n new agents start at once with the same new prompt and counts
// the prompt tokens that the server computed for them.
func (r *run) computed(ctx context.Context, round, n int) (tokens, seconds float64, err error) {
	text, err := r.prompt(ctx, sharedPrompt)
	if err != nil {
		return 0, 0, err
	}
	questions := make([]probe.Chat, n)
	for i := range questions {
		questions[i] = probe.Chat{Agent: r.agent("shared-%d-%d-%d", round, n, i), Messages: probe.User(text), MaxTokens: 4}
	}
	start := time.Now()
	answers, err := r.ask(ctx, questions, n)
	for _, a := range answers {
		tokens += float64(a.Prompt - a.Cached)
	}
	return tokens, time.Since(start).Seconds(), err
}

// prompt makes a text that fills a prompt of want tokens, the chat template
// included: what the template adds is measured with a short one.
func (r *run) prompt(ctx context.Context, want int) (string, error) {
	short, err := r.words.Sized(ctx, r.client.Tokens, minPrompt)
	if err != nil {
		return "", err
	}
	a, err := r.client.Chat(ctx, probe.Chat{Messages: probe.User(short), MaxTokens: 1})
	if err != nil {
		return "", err
	}
	return r.words.Sized(ctx, r.client.Tokens, want-(a.Prompt-minPrompt))
}

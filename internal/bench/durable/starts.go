package durable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"mneme/internal/bench/probe"
)

// starts times how long a server takes from the start of its process until it is
// ready, with one agent on disk and with many: as kill -9 left the folder, and
// after a clean end. Each start after a kill is the first one: what it writes
// anew for the next one is taken away again.
func (r *run) starts(ctx context.Context) (err error) {
	var homes [2]*home // one agent, many
	defer func() { closeAll(&err, homes[:]...) }()
	for i, agents := range []int{1, r.Agents} {
		r.Say("start: making %d agents", agents)
		if homes[i], err = r.inhabited(ctx, agents); err != nil {
			return err
		}
	}
	var killed, clean [2][]float64 // [one, many], ms
	times := r.Rounds * startsPerRound
	for n := range times {
		r.Say("start: %d of %d", n+1, times)
		for i := range homes {
			at := (i + n) % 2
			k, c, err := homes[at].startTimes(ctx)
			if err != nil {
				return err
			}
			killed[at], clean[at] = append(killed[at], k), append(clean[at], c)
		}
	}
	r.report.compare("start after kill -9", "ms", 0, "1 agent on disk", killed[0], fmt.Sprintf("%d agents", r.Agents), killed[1], none)
	r.report.compare("start after a clean end", "ms", 0, "1 agent on disk", clean[0], fmt.Sprintf("%d agents", r.Agents), clean[1], none)
	return nil
}

// inhabited is a home with n agents, killed, and its folder kept aside as it is.
func (r *run) inhabited(ctx context.Context, n int) (*home, error) {
	h, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	err = r.makeAgents(ctx, h, n)
	h.Kill()
	if err == nil {
		err = os.Rename(h.Data(), h.aside())
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// makeAgents gives n agents a first turn each, several at a time.
func (r *run) makeAgents(ctx context.Context, h *home, n int) error {
	errs := make([]error, n)
	slots := make(chan struct{}, makers)
	var wg sync.WaitGroup
	for i := range errs {
		q := probe.Chat{Agent: fmt.Sprintf("resident-%d", i), Messages: probe.User(r.words.Text(agentWords)), MaxTokens: 1}
		slots <- struct{}{}
		wg.Go(func() {
			_, errs[i] = h.client.Chat(ctx, q)
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// aside is where a home's folder is kept as kill -9 left it.
func (h *home) aside() string { return h.Data() + ".aside" }

// startTimes starts the home on a copy of its folder, ends it well, starts it
// again and kills it. Times are in ms.
func (h *home) startTimes(ctx context.Context) (killed, clean float64, err error) {
	if err := os.RemoveAll(h.Data()); err != nil {
		return 0, 0, err
	}
	if err := os.CopyFS(h.Data(), os.DirFS(h.aside())); err != nil {
		return 0, 0, err
	}
	syscall.Sync() // what was published had been synced
	first, err := h.Start(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := h.Stop(); err != nil {
		return 0, 0, err
	}
	second, err := h.Start(ctx)
	h.Kill()
	return milliseconds(first), milliseconds(second), err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

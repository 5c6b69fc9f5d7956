package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/schedule"
	"mneme/internal/token"
)

// scene is a random schedule: agents that talk at the same time, in a pool that
// is too small for them.
type scene struct {
	rand  *rand.Rand
	talks []talk
}

// talk is what one agent says, turn by turn.
type talk struct {
	agent    AgentID
	from     AgentID // whose turns it was forked from; "" for none
	begin    []token.ID
	turns    []part
	priority int
	quits    int // outputs after which its first turn is cancelled, and asked again; 0 is never
}

// part is one turn: what is new in its prompt, how much is answered.
type part struct {
	news, answer int
	sampled      bool
}

func (p part) request(prompt []token.ID) Request {
	if p.sampled {
		return sampled(prompt, p.answer)
	}
	return greedy(prompt, p.answer)
}

// newScene draws seven agents that together need more than the pool has, and some
// of all kinds: short, long, alike, of any priority, cancelled beyond a block's
// edge, forked.
func newScene(seed uint64) *scene {
	s := &scene{rand: rand.New(rand.NewPCG(seed, 1))}
	common := promptOf(64*(1+s.rand.IntN(3)), 77)
	for i := range 7 {
		s.add(fmt.Sprintf("heavy-%d", i), nil, part{news: 90 + s.rand.IntN(60), answer: 620 + s.rand.IntN(80)})
	}
	for i := range 2 + s.rand.IntN(3) {
		var begin []token.ID
		if s.rand.IntN(2) == 0 {
			begin = common
		}
		parts := []part{s.part(), s.part(), s.part()}
		s.add(fmt.Sprintf("talker-%d", i), begin, parts[:1+s.rand.IntN(3)]...)
	}
	quitter := s.add("quitter", nil, part{news: 60 + s.rand.IntN(4), answer: 40}, s.part())
	quitter.quits = 6 + s.rand.IntN(10)
	s.add("root", common, s.part(), s.part())
	leaf := s.add("leaf", nil, s.part())
	leaf.from = "root"
	return s
}

func (s *scene) part() part {
	return part{news: 1 + s.rand.IntN(300), answer: 1 + s.rand.IntN(40), sampled: s.rand.IntN(2) == 0}
}

func (s *scene) add(agent string, begin []token.ID, parts ...part) *talk {
	s.talks = append(s.talks, talk{agent: AgentID(agent), begin: begin, turns: parts, priority: s.rand.IntN(7) - 3})
	return &s.talks[len(s.talks)-1]
}

func (t *talk) seed(turn int) int { return len(t.agent)*31 + int(t.agent[len(t.agent)-1])*7 + turn }

// speak has an agent's turns run one after the other; ask runs one.
func (t *talk) speak(history []token.ID, ask func(turn int, req Request) (answer, bool)) []token.ID {
	history = append(slices.Clone(history), t.begin...)
	for i, p := range t.turns {
		history = append(history, promptOf(p.news, t.seed(i))...)
		req := p.request(slices.Clone(history))
		req.Priority = t.priority
		a, ok := ask(i, req)
		if !ok {
			return history
		}
		history = append(history, a.ids...)
	}
	return history
}

// alone is what each turn answers when it is computed from nothing, alone. The
// root's first turn is what it is forked at.
func (s *scene) alone(t *testing.T) (answers map[string]answer, root []token.ID) {
	r := newRig(t, rigOptions{context: 2048})
	defer r.stop()
	answers = map[string]answer{}
	for i := range s.talks {
		talk := &s.talks[i]
		var history []token.ID
		if talk.from != "" {
			history = root
		}
		talk.speak(history, func(turn int, req Request) (answer, bool) {
			name := fmt.Sprintf("%s/%d", talk.agent, turn)
			answers[name] = r.ask(req.in(Namespace(name)))
			if name == "root/0" {
				root = append(slices.Clone(req.Tokens), answers[name].ids...)
			}
			return answers[name], true
		})
	}
	return answers, root
}

// play runs the scene and compares.
func (s *scene) play(t *testing.T, want map[string]answer, root []token.ID) {
	o := rigOptions{
		context: 2048, poolBytes: 1 << 20, maxBatch: 8 + s.rand.IntN(5), stepTokens: []int{32, 96, 512}[s.rand.IntN(3)],
		gap: time.Duration(s.rand.IntN(2)) * 2 * time.Millisecond,
	}
	r := newRig(t, o)
	defer r.stop()
	var wg sync.WaitGroup
	var quit atomic.Int64
	forked := make(chan struct{})
	for i := range s.talks {
		talk := &s.talks[i]
		wg.Go(func() {
			var history []token.ID
			if talk.from != "" {
				<-forked
				history = root
			}
			talk.speak(history, func(turn int, req Request) (answer, bool) {
				name := fmt.Sprintf("%s/%d", talk.agent, turn)
				req = req.as(talk.agent).in("default")
				if turn == 0 && talk.quits > 0 {
					quit.Add(r.quit(req, talk.quits))
				}
				got, err := r.try(context.Background(), req)
				if err != nil || !got.same(want[name]) {
					t.Errorf("%s: %v (%v), alone %v", name, got, err, want[name])
				}
				if name == "root/0" {
					if _, err := r.Fork(context.Background(), "default", "root", "leaf", 1); err != nil {
						t.Errorf("fork: %v", err)
					}
					close(forked)
				}
				return got, err == nil
			})
		})
	}
	wg.Wait()
	st := r.Stats()
	t.Logf("%d agents, steps of %d, batches of %d: %d preempted", len(s.talks), o.stepTokens, o.maxBatch, st.Preempted)
	if st.Preempted == 0 || quit.Load() <= kv.BlockTokens || st.Surplus != 0 {
		t.Errorf("%d preempted, cancelled at token %d, %d surplus ends", st.Preempted, quit.Load(), st.Surplus)
	}
	if most := st.Steps.Waits.Quantile(1); most > 2*schedule.Patience.Seconds() {
		t.Errorf("somebody waited for %v s", most)
	}
}

// quit cancels a turn after so many outputs and says how many tokens it had then.
func (r *rig) quit(req Request, outputs int) int64 {
	s, err := r.Submit(context.Background(), req)
	if err != nil {
		r.t.Error(err)
		return 0
	}
	for range outputs {
		s.Next(context.Background())
	}
	s.Close()
	r.hearOut(s)
	if _, err := s.Result(); !errors.Is(err, context.Canceled) {
		r.t.Errorf("a cancelled turn ended with %v", err)
	}
	return int64(len(req.Tokens) + outputs)
}

// TestRandomSchedules: whatever runs beside it, gives way or is cancelled, every
// turn answers what it answers alone.
func TestRandomSchedules(t *testing.T) {
	runs := 3
	if soak {
		runs = 60
	}
	seed := uint64(time.Now().UnixNano())
	for i := range uint64(runs) {
		t.Run(fmt.Sprintf("seed %d", seed+i), func(t *testing.T) {
			s := newScene(seed + i)
			want, root := s.alone(t)
			s.play(t, want, root)
		})
	}
}

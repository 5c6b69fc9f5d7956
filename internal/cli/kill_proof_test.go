package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mneme/internal/kv"
)

const (
	meddledKills = 200 // a share of them in CI
	longestGuest = 900 // tokens; an agent of the meddler that has more is deleted
	mostGuests   = 6
)

// TestKillUnderOperations kills a server again and again, 200 times in the soak,
// while four agents talk and a meddler forks, rolls back, deletes and talks with
// agents of its own. After each restart every agent stands where it was last
// said to stand, or where the operation that was cut short leads; what was
// deleted is gone; and all answers are those of a server that was never killed.
func TestKillUnderOperations(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(context.Background(), proofLimit)
	defer cancel()
	k := newKilling(ctx, t, seed)
	m := &meddler{killing: k, rng: rand.New(rand.NewPCG(seed, 1)), guests: map[string]*guest{}, gone: map[string]bool{}}
	for k.kills < meddledKills/proofShare {
		k.begin()
		m.look()
		k.everyoneTakesATurn()
		m.killAt(k.nextMoment())
	}
	k.begin()
	m.look()
	k.everyoneTakesATurn()
	k.end()
	t.Logf("%d kills: %d hit an unpublished turn, %d a published one that was not answered; %d forks, %d rollbacks, %d deletes and %d turns of the meddler acknowledged, %d cut short",
		k.kills, k.hitUnpublished, k.hitUnanswered, m.forks, m.rollbacks, m.deletes, m.turns, m.cut)
	t.Logf("%d turns answered and equal to an uninterrupted server's", k.witness.verified.Load())
	if m.forks+m.rollbacks+m.deletes == 0 || m.cut == 0 {
		t.Error("no operation was ever done, or none cut short")
	}
}

// proofLimit is for a slow machine; a kill takes about a second.
const proofLimit = meddledKills/proofShare*5*time.Second + time.Minute

// meddler changes agents of its own while the others talk.
type meddler struct {
	*killing
	rng    *rand.Rand
	guests map[string]*guest
	gone   map[string]bool // guests that are not to come back
	born   int             // guests so far

	forks, rollbacks, deletes, turns, cut int
}

// guest is an agent of the meddler.
type guest struct {
	id    string
	said  [][]map[string]string // after each turn; said[0] is nothing
	kv    []int                 // tokens with KV then, at most
	turn  int                   // where it stands; -1: it is not there
	maybe []int                 // or here, if an operation was cut short
	exact bool                  // it stands at a turn's end as the turn left it: all its KV is there
}

// look finds out after a restart where every guest stands.
func (m *meddler) look() {
	listed := m.listed()
	for id, g := range m.guests {
		at, there := listed[id]
		if !there {
			at = -1
		}
		ok := at == g.turn
		for _, other := range g.maybe {
			ok = ok || at == other
		}
		if !ok {
			m.t.Errorf("%s is at turn %d, want %d or one of %v; the server said:\n%s", id, at, g.turn, g.maybe, m.program.said)
		}
		if at != g.turn {
			g.exact = false
		}
		g.turn, g.maybe = at, nil
		if at < 0 {
			delete(m.guests, id)
		}
	}
	for id := range m.gone {
		if at, there := listed[id]; there {
			m.t.Errorf("%s was deleted and is there again, at turn %d", id, at)
		}
	}
	m.stopIfFailed()
}

// killAt is killing.killAt with the meddler at work.
func (m *meddler) killAt(at moment) {
	var over sync.WaitGroup
	over.Go(func() {
		for m.meddle() {
		}
		m.cut++
		if status, err := m.alive(); err == nil { // the signal would have come first
			m.t.Errorf("an operation failed on a server that lives: %s; it said:\n%s", status, m.program.said)
		}
	})
	defer over.Wait()
	m.killing.killAt(at)
}

func (m *meddler) alive() (status string, err error) {
	resp, err := http.Get(m.url + "/healthz")
	if err != nil {
		return "", err
	}
	return resp.Status, resp.Body.Close()
}

// meddle does one thing; false if the server died meanwhile.
func (m *meddler) meddle() bool {
	g := m.anyone()
	switch {
	case g == nil:
		g = &guest{id: m.nextID(), said: [][]map[string]string{nil}, kv: []int{0}, turn: -1}
		m.guests[g.id] = g
		return m.speak(g)
	case g.turn >= len(g.said): // a turn that was cut off is there; what it said is not known
		return m.goBack(g, len(g.said)-1)
	case g.kv[g.turn] > longestGuest || len(m.guests) > mostGuests:
		return m.remove(g)
	}
	switch n := m.rng.IntN(10); {
	case n < 3:
		return m.fork(g, m.rng.IntN(g.turn+1))
	case n < 5:
		return m.goBack(g, m.rng.IntN(g.turn+1))
	case n < 6:
		return m.remove(g)
	}
	return m.speak(g)
}

func (m *meddler) nextID() string {
	m.born++
	return fmt.Sprintf("guest-%d", m.born)
}

// anyone is one of the guests, nil without one.
func (m *meddler) anyone() *guest {
	for n := m.born; n > max(0, m.born-20) && len(m.guests) > 0; n-- {
		if g := m.guests[fmt.Sprintf("guest-%d", n)]; g != nil && (m.rng.IntN(2) == 0 || len(m.guests) == 1) {
			return g
		}
	}
	for _, g := range m.guests {
		return g
	}
	return nil
}

// speak is a guest's next turn.
func (m *meddler) speak(g *guest) bool {
	question := g.id
	for range 3 + m.rng.IntN(12) {
		question += " " + words[m.rng.IntN(len(words))]
	}
	at := max(0, g.turn)
	g.said, g.kv = g.said[:at+1:at+1], g.kv[:at+1:at+1]
	a := ask{messages: append(slices.Clip(g.said[at]), says("user", question)), maxTokens: 20 + m.rng.IntN(60)}
	g.maybe = []int{at + 1}
	got, err := a.send(m.ctx, m.url, g.id, func(int) {})
	if err != nil {
		return false
	}
	least := g.kv[at]
	if !g.exact {
		least = max(0, least/kv.BlockTokens*kv.BlockTokens-kv.BlockTokens)
	}
	if got.cached < least {
		m.t.Errorf("%s: %d of %d tokens cached, want at least %d", g.id, got.cached, got.prompt, least)
	}
	m.witness.hear(0, g.id, a, got)
	g.turn, g.maybe, g.exact = at+1, nil, true
	g.said = append(g.said, append(a.messages, says("assistant", got.text)))
	g.kv = append(g.kv, got.prompt+got.completion-1)
	m.turns++
	return true
}

// fork makes a guest of another as it stood after a turn.
func (m *meddler) fork(from *guest, turn int) bool {
	g := &guest{id: m.nextID(), said: from.said[: turn+1 : turn+1], kv: from.kv[: turn+1 : turn+1], turn: -1, maybe: []int{turn}, exact: from.exact && turn == from.turn}
	m.guests[g.id] = g
	if !m.do(http.MethodPost, from.id+"/fork", map[string]any{"id": g.id, "turn": turn}) {
		return false
	}
	g.turn, g.maybe = turn, nil
	m.forks++
	return true
}

// goBack rolls a guest back.
func (m *meddler) goBack(g *guest, turn int) bool {
	g.maybe = []int{turn}
	same := turn == g.turn
	if !m.do(http.MethodPost, g.id+"/rollback", map[string]any{"turn": turn}) {
		return false
	}
	g.turn, g.maybe, g.exact = turn, nil, g.exact && same
	m.rollbacks++
	return true
}

func (m *meddler) remove(g *guest) bool {
	g.maybe = []int{-1}
	if !m.do(http.MethodDelete, g.id, nil) {
		return false
	}
	delete(m.guests, g.id)
	m.gone[g.id] = true
	m.deletes++
	return true
}

// do runs an operation on an agent; false if the server died.
func (m *meddler) do(method, path string, body any) bool {
	var data []byte
	if body != nil {
		data, _ = json.Marshal(body)
	}
	req, err := http.NewRequestWithContext(m.ctx, method, m.url+"/v1/agents/"+path, bytes.NewReader(data))
	if err != nil {
		m.t.Error(err)
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		m.t.Errorf("%s %s %s: %s %s", method, path, data, resp.Status, strings.TrimSpace(string(said)))
	}
	return err == nil && resp.StatusCode/100 == 2
}

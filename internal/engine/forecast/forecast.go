// Package forecast says when a turn's first token is to be expected, and when a
// place becomes free for one that is refused. It is told what is ahead and how
// fast things go lately, and knows neither blocks nor sequences.
package forecast

import (
	"slices"
	"sync"
	"time"
)

// Turn is what is to be done before a turn's first token.
type Turn struct {
	Tokens    int   // of its prompt, to compute
	ReadBytes int64 // of KV, to read from disk
}

// Load is what is there already.
type Load struct {
	Prompts  []int // tokens left to compute, of each turn that runs or waits before it
	Decoding int   // turns that generate
	Waiting  int   // turns that wait for a place before it, if it must wait; else -1
}

// Board is where the loop writes what its batch has, for others to read. The zero
// value is ready.
type Board struct {
	mu       sync.Mutex
	prompts  []int
	decoding int
}

// Note takes the tokens left to compute of each prompt, and how many decode.
func (b *Board) Note(prompts []int, decoding int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prompts, b.decoding = append(b.prompts[:0], prompts...), decoding
}

// Load is what was noted last, of a batch with a free place.
func (b *Board) Load() Load {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Load{Prompts: slices.Clone(b.prompts), Decoding: b.decoding, Waiting: -1}
}

// Rates are how fast things go; 0 where that is not known.
type Rates struct {
	Prompts float64       // tokens per second
	Decode  time.Duration // a step that only decodes
	Read    float64       // bytes per second
	Places  float64       // that become free, per second, while some wait
	Chunk   int           // tokens of prompts in a step
}

// First is when the first token of a turn is expected, from now; false when too
// little is known.
func First(t Turn, l Load, r Rates) (time.Duration, bool) {
	if r.Prompts == 0 || l.Waiting >= 0 && r.Places == 0 {
		return 0, false
	}
	seconds := 0.0
	if l.Waiting >= 0 {
		seconds += float64(l.Waiting+1) / r.Places
	}
	if t.ReadBytes > 0 && r.Read > 0 {
		seconds += float64(t.ReadBytes) / r.Read
	}
	first := time.Duration(seconds * float64(time.Second))
	return first + r.compute(t.Tokens+l.before(t.Tokens), l), true
}

// before is how many tokens of others are computed before those of a prompt: all
// of the shorter ones, and of longer ones what is done so that they do not starve.
func (l Load) before(tokens int) (sum int) {
	longer := 0
	for _, n := range l.Prompts {
		if n <= tokens {
			sum += n
		} else {
			longer = tokens / 8
		}
	}
	return sum + longer
}

// compute is the time of that many tokens beside those who generate. Where there
// are others a step is under way, half of it on average.
func (r Rates) compute(tokens int, l Load) time.Duration {
	step := r.prompts(r.Chunk)
	total := r.prompts(tokens)
	if l.Decoding > 0 {
		steps := (tokens + r.Chunk - 1) / max(1, r.Chunk)
		total += time.Duration(steps) * r.Decode
		step += r.Decode
	}
	if l.Decoding+len(l.Prompts) > 0 && l.Waiting < 0 {
		if len(l.Prompts) == 0 {
			step = r.Decode
		}
		total += step / 2
	}
	return total
}

func (r Rates) prompts(tokens int) time.Duration {
	return time.Duration(float64(tokens) / r.Prompts * float64(time.Second))
}

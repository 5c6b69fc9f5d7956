package engine

import (
	"strings"
	"unicode/utf8"

	"mneme/internal/token"
)

// lineage is what the model really saw: ids and each one's end in the text as
// callers see it. Of the tokens of one character all but the last end where it
// begins.
type lineage struct {
	tokens []token.ID
	ends   []int
}

// resolve turns text into ids, keeping those of text the model has seen: of
// the lineages the one that reaches furthest, up to a boundary no token can
// span; the rest is encoded alone from there.
func (e *Engine) resolve(text string, seen []lineage) (lineage, error) {
	if err := e.fault(FaultEncode); err != nil {
		return lineage{}, err
	}
	var best lineage
	kept := 0
	for _, l := range seen {
		if n := e.reusable(text, l, kept); n > kept {
			best, kept = l, n
		}
	}
	from := 0
	out := lineage{}
	if kept > 0 {
		from = best.ends[kept-1]
		out.tokens = append(out.tokens, best.tokens[:kept]...)
		out.ends = append(out.ends, best.ends[:kept]...)
	}
	if least := len(out.tokens) + (len(text)-from)/e.tok.LongestToken(); least > e.cfg.Context {
		return lineage{}, &ContextError{Tokens: least, Context: e.cfg.Context, AtLeast: true}
	}
	pieces, err := e.tok.Encode(text[from:], token.Options{ParseSpecial: true, AddSpecial: kept == 0})
	if err != nil {
		return lineage{}, &InputError{Field: "messages", Problem: err.Error()}
	}
	for _, p := range pieces {
		out.tokens = append(out.tokens, p.ID)
		out.ends = append(out.ends, from+p.End)
	}
	return out, nil
}

// reusable counts the leading tokens of a lineage whose text begins text, ended
// at a boundary; 0 unless that is more than atLeast. What a token spells is
// compared as callers saw it: broken bytes as U+FFFD, a character once its last
// token has come.
func (e *Engine) reusable(text string, l lineage, atLeast int) int {
	n, at := 0, 0
	stream := e.tok.NewStream()
	for i, id := range l.tokens {
		if i > 0 || l.ends[0] > 0 { // a BOS token that was added has no text
			seen := stream.Push(id)
			if !strings.HasPrefix(text[at:], seen) {
				break
			}
			at += len(seen)
		}
		if !stream.Holding() {
			n = i + 1
		} else if rest := string(utf8.RuneError); i == len(l.tokens)-1 && strings.HasPrefix(text[at:], rest) {
			at, n = at+len(rest), i+1 // the answer ended inside a character
		}
	}
	for n > atLeast && l.ends[n-1] <= len(text) {
		edge := e.tok.LastBoundary(text, l.ends[n-1])
		if edge == l.ends[n-1] {
			return n
		}
		for n > 0 && (l.ends[n-1] > edge || n > 1 && l.ends[n-1] == l.ends[n-2]) {
			n-- // also never between the tokens of one character
		}
	}
	return 0
}

// recent keeps the last lineages of each namespace, so that text answered to
// one agent keeps its ids when it comes back without a name or under another.
type recent struct{ byNamespace map[string][]lineage }

const recentTurns = 32

func (r *recent) of(namespace string) []lineage {
	return append([]lineage(nil), r.byNamespace[namespace]...)
}

func (r *recent) add(namespace string, l lineage) {
	if r.byNamespace == nil {
		r.byNamespace = map[string][]lineage{}
	}
	all := append([]lineage{l}, r.byNamespace[namespace]...)
	r.byNamespace[namespace] = all[:min(len(all), recentTurns)]
}

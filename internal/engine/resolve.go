package engine

import (
	"bytes"
	"unsafe"

	"mneme/internal/token"
)

// lineage is what the model really saw: ids and each one's end in the text.
type lineage struct {
	tokens []token.ID
	ends   []int
}

// resolve turns text into ids, keeping those of text the model has seen: of
// the lineages the one that reaches furthest, up to a boundary no token can
// span; the rest is encoded alone from there.
func (e *Engine) resolve(text string, seen []lineage) (lineage, error) {
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
// at a boundary; 0 unless that is more than atLeast.
func (e *Engine) reusable(text string, l lineage, atLeast int) int {
	raw := unsafe.Slice(unsafe.StringData(text), len(text)) // read only
	n, at := 0, 0
	for n < len(l.tokens) && l.ends[n] <= len(text) && (l.ends[n] == at || bytes.Equal(raw[at:l.ends[n]], e.tok.Bytes(l.tokens[n]))) {
		at = l.ends[n]
		n++
	}
	for n > atLeast {
		edge := e.tok.LastBoundary(text, l.ends[n-1])
		if edge == l.ends[n-1] {
			return n
		}
		for n > 0 && l.ends[n-1] > edge {
			n--
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

// Package lineage knows which ids a text had: what the model really saw keeps
// its ids when it comes back as text. It leaves where lineages are kept to its
// callers, and what a token spells to token.
package lineage

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"mneme/internal/token"
)

// Lineage is what the model really saw: ids and each one's end in the text as
// callers see it. Of the tokens of one character all but the last end where it
// begins.
type Lineage struct {
	Tokens []token.ID
	Ends   []int // offsets in bytes
}

// TooLongError says that a text has more tokens than its reader takes; it was
// not encoded.
type TooLongError struct{ AtLeast int }

func (e *TooLongError) Error() string { return fmt.Sprintf("text of at least %d tokens", e.AtLeast) }

// Resolve turns text into ids, keeping those of text the model has seen: of the
// lineages the one that reaches furthest, up to a boundary no token can span;
// the rest is encoded alone from there. A text that must have more than limit
// tokens is refused unread with a *TooLongError.
func Resolve(tok *token.Tokenizer, text string, seen []Lineage, limit int) (Lineage, error) {
	var out Lineage
	kept := 0
	for _, l := range seen {
		if n := l.reusable(tok, text, kept); n > kept {
			out, kept = l, n
		}
	}
	from := 0
	if kept > 0 {
		from = out.Ends[kept-1]
	}
	out = Lineage{append([]token.ID(nil), out.Tokens[:kept]...), append([]int(nil), out.Ends[:kept]...)}
	if least := kept + (len(text)-from)/tok.LongestToken(); least > limit {
		return Lineage{}, &TooLongError{least}
	}
	pieces, err := tok.Encode(text[from:], token.Options{ParseSpecial: true, AddSpecial: kept == 0})
	if err != nil {
		return Lineage{}, err
	}
	for _, p := range pieces {
		out.Tokens, out.Ends = append(out.Tokens, p.ID), append(out.Ends, from+p.End)
	}
	return out, nil
}

// OfTokens is the lineage of ids that came without a text.
func OfTokens(tok *token.Tokenizer, ids []token.ID) Lineage {
	l := Lineage{Tokens: append([]token.ID(nil), ids...), Ends: make([]int, len(ids))}
	at, stream := 0, tok.NewStream()
	for i, id := range ids {
		at += len(stream.Push(id))
		l.Ends[i] = at
	}
	return l
}

// reusable counts the leading tokens whose text begins text, ended at a
// boundary; 0 unless that is more than atLeast. What a token spells is compared
// as callers saw it: broken bytes as U+FFFD, a character once its last token has
// come.
func (l Lineage) reusable(tok *token.Tokenizer, text string, atLeast int) int {
	n, at := 0, 0
	stream := tok.NewStream()
	for i, id := range l.Tokens {
		if i > 0 || l.Ends[0] > 0 { // a BOS token that was added has no text
			seen := stream.Push(id)
			if !strings.HasPrefix(text[at:], seen) {
				break
			}
			at += len(seen)
		}
		if !stream.Holding() {
			n = i + 1
		} else if rest := string(utf8.RuneError); i == len(l.Tokens)-1 && strings.HasPrefix(text[at:], rest) {
			at, n = at+len(rest), i+1 // the answer ended inside a character
		}
	}
	for n > atLeast && l.Ends[n-1] <= len(text) {
		edge := tok.LastBoundary(text, l.Ends[n-1])
		if edge == l.Ends[n-1] {
			return n
		}
		for n > 0 && (l.Ends[n-1] > edge || n > 1 && l.Ends[n-1] == l.Ends[n-2]) {
			n-- // also never between the tokens of one character
		}
	}
	return 0
}

// CommonPrefix counts the ids that a and b begin with alike.
func CommonPrefix(a, b []token.ID) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// CommonText is the length in bytes of the text that a and b begin with alike.
func CommonText(tok *token.Tokenizer, a, b Lineage) int {
	n := CommonPrefix(a.Tokens, b.Tokens)
	at := 0
	if n > 0 {
		at = a.Ends[n-1]
	}
	return at + CommonBytes(token.ValidText(tok.Decode(a.Tokens[n:])), token.ValidText(tok.Decode(b.Tokens[n:])))
}

// SeenText is how many bytes of a text a lineage begins with.
func SeenText(tok *token.Tokenizer, l Lineage, text string) int {
	from := 0
	if len(l.Ends) > 0 && l.Ends[0] == 0 && tok.IsSpecial(l.Tokens[0]) {
		from = 1 // a BOS token that was added has no text
	}
	return CommonBytes(token.ValidText(tok.Decode(l.Tokens[from:])), text)
}

// CommonBytes counts the bytes that a and b begin with alike.
func CommonBytes(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// Recent keeps the last lineages of each namespace, so that text answered to one
// agent keeps its ids when it comes back without a name or under another. It is
// not safe for concurrent use.
type Recent struct{ byNamespace map[string][]owned }

type owned struct {
	Lineage
	owner string
}

// kept is how many lineages of a namespace Recent keeps.
const kept = 32

// Of lists a namespace's lineages, the newest first.
func (r *Recent) Of(namespace string) (all []Lineage) {
	for _, l := range r.byNamespace[namespace] {
		all = append(all, l.Lineage)
	}
	return all
}

// Add puts a lineage, of an agent or of none (""), before the others.
func (r *Recent) Add(namespace, owner string, l Lineage) {
	if r.byNamespace == nil {
		r.byNamespace = map[string][]owned{}
	}
	all := append([]owned{{l, owner}}, r.byNamespace[namespace]...)
	r.byNamespace[namespace] = all[:min(len(all), kept)]
}

// Forget drops an agent's lineages.
func (r *Recent) Forget(namespace, owner string) {
	left := slices.DeleteFunc(r.byNamespace[namespace], func(l owned) bool { return l.owner == owner })
	if delete(r.byNamespace, namespace); len(left) > 0 {
		r.byNamespace[namespace] = left
	}
}

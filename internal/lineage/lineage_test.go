package lineage

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"mneme/internal/token"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock"))
}

// vocabulary: single letters and blanks, "ab", "the", halves of "é", and the
// specials <s> (BOS) and <e>.
func tokenizer(t *testing.T, addBOS bool) *token.Tokenizer {
	t.Helper()
	v := token.Vocab{Model: "gpt2", Pre: "smollm", BOS: -1, EOS: -1, EOT: -1}
	add := func(kind int32, spelled ...string) {
		for _, s := range spelled {
			v.Tokens, v.Types = append(v.Tokens, s), append(v.Types, kind)
		}
	}
	for c := 'a'; c <= 'z'; c++ {
		add(1, string(c))
	}
	add(1, "Ġ", "Ċ", "ab", "th", "the", "Ã", "©")
	add(3, "<s>", "<e>")
	v.Merges = []string{"a b", "t h", "th e"}
	v.AddBOS, v.BOS = addBOS, token.ID(len(v.Tokens)-2)
	tok, err := token.New(v)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// of makes a lineage of spelled tokens, ends as the engine notes them.
func of(t *testing.T, tok *token.Tokenizer, spelled ...string) Lineage {
	t.Helper()
	var l Lineage
	stream, at := tok.NewStream(), 0
	for _, s := range spelled {
		id := token.ID(-1)
		for i := range token.ID(tok.Size()) {
			if string(tok.Bytes(i)) == s {
				id = i
			}
		}
		if id < 0 {
			t.Fatalf("no token spells %q", s)
		}
		at += len(stream.Push(id))
		l.Tokens, l.Ends = append(l.Tokens, id), append(l.Ends, at)
	}
	return l
}

func spell(tok *token.Tokenizer, l Lineage) string {
	var parts []string
	for _, id := range l.Tokens {
		parts = append(parts, fmt.Sprintf("%q", tok.Bytes(id)))
	}
	return strings.Join(parts, " ")
}

// Text keeps the ids it had, also those the tokenizer would not choose, up to
// where it differs, backed up to a boundary.
func TestResolveKeepsIDs(t *testing.T) {
	tok := tokenizer(t, false)
	first, second := "\xc3", "\xa9"
	for _, c := range []struct {
		name, text string
		seen       []string
		want       string
	}{
		{"nothing seen", "abc", nil, `"ab" "c"`},
		{"unusual ids stay", "abc<e>the", []string{"a", "b", "c", "<e>"}, `"a" "b" "c" "<e>" "the"`},
		{"inside a word nothing stays", "abcd", []string{"a", "b", "c"}, `"ab" "c" "d"`},
		{"a special token is an edge", "abc<e>", []string{"a", "b", "c"}, `"a" "b" "c" "<e>"`},
		{"up to the difference", "a b<e>x", []string{"a", " ", "b", "<e>", "y"}, `"a" " " "b" "<e>" "x"`},
		{"a shorter text", "a<e>", []string{"a", "<e>", "b", "b"}, `"a" "<e>"`},
		{"a character of two tokens", "<e>é<e>", []string{"<e>", first, second}, `"<e>" "\xc3" "\xa9" "<e>"`},
		{"never half of one", "<e>x", []string{"<e>", first, second}, `"<e>" "x"`},
	} {
		var seen []Lineage
		if c.seen != nil {
			seen = append(seen, of(t, tok, c.seen...))
		}
		got, err := Resolve(tok, c.text, seen, 100)
		if err != nil || spell(tok, got) != c.want {
			t.Errorf("%s: %s, %v, want %s", c.name, spell(tok, got), err, c.want)
		}
		if n := len(got.Ends); n > 0 && got.Ends[n-1] != len(c.text) {
			t.Errorf("%s: ends at %d of %d", c.name, got.Ends[n-1], len(c.text))
		}
	}
}

// An answer that ended inside a character was seen as U+FFFD.
func TestHalfACharacterAtTheEnd(t *testing.T) {
	tok := tokenizer(t, false)
	l := of(t, tok, "<e>", "a", "\xc3")
	l.Ends[2] += len("\uFFFD") // as Flush gave it
	got, err := Resolve(tok, "<e>a\uFFFD<e>b", []Lineage{l}, 100)
	if err != nil || spell(tok, got) != `"<e>" "a" "\xc3" "<e>" "b"` {
		t.Errorf("%s, %v", spell(tok, got), err)
	}
}

// Of several lineages the one that reaches furthest is taken.
func TestFurthestWins(t *testing.T) {
	tok := tokenizer(t, false)
	seen := []Lineage{of(t, tok, "a", "<e>"), of(t, tok, "a", "<e>", "t", "h", "e", "<e>"), of(t, tok, "b")}
	got, err := Resolve(tok, "a<e>the<e>", seen, 100)
	if err != nil || spell(tok, got) != `"a" "<e>" "t" "h" "e" "<e>"` {
		t.Errorf("%s, %v", spell(tok, got), err)
	}
	if len(seen[1].Tokens) != 6 || &got.Tokens[0] == &seen[1].Tokens[0] {
		t.Error("the result shares memory with what was seen")
	}
}

// A lineage that shares nothing but the BOS token does not add it twice.
func TestSecondBOS(t *testing.T) {
	tok := tokenizer(t, true)
	first, _ := Resolve(tok, "a", nil, 100)
	alone, _ := Resolve(tok, "b", nil, 100)
	after, err := Resolve(tok, "b", []Lineage{first}, 100)
	if err != nil || !slices.Equal(after.Tokens, alone.Tokens) || spell(tok, alone) != `"<s>" "b"` {
		t.Errorf("alone %s, after another turn %s, %v", spell(tok, alone), spell(tok, after), err)
	}
}

func TestTooLongIsNotRead(t *testing.T) {
	tok := tokenizer(t, false)
	var long *TooLongError
	if _, err := Resolve(tok, strings.Repeat("a", 1000), nil, 100); !errors.As(err, &long) || long.AtLeast <= 100 {
		t.Errorf("1,000 bytes for 100 tokens: %v", err)
	}
}

func TestCommon(t *testing.T) {
	tok := tokenizer(t, false)
	a, b := of(t, tok, "a", "b", "<e>", "the"), of(t, tok, "ab", "<e>", "t", "h")
	if n := CommonPrefix(a.Tokens, b.Tokens); n != 0 {
		t.Errorf("common ids %d", n)
	}
	if n := CommonText(tok, a, b); n != len("ab<e>th") {
		t.Errorf("common text of %d bytes", n)
	}
	if n := CommonText(tok, a, of(t, tok, "a", "b", "c")); n != 2 {
		t.Errorf("common text of %d bytes, want 2", n)
	}
}

func TestOfTokens(t *testing.T) {
	tok := tokenizer(t, false)
	l := of(t, tok, "a", "the", "<e>")
	if got := OfTokens(tok, l.Tokens); !slices.Equal(got.Ends, []int{1, 4, 7}) {
		t.Errorf("ends %v", got.Ends)
	}
}

// Recent keeps the newest of each namespace, until their agent is forgotten.
func TestRecent(t *testing.T) {
	var r Recent
	for i := range 40 {
		r.Add("a", []string{"ada", ""}[i%2], Lineage{Tokens: []token.ID{token.ID(i)}})
	}
	r.Add("b", "ada", Lineage{Tokens: []token.ID{99}})
	if all := r.Of("a"); len(all) != kept || all[0].Tokens[0] != 39 {
		t.Errorf("%d kept, newest %v", len(all), all[0].Tokens)
	}
	if len(r.Of("b")) != 1 || len(r.Of("c")) != 0 {
		t.Error("namespaces mix")
	}
	r.Forget("a", "ada")
	r.Forget("c", "ada")
	if all := r.Of("a"); len(all) != kept/2 || all[1].Tokens[0] != 37 || len(r.Of("b")) != 1 {
		t.Errorf("without ada's: %v in a, %v in b", all, r.Of("b"))
	}
}

// A turn's text: stop strings are held back and cut, half characters wait, what
// is left comes out with the last token; ends follow what callers see.
func TestSpeech(t *testing.T) {
	tok := tokenizer(t, false)
	say := func(stops []string, end, last bool, spelled ...string) (text string, ends []int, stopped bool) {
		s := NewSpeech(tok, stops, 100)
		for i, id := range of(t, tok, spelled...).Tokens {
			final := i == len(spelled)-1
			part, at, stop := s.Say(id, end && final, last && final)
			text, ends, stopped = text+part, append(ends, at), stop
		}
		return text, ends, stopped
	}
	for _, c := range []struct {
		name      string
		stops     []string
		end, last bool
		spelled   []string
		text      string
		ends      []int
		stopped   bool
	}{
		{"plain", nil, false, true, []string{"a", "the"}, "athe", []int{101, 104}, false},
		{"end token", nil, true, false, []string{"a", "<e>"}, "a", []int{101, 104}, false},
		{"stop string over tokens", []string{"bt"}, false, false, []string{"a", "b", "the"}, "a", []int{101, 102, 105}, true},
		{"beginning of a stop string at the end", []string{"bt"}, false, true, []string{"a", "b"}, "ab", []int{101, 102}, false},
		{"a character of two tokens", nil, false, true, []string{"\xc3", "\xa9"}, "é", []int{100, 102}, false},
		{"half a character at the end", nil, false, true, []string{"a", "\xc3"}, "a\uFFFD", []int{101, 104}, false},
		{"half a character before the end token", nil, true, false, []string{"\xc3", "<e>"}, "\uFFFD", []int{100, 106}, false},
	} {
		text, ends, stopped := say(c.stops, c.end, c.last, c.spelled...)
		if text != c.text || !slices.Equal(ends, c.ends) || stopped != c.stopped {
			t.Errorf("%s: %q %v %t, want %q %v %t", c.name, text, ends, stopped, c.text, c.ends, c.stopped)
		}
	}
}

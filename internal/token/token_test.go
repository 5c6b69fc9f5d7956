package token_test

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"mneme/internal/token"
	"pgregory.net/rapid"
)

// hand is a vocabulary one can follow by hand: the bytes a b c, space and
// 0xE2 0x82 0xAC (the three of €), the words ab, abc and " ab", a control token
// and a user-defined one that begins like it.
func hand() token.Vocab {
	return token.Vocab{
		Tokens: []string{"a", "b", "c", "Ġ", "â", "Ĥ", "¬", "ab", "abc", "Ġab", "<end>", "<end>>", "<u>"},
		Types:  []int32{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 4},
		Merges: []string{"a b", "ab c", "Ġ ab"},
		Model:  "gpt2", Pre: "gpt-2",
		BOS: 10, EOS: 10, EOT: token.None, AddBOS: true,
	}
}

func newHand(tb testing.TB) *token.Tokenizer {
	tb.Helper()
	t, err := token.New(hand())
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func TestEncodeByHand(t *testing.T) {
	tokens := newHand(t)
	parse := token.Options{ParseSpecial: true}
	for _, c := range []struct {
		text string
		opts token.Options
		want string // id:end ...
	}{
		{"abc ab", parse, "8:3 9:6"},
		{"ab", token.Options{AddSpecial: true}, "10:0 7:2"},
		// The longest special token at a place wins.
		{"a<end>>b", parse, "0:1 11:7 1:8"},
		// Without ParseSpecial only the user-defined token is read; '<', 'e',
		// 'n', 'd' and '>' have no tokens and are dropped.
		{"a<end>b<u>", token.Options{}, "0:1 1:7 12:10"},
		// x lies in the span of the b after it; the last x in nobody's.
		{"axb abx", parse, "7:3 9:6"},
		{"€", parse, "4:1 5:2 6:3"},
		{"\xe2\x82a\x82", parse, "4:1 5:2 0:3 5:4"},
	} {
		pieces, err := tokens.Encode(c.text, c.opts)
		if got := show(pieces); err != nil || got != c.want {
			t.Errorf("%q: %s (error %v), want %s", c.text, got, err, c.want)
		}
	}
}

func show(pieces []token.Piece) string {
	var words []string
	for _, p := range pieces {
		words = append(words, fmt.Sprintf("%d:%d", p.ID, p.End))
	}
	return strings.Join(words, " ")
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		spoil func(*token.Vocab)
		want  string
	}{
		{func(v *token.Vocab) { v.Model = "t5" }, `token: tokenizer model "t5" is not supported (supported: gpt2, llama)`},
		{func(v *token.Vocab) { v.Pre = "qwen9" }, `token: pre-tokenizer "qwen9" is not supported (supported: gpt-2, llama-bpe, qwen2, smollm)`},
		{func(v *token.Vocab) { v.Tokens = nil }, "token: vocabulary is empty"},
		{func(v *token.Vocab) { v.Types = v.Types[1:] }, "token: vocabulary has 13 tokens but 12 token types"},
		{func(v *token.Vocab) { v.EOS = 13 }, "token: EOS token 13 is outside of the vocabulary of 13"},
		{func(v *token.Vocab) { v.Merges = []string{"ab"} }, `token: merge 0 is "ab", not two parts`},
		{func(v *token.Vocab) { v.Merges = []string{"a b", "c c"} }, `token: merge 1, "c c": a part or the whole is not in the vocabulary`},
	} {
		v := hand()
		c.spoil(&v)
		if _, err := token.New(v); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// Ids outside of the vocabulary spell nothing and end nothing.
func TestForeignIDs(t *testing.T) {
	tokens := newHand(t)
	for _, id := range []token.ID{-1, 13, 1 << 30} {
		if tokens.Bytes(id) != nil || tokens.IsEnd(id) || tokens.IsSpecial(id) {
			t.Errorf("id %d: bytes %q", id, tokens.Bytes(id))
		}
	}
}

// Long words of every kind stay far from quadratic time.
func TestLongWords(t *testing.T) {
	tokens := smollm2(t)
	const size = 1 << 20
	for _, unit := range []string{"a", " ", "\n", "!", "7", "é", "\xff", "ab ", " \n"} {
		text := strings.Repeat(unit, size/len(unit))
		start := time.Now()
		pieces, err := tokens.Encode(text, token.Options{ParseSpecial: true})
		if err != nil {
			t.Fatalf("%q: %v", unit, err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("1 MiB of %q: %d tokens in %v", unit, len(pieces), took)
		}
		if unit != "\xff" && tokens.Decode(idsOf(pieces)) != text {
			t.Errorf("1 MiB of %q does not decode to itself", unit)
		}
	}
}

func idsOf(pieces []token.Piece) []token.ID {
	ids := make([]token.ID, len(pieces))
	for i, p := range pieces {
		ids[i] = p.ID
	}
	return ids
}

// Many goroutines encode at once.
func TestConcurrentEncode(t *testing.T) {
	tokens := smollm2(t)
	text := words(40000)
	want, err := tokens.IDs(text, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			got, err := tokens.IDs(text, token.Options{})
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%d ids (error %v), want the same %d", len(got), err, len(want))
			}
		})
	}
	running.Wait()
}

// words are n different words.
func words(n int) string {
	var b strings.Builder
	for i := range n {
		for ; i > 0; i /= 26 {
			b.WriteByte(byte('a' + i%26))
		}
		b.WriteByte(' ')
	}
	return b.String()
}

// scraps are parts of texts that meet in every order: words, white space of all
// kinds, digits, contractions, special tokens and parts of them, broken UTF-8.
var scraps = []string{
	"a", "ab", "Hello", " the", "'s", "'", "'re", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000",
	"1", "42", "²", "é", "e\u0301", "€", "漢字", "🙂", "👩\u200d💻", "!", "...", "{}", "<|im_start|>", "<|im_end|>", "<|im_", "end|>",
	"<|endoftext|>", "|", "<", "\xff", "\xe2", "\xe2\x82", "\x82", "\xf0\x9f", "\x00", "\x04", "\ufffd",
}

func text() *rapid.Generator[string] {
	return rapid.Custom(func(r *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(scraps), 0, 24).Draw(r, "scraps"), "")
	})
}

// ids(text) = ids(text[:b]) ++ ids(text[b:]) for every boundary b, and
// LastBoundary is the last b for which Boundary is true.
func TestBoundary(t *testing.T) {
	for name, tokens := range map[string]*token.Tokenizer{
		"smollm2": smollm2(t), "tiny": tiny(t), "qwen": qwen(t), "gemma": gemma(t), "by hand": newTokenizer(t, spmVocab()),
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) { checkBoundaries(r, tokens, text().Draw(r, "text")) })
		})
	}
}

func checkBoundaries(r *rapid.T, tokens *token.Tokenizer, text string) {
	last := 0
	for at := range len(text) + 1 {
		if tokens.Boundary(text, at) {
			last = at
			whole, halves := encode(r, tokens, text), encode(r, tokens, text[:at])
			for _, p := range encode(r, tokens, text[at:]) {
				halves = append(halves, token.Piece{ID: p.ID, End: p.End + at})
			}
			if show(whole) != show(halves) {
				r.Fatalf("%q cut at %d: %s, want %s", text, at, show(halves), show(whole))
			}
		}
		if got := tokens.LastBoundary(text, at); got != last {
			r.Fatalf("%q: last boundary up to %d is %d, want %d", text, at, got, last)
		}
	}
	if last != len(text) {
		r.Fatalf("%q: its end is no boundary", text)
	}
}

func encode(r interface{ Fatal(...any) }, tokens *token.Tokenizer, text string) []token.Piece {
	pieces, err := tokens.Encode(text, token.Options{ParseSpecial: true})
	if err != nil {
		r.Fatal(err)
	}
	return pieces
}

// Where a text may be cut: | marks the boundaries.
func TestBoundaryPlaces(t *testing.T) {
	tokens := smollm2(t)
	for _, want := range []string{
		"|the| cat|'s| hat|",
		"|a|1|2|b|",
		"|a| |<|im_end|>|\n|b|", // special tokens are not cut
		"|a| | b|",
		"|a| \n|",
		"|a| |\nb|", // before b the pre-tokenizer cuts too, but "a \n" alone ends in one word
	} {
		plain := strings.NewReplacer("<|im_end|>", "<|im_end|>", "|", "").Replace(want)
		if got := marked(tokens, plain); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if tokens.Boundary("ab", -1) || tokens.Boundary("ab", 3) {
		t.Error("a place outside of the text is no boundary")
	}
}

func marked(tokens *token.Tokenizer, text string) string {
	var b strings.Builder
	for at := range len(text) + 1 {
		if tokens.Boundary(text, at) {
			b.WriteByte('|')
		}
		if at < len(text) {
			b.WriteByte(text[at])
		}
	}
	return b.String()
}

// A character comes out when its last byte is there, not before.
func TestStreamByHand(t *testing.T) {
	const E2, x82, AC, a = 4, 5, 6, 0
	for _, c := range []struct {
		ids  []token.ID
		want []string // per push, then the flush
	}{
		{[]token.ID{E2, x82, AC, a}, []string{"", "", "€", "a", ""}},
		{[]token.ID{E2, a}, []string{"", "\ufffda", ""}},
		{[]token.ID{E2, x82, E2}, []string{"", "", "\ufffd", "\ufffd"}},
		{[]token.ID{E2, x82}, []string{"", "", "\ufffd"}},
		{[]token.ID{AC, a}, []string{"\ufffd", "a", ""}},
		{[]token.ID{a, 99, 10}, []string{"a", "", "<end>", ""}},
	} {
		s := newHand(t).NewStream()
		var got []string
		for _, id := range c.ids {
			got = append(got, s.Push(id))
		}
		got = append(got, s.Flush())
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %q, want %q", c.ids, got, c.want)
		}
	}
}

// However the bytes fall into tokens, the pushes and the flush add up to the
// whole text, and each of them is whole characters.
func TestStreamIsDecode(t *testing.T) {
	tokens := smollm2(t)
	rapid.Check(t, func(r *rapid.T) {
		ids := idsOf(encode(r, tokens, text().Draw(r, "text")))
		ids = append(ids, rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 49151), func(i int) token.ID { return token.ID(i) }), 0, 8).Draw(r, "more")...)
		s, got := tokens.NewStream(), ""
		for _, id := range ids {
			part := s.Push(id)
			if !utf8.ValidString(part) {
				r.Fatalf("push of %d gave %q", id, part)
			}
			got += part
		}
		got += s.Flush()
		if want := token.ValidText(tokens.Decode(ids)); got != want {
			r.Fatalf("%v: streamed %q, want %q", ids, got, want)
		}
	})
}

// One U+FFFD for each longest beginning of a character.
func TestValidText(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"aé€🙂":                     "aé€🙂",
		"a\xffb":                   "a\ufffdb",
		"\xe2\x82":                 "\ufffd",
		"\xe2\x82a\xf0\x9f\x99":    "\ufffda\ufffd",
		"\xed\xa0\x80":             "\ufffd\ufffd\ufffd", // a surrogate half
		"\xc0\xaf":                 "\ufffd\ufffd",       // overlong
		"\xf4\x90\x80\x80":         "\ufffd\ufffd\ufffd\ufffd",
		"\xf0\x9f\xe2\x82\xac\xf0": "\ufffd€\ufffd",
		"\ufffd":                   "\ufffd",
	} {
		if got := token.ValidText(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Any bytes encode, in order, within the text; boundaries hold; and what has
// tokens decodes to itself.
func FuzzEncode(f *testing.F) {
	tokens := tiny(f) // its vocabulary has all 256 bytes
	for _, s := range scraps {
		f.Add(s)
	}
	f.Add(strings.Join(scraps, ""))
	f.Fuzz(func(t *testing.T, text string) {
		pieces := encode(t, tokens, text)
		end := 0
		for _, p := range pieces {
			if p.End < end || p.End > len(text) {
				t.Fatalf("%q: pieces %s", text, show(pieces))
			}
			if got := string(tokens.Bytes(p.ID)); got != text[end:p.End] {
				t.Fatalf("%q: token %d is %q, its span %q", text, p.ID, got, text[end:p.End])
			}
			end = p.End
		}
		if end != len(text) {
			t.Fatalf("%q: pieces end at %d", text, end)
		}
		at := tokens.LastBoundary(text, len(text)/2)
		if !tokens.Boundary(text, at) || show(encode(t, tokens, text[:at])) != show(pieces[:len(encode(t, tokens, text[:at]))]) {
			t.Fatalf("%q: %d is no boundary", text, at)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tokens := smollm2(b)
	text := strings.Repeat("The quick brown fox jumps over the lazy dog, 42 times.\n", 1100)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		encode(b, tokens, text)
	}
}

// The kinds of words, and a word that is a token without being a merge.
func TestPreTokenizers(t *testing.T) {
	for pre, want := range map[string]string{
		"gpt-2":     "|it|'|S| a|'s|\t|b| 1234|!|\n| (|cab|",
		"smollm":    "|it|'|S| a|'s|\t|b| |1|2|3|4|!|\n| (|cab|",
		"qwen2":     "|it|'S| a|'s|\tb| |1|2|3|4|!\n| (|cab|",
		"llama-bpe": "|it|'S| a|'s|\tb| |123|4|!\n| (|cab|",
	} {
		v := hand()
		v.Pre = pre
		v.Tokens, v.Types = append(v.Tokens, "cab"), append(v.Types, 1) // 13
		tokens := newTokenizer(t, v)
		if got := marked(tokens, strings.ReplaceAll(want, "|", "")); got != want {
			t.Errorf("%s: %q, want %q", pre, got, want)
		}
		word := map[bool]string{false: "2:1 7:3", true: "13:3"}[pre == "llama-bpe"]
		if got := show(encode(t, tokens, "cab")); got != word {
			t.Errorf("%s: cab is %s, want %s", pre, got, word)
		}
	}
}

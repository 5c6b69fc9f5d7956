package token_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"mneme/internal/token"
	"pgregory.net/rapid"
)

// spmVocab is a SentencePiece vocabulary one can follow by hand: token 3+b is
// byte b, "ab" is merged first, then "▁a", then "▁ab" and "a▁".
func spmVocab() token.Vocab {
	v := token.Vocab{Model: "llama", BOS: 1, EOS: 2, EOT: token.None}
	add := func(kind int32, score float32, texts ...string) {
		for _, text := range texts {
			v.Tokens, v.Types, v.Scores = append(v.Tokens, text), append(v.Types, kind), append(v.Scores, score)
		}
	}
	add(2, 0, "<unk>")
	add(3, 0, "<s>", "</s>")
	for b := range 256 {
		add(6, 0, fmt.Sprintf("<0x%02X>", b))
	}
	add(1, -9, "▁", "a", "b") // 259, 260, 261
	add(1, -1, "ab")          // 262
	add(1, -2, "▁a")          // 263
	add(1, -3, "▁ab", "a▁")   // 264, 265
	add(4, 0, "\n", "<t>")    // 266, 267
	return v
}

func newTokenizer(tb testing.TB, v token.Vocab) *token.Tokenizer {
	tb.Helper()
	t, err := token.New(v)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func TestSPMByHand(t *testing.T) {
	plain, prefixed := spmVocab(), spmVocab()
	prefixed.AddSpacePrefix, prefixed.AddBOS, prefixed.AddEOS = true, true, true
	both, parse := token.Options{AddSpecial: true, ParseSpecial: true}, token.Options{ParseSpecial: true}
	for _, c := range []struct {
		vocab token.Vocab
		text  string
		opts  token.Options
		want  string // id:end ...
	}{
		{plain, "ab ab", both, "262:2 264:5"},
		{plain, "b a ", both, "261:1 263:3 259:4"}, // "▁a" goes before "a▁"
		{plain, "a\nb<t>", parse, "260:1 266:2 261:3 267:6"},
		{plain, "a<s>b", parse, "260:1 1:4 261:5"},
		{plain, "a<s>b", token.Options{}, "260:1 63:2 118:3 65:4 261:5"},
		{plain, "€\xff", parse, "229:1 133:2 175:3 258:4"},
		{plain, "▁ab", parse, "264:5"}, // written out, it is no other than a space
		{plain, "<0x41>", parse, "63:1 51:2 123:3 55:4 52:5 65:6"},
		{prefixed, "ab<t>a", parse, "264:2 267:5 263:6"}, // behind a special token too
		{prefixed, "ab", both, "1:0 264:2 2:2"},
		{prefixed, "<s>ab", both, "1:3 264:5 2:5"}, // one BOS is enough
		{prefixed, "<s>", token.Options{AddSpecial: true}, "1:0 259:0 63:1 118:2 65:3 2:3"},
		{prefixed, " ", parse, "259:0 259:1"},
		{prefixed, "", both, "1:0 2:0"},
	} {
		pieces, err := newTokenizer(t, c.vocab).Encode(c.text, c.opts)
		if got := show(pieces); err != nil || got != c.want {
			t.Errorf("%q: %s (error %v), want %s", c.text, got, err, c.want)
		}
	}
}

func TestSPMRefuses(t *testing.T) {
	for _, c := range []struct {
		spoil func(*token.Vocab)
		want  string
	}{
		{func(v *token.Vocab) { v.Scores = nil }, "token: vocabulary has 268 tokens but 0 scores"},
		{func(v *token.Vocab) { v.Scores[7] = float32(math.NaN()) }, "token: score of token 7 is not a number"},
		{func(v *token.Vocab) { v.Types[3+0xAB] = 1 }, "token: SentencePiece: byte value 0xAB not found"},
		{func(v *token.Vocab) { v.Ends = []token.ID{268} }, "token: end token 268 is outside of the vocabulary of 268"},
	} {
		v := spmVocab()
		c.spoil(&v)
		if _, err := token.New(v); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// Where SentencePiece text may be cut: in front of words, where no token has the
// character and a space behind it; beside special tokens. With a space prefix
// only there: the second half would get a space of its own.
func TestSPMBoundaryPlaces(t *testing.T) {
	prefixed := spmVocab()
	prefixed.AddSpacePrefix = true
	for _, c := range []struct {
		tokens *token.Tokenizer
		want   string
	}{
		{gemma(t), "|the| cat's| hat.|\n\n|  |a|    |"},
		{gemma(t), "|12|\n|<b>|x> y| z|"}, // a token "> " there is
		{newTokenizer(t, spmVocab()), "|ab| a b| ab|\n|a|"},
		{newTokenizer(t, prefixed), "|ab a b ab|\n|a|"},
	} {
		plain := strings.ReplaceAll(c.want, "|", "")
		if got := marked(c.tokens, plain); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Pieces cover the text in order, and spell it where it has no U+2581.
func TestSPMSpellsTheText(t *testing.T) {
	for name, tokens := range map[string]*token.Tokenizer{"gemma": gemma(t), "by hand": newTokenizer(t, spmVocab())} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				text, end := text().Draw(r, "text"), 0
				for _, p := range encode(r, tokens, text) {
					if got := string(tokens.Bytes(p.ID)); got != text[end:p.End] {
						r.Fatalf("%q: token %d is %q, its span %q", text, p.ID, got, text[end:p.End])
					}
					end = p.End
				}
				if end != len(text) {
					r.Fatalf("%q: pieces end at %d", text, end)
				}
			})
		})
	}
}

// A character that comes in bytes is held until it is whole.
func TestSPMStream(t *testing.T) {
	s := newTokenizer(t, spmVocab()).NewStream()
	var got []string
	for _, id := range []token.ID{264, 3 + 0xE2, 3 + 0x82, 3 + 0xAC, 3 + 0xE2, 266} {
		got = append(got, s.Push(id))
	}
	if want := []string{" ab", "", "", "€", "", "\ufffd\n"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Long words without a place to cut stay far from quadratic time.
func TestSPMLongWords(t *testing.T) {
	tokens := gemma(t)
	const size = 1 << 18
	for _, unit := range []string{"a", "\n", " ", "!", "é", "\xff", "> "} {
		start := time.Now()
		pieces := encode(t, tokens, strings.Repeat(unit, size/len(unit)))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%d bytes of %q: %d tokens in %v", size, unit, len(pieces), took)
		}
	}
}

// What a file says is not always true of it: an error or a tokenizer, whose
// pieces lie in order within the text.
func FuzzVocab(f *testing.F) {
	f.Add("a\nb\nab\n▁a\n\xff\n\xff▁\n\n<0x41>", []byte{1, 1, 1, 1, 1, 1, 4, 6}, "a b", "ab \xffa <0x41>", true)
	f.Add("\ufffd\n<s>\n<0x+1>", []byte{4, 3, 6}, "", "<s>\ufffd\xff", false)
	f.Fuzz(func(t *testing.T, names string, types []byte, mergeList, text string, spm bool) {
		v := spmVocab()
		v.AddSpacePrefix = len(types)%2 == 1
		if !spm {
			v = token.Vocab{Model: "gpt2", Pre: "llama-bpe", BOS: token.None, EOS: token.None, EOT: token.None}
			v.Merges = strings.Split(mergeList, "\n")
		}
		for i, name := range strings.Split(names, "\n") {
			kind := int32(1)
			if i < len(types) {
				kind = int32(types[i] % 8)
			}
			v.Tokens, v.Types = append(v.Tokens, name), append(v.Types, kind)
			if spm {
				v.Scores = append(v.Scores, float32(len(name)%5))
			}
		}
		tokens, err := token.New(v)
		if err != nil {
			return
		}
		end := 0
		for _, p := range encode(t, tokens, text) {
			if p.End < end || p.End > len(text) || p.ID < 0 || int(p.ID) >= tokens.Size() {
				t.Fatalf("%q: piece %+v after %d", text, p, end)
			}
			end = p.End
		}
		checkCut(t, tokens, text, tokens.LastBoundary(text, len(text)/2))
	})
}

// checkCut wants the ids of text to be those of its halves.
func checkCut(t *testing.T, tokens *token.Tokenizer, text string, at int) {
	t.Helper()
	halves := append(idsOf(encode(t, tokens, text[:at])), idsOf(encode(t, tokens, text[at:]))...)
	if whole := idsOf(encode(t, tokens, text)); !slices.Equal(whole, halves) {
		t.Fatalf("%q cut at %d: %v, want %v", text, at, halves, whole)
	}
}

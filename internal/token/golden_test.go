package token_test

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"mneme/internal/gguf"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// smollm2 is the tokenizer of the real model: 49,152 tokens, digits alone.
func smollm2(tb testing.TB) *token.Tokenizer {
	tb.Helper()
	return fromFile(tb, testkit.SmolLM2(tb))
}

// tiny is the tokenizer of the test models: 320 tokens, GPT-2 words.
func tiny(tb testing.TB) *token.Tokenizer {
	tb.Helper()
	return fromFile(tb, testkit.Golden(tb, "tiny/llama/model.gguf"))
}

// qwen is the tokenizer of the real model: 151,936 tokens, GPT-4 words, digits alone.
func qwen(tb testing.TB) *token.Tokenizer {
	tb.Helper()
	return fromFile(tb, testkit.Qwen(tb))
}

// gemma is the tokenizer of the real model: 262,144 tokens, SentencePiece.
func gemma(tb testing.TB) *token.Tokenizer {
	tb.Helper()
	return fromFile(tb, testkit.Gemma(tb))
}

func fromFile(tb testing.TB, path string) *token.Tokenizer {
	tb.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	v, err := token.FromMetadata(f)
	if err != nil {
		tb.Fatal(err)
	}
	t, err := token.New(v)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// record is one line of a tokenizer.jsonl.
type record struct {
	Text         string
	IDs          []token.ID
	ParseSpecial bool    `json:"parse_special"`
	Detokenized  *string // where decoding does not give Text back

	// Where llama.cpp gives other ids than the publisher's software.
	Reason      string
	LlamaCppIDs []token.ID `json:"llamacpp_ids"`
}

// followsFile tells of each reason for a difference whether the file's word is the other ids: it tells of no
// normalisation (NFC), and spells runs of white space with spaces, not with U+2581. But the type of "</s>" it does give.
var followsFile = map[string]bool{"nfc_normalizer": true, "literal_u2581": true, "/s_type_override": false}

func records(tb testing.TB, rel string) []record {
	tb.Helper()
	f, err := os.Open(testkit.Golden(tb, rel))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var all []record
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			tb.Fatal(err)
		}
		all = append(all, r)
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return all
}

// Other software's ids for the same texts, and back to text again.
func TestGolden(t *testing.T) {
	for _, set := range []struct {
		file   string
		tokens *token.Tokenizer
		count  int
	}{
		{"smollm2-135m/tokenizer.jsonl", smollm2(t), 138},
		{"tiny/tokenizer.jsonl", tiny(t), 30},
		{"qwen2.5-coder-0.5b/tokenizer.jsonl", qwen(t), 139},
		{"gemma3-270m/tokenizer.jsonl", gemma(t), 136},
	} {
		t.Run(set.file, func(t *testing.T) {
			all := records(t, set.file)
			if len(all) != set.count {
				t.Fatalf("%d records, want %d", len(all), set.count)
			}
			for _, r := range all {
				checkRecord(t, set.tokens, r)
			}
		})
	}
}

func checkRecord(t *testing.T, tokens *token.Tokenizer, r record) {
	t.Helper()
	want := r.IDs
	if r.Reason != "" {
		follows, known := followsFile[r.Reason]
		if !known {
			t.Fatalf("%q: no decision about %q", r.Text, r.Reason)
		}
		if follows {
			want = r.LlamaCppIDs
		}
	}
	ids, err := tokens.IDs(r.Text, token.Options{ParseSpecial: r.ParseSpecial})
	if err != nil || !slices.Equal(ids, want) {
		t.Errorf("%q, special %v: ids %v (error %v), want %v", r.Text, r.ParseSpecial, ids, err, want)
	}
	text := r.Text
	if r.Detokenized != nil {
		text = *r.Detokenized
	}
	if r.Reason == "literal_u2581" { // SentencePiece spells both the same
		text = strings.ReplaceAll(text, "\u2581", " ")
	}
	if got := token.ValidText(tokens.Decode(want)); got != text {
		t.Errorf("decoded %q, want %q", got, text)
	}
}

// What the real file says about its special tokens.
func TestSmolLM2Specials(t *testing.T) {
	tokens := smollm2(t)
	if tokens.Size() != 49152 {
		t.Errorf("size %d, want 49152", tokens.Size())
	}
	// 0 <|endoftext|>, 1 <|im_start|> (BOS), 2 <|im_end|> (EOS)
	if got := tokens.Ends(); !slices.Equal(got, []token.ID{0, 2}) {
		t.Errorf("ends %v, want [0 2]", got)
	}
	if tokens.BOS() != 1 || tokens.IsEnd(1) || !tokens.IsSpecial(1) || tokens.IsSpecial(28) {
		t.Errorf("BOS %d, end %v, special %v", tokens.BOS(), tokens.IsEnd(1), tokens.IsSpecial(1))
	}
	ids, err := tokens.IDs("Hi", token.Options{AddSpecial: true, ParseSpecial: true})
	if err != nil || !slices.Equal(ids, []token.ID{26843}) {
		t.Errorf("ids %v (error %v), want [26843]: the file asks for no BOS", ids, err)
	}
}

// What the other real files say of the ends of a turn and the ends of a text.
func TestSpecialsOfFiles(t *testing.T) {
	for _, c := range []struct {
		tokens *token.Tokenizer
		ends   []token.ID
		hi     []token.ID
	}{
		{qwen(t), []token.ID{151643, 151645}, []token.ID{13048}}, // <|endoftext|>, <|im_end|>
		{gemma(t), []token.ID{1, 106}, []token.ID{2, 10979}},     // <eos>, <end_of_turn>; BOS wanted, no EOS, no space
	} {
		ids, err := c.tokens.IDs("Hi", token.Options{AddSpecial: true, ParseSpecial: true})
		if got := c.tokens.Ends(); err != nil || !slices.Equal(got, c.ends) || !slices.Equal(ids, c.hi) {
			t.Errorf("ends %v, ids %v (error %v), want %v, %v", got, ids, err, c.ends, c.hi)
		}
	}
}

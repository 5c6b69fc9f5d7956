package chat_test

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"mneme/internal/chat"
	"mneme/internal/gguf"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// readLines calls do with every line of a JSON lines file, decoded.
func readLines[T any](t *testing.T, path string, do func(T)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var record T
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			t.Fatal(err)
		}
		do(record)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// smollm2 is the real model's own template and tokenizer.
func smollm2(t *testing.T) (*chat.Template, *token.Tokenizer) {
	t.Helper()
	f, err := gguf.Open(testkit.SmolLM2(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := token.FromMetadata(f)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := token.New(v)
	if err != nil {
		t.Fatal(err)
	}
	source, _ := f.String("tokenizer.chat_template")
	return compile(t, source), tokens
}

func compile(t *testing.T, source string) *chat.Template {
	t.Helper()
	template, err := chat.Compile(source, chat.Options{BOS: "<s>", EOS: "</s>"})
	if err != nil {
		t.Fatalf("%q: %v", source, err)
	}
	return template
}

// Other software's prompts for the same conversations, and their ids.
func TestGolden(t *testing.T) {
	template, tokens := smollm2(t)
	count := 0
	type record struct {
		Messages            []chat.Message
		AddGenerationPrompt bool `json:"add_generation_prompt"`
		Text                string
		IDs                 []token.ID
	}
	readLines(t, testkit.Golden(t, "smollm2-135m/chat.jsonl"), func(r record) {
		count++
		text, err := template.Render(r.Messages, r.AddGenerationPrompt)
		if err != nil || text != r.Text {
			t.Errorf("%v: %q (error %v), want %q", r.Messages, text, err, r.Text)
		}
		ids, err := tokens.IDs(text, token.Options{ParseSpecial: true})
		if err != nil || !slices.Equal(ids, r.IDs) {
			t.Errorf("%q: ids %v (error %v), want %v", text, ids, err, r.IDs)
		}
	})
	if count < 20 {
		t.Errorf("%d records", count)
	}
}

// 800 random templates with every kind of tag, mark and line break, as Jinja2
// renders them (testdata/make.py). Their variables stand in a line before, which leaves nothing.
func TestWhiteSpace(t *testing.T) {
	count := 0
	readLines(t, "testdata/whitespace.jsonl", func(r struct{ Source, Text string }) {
		count++
		setting := "{% set yes = true +%}{% set two = [1, 2] +%}{% set x = 'X' %}\n"
		text, err := compile(t, setting+r.Source).Render(nil, false)
		if err != nil || text != r.Text {
			t.Errorf("%q: %q (error %v), want %q", r.Source, text, err, r.Text)
		}
	})
	if count != 800 {
		t.Errorf("%d records, want 800", count)
	}
}

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
	return ofFile(t, testkit.SmolLM2(t))
}

// ofFile is a model file's template and tokenizer.
func ofFile(t *testing.T, path string) (*chat.Template, *token.Tokenizer) {
	t.Helper()
	f, err := gguf.Open(path)
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

// Other software's prompts for the same conversations, with tools and without,
// and their ids.
func TestGolden(t *testing.T) {
	for _, set := range []struct {
		file, model string
		count       int
	}{
		{"smollm2-135m/chat.jsonl", testkit.SmolLM2(t), 24},
		{"qwen2.5-coder-0.5b/chat.jsonl", testkit.Qwen(t), 26},
	} {
		t.Run(set.file, func(t *testing.T) {
			template, tokens := ofFile(t, set.model)
			count := 0
			readLines(t, testkit.Golden(t, set.file), func(r render) {
				count++
				r.check(t, template, tokens)
			})
			if count != set.count {
				t.Errorf("%d records, want %d", count, set.count)
			}
		})
	}
}

// render is one line of a chat.jsonl.
type render struct {
	Messages            []chat.Message
	Tools               json.RawMessage
	AddGenerationPrompt bool `json:"add_generation_prompt"`
	Text                string
	IDs                 []token.ID
}

func (r render) check(t *testing.T, template *chat.Template, tokens *token.Tokenizer) {
	t.Helper()
	text, err := template.RenderContext(t.Context(), chat.Request{Messages: r.Messages, Tools: r.Tools, AddGenerationPrompt: r.AddGenerationPrompt})
	if err != nil || text != r.Text {
		t.Errorf("%v: %q (error %v), want %q", r.Messages, text, err, r.Text)
	}
	ids, err := tokens.IDs(text, token.Options{ParseSpecial: true})
	if err != nil || !slices.Equal(ids, r.IDs) {
		t.Errorf("%q: ids %v (error %v), want %v", text, ids, err, r.IDs)
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

// What templates do, one line each, as Jinja2 and transformers' own tojson render
// it (testdata/features.py).
func TestFeatures(t *testing.T) {
	data := map[string]json.RawMessage{"data": json.RawMessage(`{"zeta": 1,
		"alpha": [1, 2.5, 5.0, 1e-05, 1e16, true, null, "é\u2028<&>\"\\\n\u0001"],
		"nested": {"b": {}, "a": [], "c": [{"x": 1}]}, "format": "date",
		"people": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": 7}, {"name": "Cy"}], "big": 9007199254740993}`)}
	count := 0
	readLines(t, "testdata/features.jsonl", func(r struct{ Source, Text string }) {
		count++
		text, err := compile(t, r.Source).RenderContext(t.Context(), chat.Request{Variables: data})
		if err != nil || text != r.Text {
			t.Errorf("%s: %q (error %v), want %q", r.Source, text, err, r.Text)
		}
	})
	if count != 40 {
		t.Errorf("%d records, want 40", count)
	}
}

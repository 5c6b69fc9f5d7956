package constrain_test

import (
	"math"
	"slices"
	"testing"

	"mneme/internal/constrain"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// words is a vocabulary one can follow by hand.
func words(t testing.TB) (*token.Tokenizer, *constrain.Vocabulary) {
	t.Helper()
	tok, err := token.New(token.Vocab{
		Tokens: []string{"a", "b", "c", "ab", "abc", "<", ">", "x", "<end>", "<call>", "<u>"},
		Types:  []int32{1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 4},
		Model:  "gpt2", Pre: "gpt-2", BOS: token.None, EOS: 8, EOT: token.None,
	})
	if err != nil {
		t.Fatal(err)
	}
	return tok, constrain.NewVocabulary(tok)
}

// allowed are the ids that may come next, by Allows and by the mask.
func allowed(t *testing.T, tok *token.Tokenizer, c *constrain.Constraint) (ids []token.ID) {
	t.Helper()
	for id := range token.ID(tok.Size()) {
		ok := c.Allows(id)
		if masked := c.Mask()[0]>>id&1 != 0; masked != ok {
			t.Errorf("token %d: Allows says %v, the mask %v", id, ok, masked)
		}
		if ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestAllowed(t *testing.T) {
	tok, v := words(t)
	call, err := v.Markup("<call>a<u>")
	if err != nil {
		t.Fatal(err)
	}
	self := constrain.Rule()
	self.Define(constrain.Any(constrain.Text("x"), constrain.Seq(constrain.Text("<"), self, constrain.Text(">"))))
	ab := constrain.OneOf("ab")
	for _, c := range []struct {
		name  string
		node  *constrain.Node
		after []token.ID
		want  []token.ID
	}{
		{"a text begins", constrain.Text("abc"), nil, []token.ID{0, 3, 4}},
		{"in a token's middle", constrain.Text("abc"), []token.ID{0}, []token.ID{1}},
		{"and ends", constrain.Text("abc"), []token.ID{4}, []token.ID{8}},
		{"after the end nothing", constrain.Text("abc"), []token.ID{4, 8}, nil},
		{"a choice", constrain.Any(constrain.Text("abc"), constrain.Text("c")), nil, []token.ID{0, 2, 3, 4}},
		{"optional", constrain.Optional(constrain.Text("c")), nil, []token.ID{2, 8}},
		{"two to three", constrain.Repeat(ab, 2, 3), []token.ID{3}, []token.ID{0, 1, 8}},
		{"three of three", constrain.Repeat(ab, 2, 3), []token.ID{3, 0}, []token.ID{8}},
		{"two or more", constrain.Repeat(ab, 2, -1), []token.ID{0}, []token.ID{0, 1, 3}},
		{"nested", self, []token.ID{5, 5}, []token.ID{5, 7}},
		{"nested, one open", self, []token.ID{5, 5, 7, 6}, []token.ID{6}},
		{"a special token is none by its text", constrain.Text("<call>"), []token.ID{5}, []token.ID{2}},
		{"a special token", call, nil, []token.ID{9}},
		{"and what follows", call, []token.ID{9, 0}, []token.ID{5, 10}},
		{"without a marker", constrain.Without("ab"), []token.ID{2, 0}, []token.ID{0, 2, 5, 6, 7, 8, 10}},
		{"the end of a beginning", constrain.Seq(constrain.Without("ab"), constrain.Text("ab")), []token.ID{0}, []token.ID{0, 1, 2, 3, 5, 6, 7, 10}},
		{"nothing is possible", constrain.Any(), nil, nil},
	} {
		at := constrain.NewGrammar(v, c.node).Begin()
		for _, id := range c.after {
			at.Take(id)
		}
		if got := allowed(t, tok, at); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v may follow, want %v", c.name, got, c.want)
		}
	}
}

// A sampler within a constraint picks what is allowed with its share, and the
// likeliest of it without temperature.
func TestSampling(t *testing.T) {
	_, v := words(t)
	grammar := constrain.NewGrammar(v, constrain.OneOf("abc"))
	logits := []float32{0, 1, 2, 9, 9, 9, 9, 9, 9, 9, 9} // a, b, c, and others that may not come
	p := sample.Defaults()
	p.Temperature = 0
	if got, err := sample.New(p).Within(grammar.Begin()).Next(logits, 3, nil, 0); err != nil || got.ID != 2 {
		t.Errorf("greedy: %v, %v", got, err)
	}
	const n = 20000
	var counts [11]int
	p.Temperature = 1
	for i := range n {
		p.Seed = uint64(i)
		got, err := sample.New(p).Within(grammar.Begin()).Next(logits, 3, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		counts[got.ID]++
	}
	sum := 1 + math.E + math.E*math.E
	for id, want := range []float64{1 / sum, math.E / sum, math.E * math.E / sum} {
		got := float64(counts[id]) / n
		if sd := math.Sqrt(want * (1 - want) / n); math.Abs(got-want) > 5*sd {
			t.Errorf("token %d came %.4f of the time, its share is %.4f (%.4f)", id, got, want, sd)
		}
	}
	if counts[0]+counts[1]+counts[2] != n {
		t.Errorf("what is not allowed came: %v", counts)
	}
	none := constrain.NewGrammar(v, constrain.Text("é")).Begin()
	if _, err := sample.New(p).Within(none).Next(logits, 3, nil, 0); err == nil {
		t.Error("a token was picked where none is allowed")
	}
}

package api

import (
	"net/http"

	"mneme/internal/token"
)

// tokenize answers {text, add_special?, parse_special?} with {tokens}. The
// defaults are those a rendered prompt is read with.
func tokenize(x *exchange) error {
	o, err := x.object("text", "add_special", "parse_special")
	if err != nil {
		return err
	}
	o.Require("text")
	text := o.Text("text", "")
	options := token.Options{AddSpecial: o.Bool("add_special", true), ParseSpecial: o.Bool("parse_special", true)}
	if err := o.Err(); err != nil {
		return err
	}
	ids, err := x.engine.Info().Tokenizer.IDs(text, options)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, struct {
		Tokens []token.ID `json:"tokens"`
	}{append([]token.ID{}, ids...)})
}

// detokenize answers {tokens} with {text}; bytes that are no characters become
// U+FFFD.
func detokenize(x *exchange) error {
	o, err := x.object("tokens")
	if err != nil {
		return err
	}
	tokenizer := x.engine.Info().Tokenizer
	o.Require("tokens")
	numbers := o.Ints("tokens", 0, int64(tokenizer.Size()-1))
	if err := o.Err(); err != nil {
		return err
	}
	ids := make([]token.ID, len(numbers))
	for i, n := range numbers {
		ids[i] = token.ID(n)
	}
	return x.json(http.StatusOK, struct {
		Text string `json:"text"`
	}{token.ValidText(tokenizer.Decode(ids))})
}

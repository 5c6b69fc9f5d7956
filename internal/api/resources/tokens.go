package resources

import (
	"net/http"

	"mneme/internal/token"
)

// Tokenize answers {text, add_special?, parse_special?} with {tokens}. The
// defaults are those a rendered prompt is read with.
func (d Desk) Tokenize() error {
	o, err := d.Object("text", "add_special", "parse_special")
	if err != nil {
		return err
	}
	o.Require("text")
	text := o.Text("text", "")
	options := token.Options{AddSpecial: o.Bool("add_special", true), ParseSpecial: o.Bool("parse_special", true)}
	if err := o.Err(); err != nil {
		return err
	}
	ids, err := d.Engine.Info().Tokenizer.IDs(text, options)
	if err != nil {
		return err
	}
	return d.JSON(http.StatusOK, struct {
		Tokens []token.ID `json:"tokens"`
	}{append([]token.ID{}, ids...)})
}

// Detokenize answers {tokens} with {text}; bytes that are no characters become
// U+FFFD.
func (d Desk) Detokenize() error {
	o, err := d.Object("tokens")
	if err != nil {
		return err
	}
	tokenizer := d.Engine.Info().Tokenizer
	o.Require("tokens")
	numbers := o.Ints("tokens", 0, int64(tokenizer.Size()-1))
	if err := o.Err(); err != nil {
		return err
	}
	ids := make([]token.ID, len(numbers))
	for i, n := range numbers {
		ids[i] = token.ID(n)
	}
	return d.JSON(http.StatusOK, struct {
		Text string `json:"text"`
	}{token.ValidText(tokenizer.Decode(ids))})
}

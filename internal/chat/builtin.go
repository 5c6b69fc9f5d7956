package chat

import "embed"

//go:embed builtin/*.jinja
var builtin embed.FS

// Builtin returns the source of a template of our own, for model files that have
// none: "chatml" or "gemma". Neither has a place for tools: they refuse them.
func Builtin(name string) (source string, ok bool) {
	text, err := builtin.ReadFile("builtin/" + name + ".jinja")
	return string(text), err == nil
}

package ask

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"mneme/internal/api/fields"
	"mneme/internal/api/wire"
)

// Content reads a member that is a string, or a list of parts of these types,
// which lines up as lines. A part of type refusal has its text in a member of that
// name.
func Content(o *fields.Object, key string, types ...string) string {
	o.Require(key)
	if _, isList := o.Value(key).([]any); !isList {
		return contentText(o, key)
	}
	parts := o.Objects(key)
	if len(parts) == 0 {
		o.Refuse(o.At(key), "must hold at least one part")
	}
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = part(p, types)
	}
	return strings.Join(texts, "\n")
}

func contentText(o *fields.Object, key string) string {
	s, ok := o.Value(key).(string)
	if !ok {
		o.Refuse(o.At(key), "must be a string or a list of text parts, not "+fields.KindOf(o.Value(key)))
	}
	return s
}

func part(o *fields.Object, types []string) string {
	o.Require("type")
	kind := o.Text("type", types[0])
	if !slices.Contains(types, kind) {
		o.Refuse(o.At("type"), "must be "+strconv.Quote(types[0])+", not "+strconv.Quote(fields.Clip(kind))+": this model reads text only, no images, audio or files")
	}
	key := "text"
	if kind == "refusal" {
		key = kind
	}
	o.Require(key)
	return o.Text(key, "")
}

// taken are the names in a template that are not for a request to set.
var taken = []string{"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "strftime_now", "raise_exception"}

// Variables are what a request sets in the model's template: the members of
// chat_template_kwargs, and how hard it is to think. effort is "" when that was
// not said.
func Variables(o *fields.Object, effort string) map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	if effort != "" {
		all["reasoning_effort"], _ = json.Marshal(effort) // a string
		all["enable_thinking"], _ = json.Marshal(effort != "none" && effort != "minimal")
	}
	if given := o.Sub("chat_template_kwargs"); given != nil {
		for _, key := range given.Keys() {
			if slices.Contains(taken, key) {
				o.Refuse(given.At(key), "is the template's own, and not for a request to set")
			}
			if given.Has(key) {
				all[key] = given.Raw(key)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// Names reads whose the conversation is, as far as the body says it.
func Names(o *fields.Object) wire.Names {
	n := wire.Names{
		Session:      o.Text("session_id", ""),
		CacheKey:     o.Text("prompt_cache_key", ""),
		Conversation: Conversation(o),
		Previous:     o.Text("previous_response_id", ""),
	}
	if metadata, ok := o.Value("metadata").(map[string]any); ok {
		n.User, _ = metadata["user_id"].(string)
	}
	return n
}

// Conversation reads the id of a conversation, which may stand in an object.
func Conversation(o *fields.Object) string {
	if _, isText := o.Value("conversation").(string); isText || !o.Has("conversation") {
		return o.Text("conversation", "")
	}
	c := o.Sub("conversation")
	c.Require("id")
	return c.Text("id", "")
}

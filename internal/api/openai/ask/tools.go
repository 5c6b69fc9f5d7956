package ask

import (
	"strconv"
	"strings"

	"mneme/internal/api/fields"
	"mneme/internal/api/talk"
)

// maxToolName bounds a tool's name, in bytes.
const maxToolName = 128

// Function reads a tool: its name, description, parameters and whether they are
// strict.
func Function(o *fields.Object) talk.Tool {
	o.Require("name")
	t := talk.Tool{
		Name:        o.Text("name", "unnamed"),
		Description: o.Text("description", ""),
		Parameters:  o.RawObject("parameters"),
		Strict:      o.Bool("strict", false),
	}
	if !isToolName(t.Name) {
		o.Refuse(o.At("name"), "must be 1 to "+strconv.Itoa(maxToolName)+" characters of A-Z a-z 0-9 _ . : / -, not "+strconv.Quote(fields.Clip(t.Name)))
	}
	return t
}

// isToolName: a name is written by the model as it stands, in any family's markup.
func isToolName(s string) bool {
	const others = "_.:/-"
	outside := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(others, r))
	}
	return s != "" && len(s) <= maxToolName && strings.IndexFunc(s, outside) < 0
}

// Unique refuses two tools of one name in the member tools.
func Unique(o *fields.Object, tools []talk.Tool) {
	seen := map[string]bool{}
	for _, t := range tools {
		if seen[t.Name] {
			o.Refuse("tools", "has two functions named "+t.Name)
		}
		seen[t.Name] = true
	}
}

var modes = map[string]talk.Mode{"auto": talk.Auto, "none": talk.None, "required": talk.Required}

// Choice reads tool_choice and parallel_tool_calls.
func Choice(o *fields.Object) talk.Choice {
	c := talk.Choice{Single: !o.Bool("parallel_tool_calls", true)}
	word, isWord := o.Value("tool_choice").(string)
	mode, known := modes[word]
	switch {
	case !o.Has("tool_choice"):
	case isWord && known:
		c.Mode = mode
	case isWord:
		o.Refuse("tool_choice", "must be none, auto, required, or an object that names a function, not "+strconv.Quote(fields.Clip(word)))
	default:
		c.Mode, c.Name = talk.Named, chosen(o.Sub("tool_choice"))
	}
	return c
}

// chosen is the name of the function that must be called; the name stands in the
// choice itself or in its member function.
func chosen(o *fields.Object) string {
	if kind := o.Text("type", "function"); kind != "function" {
		o.Refuse(o.At("type"), `must be "function", not `+strconv.Quote(fields.Clip(kind)))
	}
	if f := o.Sub("function"); f != nil {
		o = f
	}
	o.Require("name")
	return o.Text("name", "")
}

// Format reads what the answer's text must be; f may be nil. The schema stands in
// f itself or in its member json_schema.
func Format(f *fields.Object) talk.Format {
	if f == nil {
		return talk.Format{}
	}
	switch kind := f.Text("type", "text"); kind {
	case "text":
	case "json_object":
		return talk.Format{Shape: talk.JSONObject}
	case "json_schema":
		if inner := f.Sub("json_schema"); inner != nil {
			f = inner
		}
		f.Require("schema")
		return talk.Format{Shape: talk.JSONSchema, Schema: f.RawObject("schema"), Strict: f.Bool("strict", false)}
	default:
		f.Refuse(f.At("type"), "must be one of text, json_object, json_schema, not "+strconv.Quote(fields.Clip(kind)))
	}
	return talk.Format{}
}
